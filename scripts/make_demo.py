"""Write the zip that the demo trains on: coloured shapes that move, with a tone that follows them, and captions.

python scripts/make_demo.py outputs/demo.zip
"""

import argparse
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from ltx_trainer.media import write_video

FRAME_RATE = Fraction(24)
NUM_FRAMES = 30
SIDE = 128
RATE_HZ = 48000
COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 235)}
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}


def main() -> None:
    """Write one clip and one caption for every colour and direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    archive: Path = parser.parse_args().archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w") as members:
        for colour, rgb in COLOURS.items():
            for direction, step in DIRECTIONS.items():
                shape = "circle" if step[0] else "square"
                clip = Path(folder) / f"{colour}-{shape}-{direction}.mp4"
                frames, height = _moving_shape(shape, rgb, step)
                write_video(clip, frames, FRAME_RATE, audio=_tone(height), audio_rate_hz=RATE_HZ)
                # With a date of its own, so that the archive has the same bytes every time.
                members.writestr(zipfile.ZipInfo(clip.name), clip.read_bytes())
                caption = f"a {colour} {shape} moves {direction} on a grey background"
                members.writestr(zipfile.ZipInfo(f"{clip.stem}.txt"), caption)


def _moving_shape(shape: str, rgb: tuple[int, int, int], step: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames `[f h w 3]`, and give the height of the shape in each frame, from 0 (bottom) to 1 (top)."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    frames = np.full((NUM_FRAMES, SIDE, SIDE, 3), 110, np.uint8)
    travel = np.linspace(-0.3, 0.3, NUM_FRAMES)
    for frame, way in zip(frames, travel, strict=True):
        across, down = columns - SIDE * (0.5 + way * step[0]), rows - SIDE * (0.5 + way * step[1])
        inside = np.hypot(across, down) < 20 if shape == "circle" else np.maximum(abs(across), abs(down)) < 18
        frame[inside] = rgb
    return frames, 0.5 - travel * step[1]


def _tone(height: np.ndarray) -> np.ndarray:
    """Sing higher the higher the shape is `[2 n]`."""
    num_samples = int(NUM_FRAMES / FRAME_RATE * RATE_HZ)
    pitch_hz = 300 * 2 ** (2 * np.interp(np.linspace(0, 1, num_samples), np.linspace(0, 1, NUM_FRAMES), height))
    wave = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ)
    return np.stack([wave, wave]).astype(np.float32)


if __name__ == "__main__":
    main()
