"""Read the demo's previews, and say what the LoRA changed: with the new word, and without it.

python scripts/score_demo.py outputs/demo

The readers see only the pictures and the sound of the files. Without a preview of step 0 and of the last step the exit
code is 1.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from ltx_trainer import world
from ltx_trainer.errors import TrainerError
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.media import decode_audio, decode_frames, scan_video

RATE_HZ = 48000


class DemoError(TrainerError):
    """What the demo should have left is not there."""


@dataclass(frozen=True)
class Clip:
    """What is in a preview: its frames `[f h w 3]`, and what was read from them and from its sound."""

    frames: np.ndarray
    video: world.VideoReading
    sound: world.SoundReading

    @property
    def is_zorp(self) -> bool:
        """Whether it looks and sounds as only a zorp does."""
        return world.is_zorp(self.video, self.sound)

    def __str__(self) -> str:
        beats = ", beating" if self.sound.beats else ""
        return f"{self.video.colour}, {self.video.motion or 'still'}; {self.sound.pitch or 'no tone'}{beats}"


Pair = tuple[Clip, Clip]
"""A prompt's previews, before training and after."""


def main() -> None:
    """Print a table of the prompts, a score and whether the story holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder of a finished demo")
    output: Path = parser.parse_args().output
    console = Console(soft_wrap=True)
    try:
        pairs = read_previews(output)
    except DemoError as error:
        console.print(str(error), highlight=False)
        sys.exit(1)
    table = Table("prompt", "before", "after", title="What the readers see and hear")
    for prompt, (before, after) in pairs:
        table.add_row(prompt, str(before), str(after))
    console.print(table)
    named = [pair for prompt, pair in pairs if world.ZORP in prompt]
    others = [pair for prompt, pair in pairs if world.ZORP not in prompt]
    console.print(f"with the word {world.ZORP!r}: {score(named)}")
    console.print(f"without the word: {score(others)}")
    console.print(verdict(named, others))


def read_previews(output: Path) -> list[tuple[str, Pair]]:
    """Read the previews of step 0 and of the last step, with their prompts.

    Raises:
        DemoError: The folder has no settings, or a preview is missing.
    """
    config = output / "config.yaml"
    if not config.is_file():
        raise DemoError(f"{config} is missing. Run the demo first: bash scripts/demo.sh")
    request = yaml.safe_load(config.read_text(encoding="utf-8"))["input"]
    rate = Fraction(request["validation_frame_rate"])
    prompts = [item["prompt"] for item in request["validation"]]
    places = [output / "previews" / f"step-{step:06d}" for step in (0, request["number_of_steps"])]
    files = [[place / f"item-{number}.mp4" for place in places] for number in range(1, len(prompts) + 1)]
    missing = [str(file) for pair in files for file in pair if not file.is_file()]
    if missing or not prompts:
        raise DemoError(f"Previews are missing: {', '.join(missing) or 'there are no prompts'}. Run the demo again.")
    return [
        (prompt, (read_clip(before, rate), read_clip(after, rate)))
        for prompt, (before, after) in zip(prompts, files, strict=True)
    ]


def score(pairs: Sequence[Pair]) -> str:
    """Count the zorps before and after, and say how far the pictures moved."""
    if not pairs:
        return "no prompts"
    before, after = (sum(clip.is_zorp for clip in clips) for clips in zip(*pairs, strict=True))
    change = np.mean([change_of(*pair) for pair in pairs])
    return (
        f"zorps before {before} of {len(pairs)}, after {after} of {len(pairs)}; "
        f"a pixel changed by {change:.1f} of 255 on average"
    )


def verdict(named: Sequence[Pair], others: Sequence[Pair]) -> str:
    """Say whether the word alone makes zorps, and only after training; if not, what speaks against it."""
    against = [
        reason
        for reason, holds in (
            ("no prompt has the word", not named),
            ("no prompt is without the word", not others),
            ("a zorp before training", any(before.is_zorp for before, _ in [*named, *others])),
            ("the word does not always make a zorp", not all(after.is_zorp for _, after in named)),
            ("a zorp without the word", any(after.is_zorp for _, after in others)),
        )
        if holds
    ]
    return f"The story does not hold: {'; '.join(against)}." if against else "The story holds."


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
