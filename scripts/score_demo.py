"""Read the demo's previews, and say what the LoRA changed: with the new word, and without it.

python scripts/score_demo.py outputs/demo

The readers see only the pictures and the sound of the files; a silent clip is judged by its pictures. The exit status
is 1 where there is nothing to read: no settings, no validation items, no preview of step 0 or of the last step, or one
that cannot be decoded. It is 0 where the story does not hold: the demo has run.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ltx_trainer import world
from ltx_trainer.config import load_settings
from ltx_trainer.errors import ConfigError, MediaError, TrainerError
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.media import decode_audio, decode_frames, scan_audio, scan_video

RATE_HZ = 48000


class DemoError(TrainerError):
    """What the demo should have left is not there."""


@dataclass(frozen=True)
class Clip:
    """What is in a preview: its frames `[f h w 3]`, what was read from them, and from its sound if it has any."""

    frames: np.ndarray
    video: world.VideoReading
    sound: world.SoundReading | None

    @property
    def is_zorp(self) -> bool:
        """Whether it looks and, unless it is silent, sounds as only a zorp does."""
        return world.is_zorp(self.video, self.sound)

    def __str__(self) -> str:
        return f"{self.video.colour}, {self.video.motion or 'still'}; {_described(self.sound)}"


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
        # In one line, whatever number of lines the settings' problems have.
        console.print(" ".join(str(error).split()), highlight=False, markup=False)
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
        DemoError: The folder has no settings or no validation items, or a preview is missing or cannot be decoded.
    """
    config = output / "config.yaml"
    if not config.is_file():
        raise DemoError(f"{config} is missing. Run the demo first: bash scripts/demo.sh")
    try:
        settings = load_settings(config)
    except ConfigError as error:
        raise DemoError(str(error)) from error
    request = settings.input
    if not request.validation:
        raise DemoError(f"{config} has no validation items, so there are no previews. Add some and run the demo again.")
    rate = Fraction(settings.preview_rate)
    prompts = [item.prompt for item in request.validation]
    places = [output / "previews" / f"step-{step:06d}" for step in (0, request.number_of_steps)]
    files = [[place / f"item-{number}.mp4" for place in places] for number in range(1, len(prompts) + 1)]
    missing = [str(file) for pair in files for file in pair if not file.is_file()]
    if missing:
        raise DemoError(f"Previews are missing: {', '.join(missing)}. Run the demo again.")
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
    """Say whether the word alone makes zorps, only after training, and little else changes; if not, what is against it.

    A clip without the word stays what it was if the readers see and hear the same in it, and if its pixels change by no
    more than those of the clips with the word do on average.
    """
    most = np.mean([change_of(*pair) for pair in named]) if named else np.inf
    against = [
        reason
        for reason, holds in (
            ("no prompt has the word", not named),
            ("no prompt is without the word", not others),
            ("a zorp before training", any(before.is_zorp for before, _ in [*named, *others])),
            ("the word does not always make a zorp", not all(after.is_zorp for _, after in named)),
            ("a zorp without the word", any(after.is_zorp for _, after in others)),
            ("a clip without the word is read otherwise than before", any(read_otherwise(*pair) for pair in others)),
            (
                "a clip without the word changes more than those with it",
                any(change_of(*pair) > most for pair in others),
            ),
        )
        if holds
    ]
    return f"The story does not hold: {'; '.join(against)}." if against else "The story holds."


def read_otherwise(before: Clip, after: Clip) -> bool:
    """Tell whether two clips differ in colour or motion, or whether the tone turned from rising to falling or back."""
    seen = {(clip.video.colour, clip.video.motion) for clip in (before, after)}
    heard = {clip.sound.pitch for clip in (before, after) if clip.sound is not None}
    return len(seen) > 1 or {"rises", "falls"} <= heard


def change_of(before: Clip, after: Clip) -> float:
    """Give the mean difference of two clips, in 255ths of a channel's range."""
    return float(abs(before.frames.astype(float) - after.frames).mean())


def read_clip(file: Path, rate: Fraction) -> Clip:
    """Decode a preview and read it.

    Raises:
        DemoError: It cannot be decoded.
    """
    try:
        scan = scan_video(file, find_cuts=False)
        seconds = scan.num_frames / rate
        frames = decode_frames(file, midpoint_times(Fraction(0), seconds, scan.num_frames), scan.size)
        sound = _read_sound(file, seconds)
    except MediaError as error:
        raise DemoError(f"{file.parent}: {error}") from error
    return Clip(frames, world.read_video(frames), sound)


def _read_sound(file: Path, seconds: Fraction) -> world.SoundReading | None:
    if scan_audio(file, rate_hz=RATE_HZ) is None:
        return None
    samples = decode_audio(file, start_seconds=Fraction(0), span_seconds=seconds, rate_hz=RATE_HZ)
    return world.read_sound(samples, RATE_HZ)


def _described(sound: world.SoundReading | None) -> str:
    if sound is None:
        return "no sound"
    return f"{sound.pitch or 'no tone'}{', beating' if sound.beats else ''}"


if __name__ == "__main__":
    main()
