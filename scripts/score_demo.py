"""Read the demo's previews, and say what the LoRA changed: with the new word, and without it.

python scripts/score_demo.py outputs/demo

The readers see only the pictures and the sound of the files.
"""

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from ltx_trainer import world
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.media import decode_audio, decode_frames, scan_video

RATE_HZ = 48000


@dataclass(frozen=True)
class Clip:
    """What is in a preview: its frames `[f h w 3]`, and what was read from them and from its sound."""

    frames: np.ndarray
    video: world.VideoReading
    sound: world.SoundReading

    @property
    def is_zorp(self) -> bool:
        """Whether it looks and sounds as only a zorp does."""
        return self.video.colour == world.ZORP_COLOUR and self.sound.beats

    def __str__(self) -> str:
        beats = ", beating" if self.sound.beats else ""
        return f"{self.video.colour}, {self.video.motion or 'still'}; {self.sound.pitch or 'no tone'}{beats}"


def main() -> None:
    """Print a table of the prompts and a score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder of a finished demo")
    output: Path = parser.parse_args().output
    request = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))["input"]
    first, *_, last = sorted((output / "previews").glob("step-*"))
    rate = Fraction(request["validation_frame_rate"])
    prompts = [item["prompt"] for item in request["validation"]]
    pairs = [
        tuple(read_clip(step / f"item-{number}.mp4", rate) for step in (first, last))
        for number in range(1, len(prompts) + 1)
    ]
    table = Table("prompt", "before", "after", title="What the readers see and hear")
    for prompt, (before, after) in zip(prompts, pairs, strict=True):
        table.add_row(prompt, str(before), str(after))
    console = Console()
    console.print(table)
    for says_word, what in ((True, f"with the word {world.ZORP!r}"), (False, "without the word")):
        chosen = [pair for prompt, pair in zip(prompts, pairs, strict=True) if (world.ZORP in prompt) == says_word]
        counts = [sum(clip.is_zorp for clip in clips) for clips in zip(*chosen, strict=True)]
        change = np.mean([change_of(before, after) for before, after in chosen])
        console.print(
            f"{what}: zorps before {counts[0]} of {len(chosen)}, after {counts[1]} of {len(chosen)}; "
            f"a pixel changed by {change:.1f} of 255 on average"
        )


def read_clip(file: Path, rate: Fraction) -> Clip:
    """Decode a preview and read it."""
    scan = scan_video(file, find_cuts=False)
    seconds = scan.num_frames / rate
    frames = decode_frames(file, midpoint_times(Fraction(0), seconds, scan.num_frames), scan.size)
    samples = decode_audio(file, start_seconds=Fraction(0), span_seconds=seconds, rate_hz=RATE_HZ)
    return Clip(frames, world.read_video(frames), world.read_sound(samples, RATE_HZ))


def change_of(before: Clip, after: Clip) -> float:
    """Give the mean difference of two clips, in 255ths of a channel's range."""
    return float(abs(before.frames.astype(float) - after.frames).mean())


if __name__ == "__main__":
    main()
