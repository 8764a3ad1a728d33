"""Pictures of what a mode learns: frames side by side and sounds as spectrograms, a row for what was given and made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NUM_FRAMES = 5
SIDE, GAP, MARGIN = 96, 4, 48
SPECTRUM_HEIGHT = 64
HIGHEST_HZ = 3000
WINDOW_SECONDS, HOP_SECONDS = 0.04, 0.004
QUIETEST_DB = -50
INK, PAPER = (32, 32, 32), (255, 255, 255)


@dataclass(frozen=True)
class Shown:
    """One row of a picture.

    Attributes:
        name: Written beside it.
        frames: Uint8 `[f h w 3]`; None without pictures.
        samples: Stereo `[2 n]`; None without sound.
        rate_hz: Of the samples.
    """

    name: str
    frames: np.ndarray | None = None
    samples: np.ndarray | None = None
    rate_hz: int = 0


def draw_strip(path: Path, rows: Sequence[Shown]) -> None:
    """Write rows, each with the frames and the spectrogram that it has, as a PNG."""
    width = NUM_FRAMES * (SIDE + GAP) - GAP
    strips = [(row.name, strip) for row in rows for strip in _strips(row, width)]
    height = sum(strip.height + GAP for _, strip in strips) - GAP
    sheet = Image.new("RGB", (MARGIN + width, height), PAPER)
    pen, top, before = ImageDraw.Draw(sheet), 0, ""
    for name, strip in strips:
        sheet.paste(strip, (MARGIN, top))
        if name != before:
            pen.text((2, top + 2), name, fill=INK)
        top, before = top + strip.height + GAP, name
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _strips(row: Shown, width: int) -> list[Image.Image]:
    frames = [] if row.frames is None else [_film(row.frames, width)]
    sound = [] if row.samples is None else [_spectrogram(row.samples, row.rate_hz, width)]
    return frames + sound


def _film(frames: np.ndarray, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, SIDE), PAPER)
    for place, index in enumerate(np.linspace(0, len(frames) - 1, NUM_FRAMES).round().astype(int)):
        strip.paste(
            Image.fromarray(frames[index]).resize((SIDE, SIDE), Image.Resampling.NEAREST), (place * (SIDE + GAP), 0)
        )
    return strip


def _spectrogram(samples: np.ndarray, rate_hz: int, width: int) -> Image.Image:
    """Draw loudness over time and frequency, dark on light."""
    length, hop = int(WINDOW_SECONDS * rate_hz), int(HOP_SECONDS * rate_hz)
    windows = np.lib.stride_tricks.sliding_window_view(samples.mean(0), length)[::hop]
    spectrum = abs(np.fft.rfft(windows * np.hanning(length), n=4 * length))
    spectrum = spectrum[:, np.fft.rfftfreq(4 * length, 1 / rate_hz) < HIGHEST_HZ].T[::-1]
    loudness = 20 * np.log10(np.maximum(spectrum, 1e-6) / (length / 8))
    light = 255 * np.clip(loudness / QUIETEST_DB, 0, 1)
    return Image.fromarray(light.astype(np.uint8)).resize((width, SPECTRUM_HEIGHT)).convert("RGB")
