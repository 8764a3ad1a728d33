"""The seconds of a sound that are generated: whether they fit the sound, and which of them lie in a part of it."""

from collections.abc import Sequence
from fractions import Fraction

from ltx_trainer.artifacts import Range
from ltx_trainer.errors import DatasetError
from ltx_trainer.geometry import SoundGrid, num_audio_tokens
from ltx_trainer.prepare.lengths import SLACK_SECONDS, told


def check_ranges(name: str, ranges: Sequence[Range], duration_seconds: Fraction) -> None:
    """Refuse ranges that are not inside a sound, or that leave nothing of it kept.

    Args:
        name: Of the example.
        ranges: In order; none is no problem.
        duration_seconds: Of the sound.

    Raises:
        DatasetError: It names the example, the range and the duration.
    """
    problem = range_problem(ranges, duration_seconds)
    if problem is not None:
        raise DatasetError(f"{name}: {problem}")


def range_problem(ranges: Sequence[Range], duration_seconds: Fraction) -> str | None:
    """Say what is wrong with ranges of a sound; None if nothing is."""
    for begin, end in ranges:
        if not 0 <= begin < end <= duration_seconds + SLACK_SECONDS:
            return (
                f"the range [{told(begin)}, {told(end)}] is not inside the sound, which goes from 0 to "
                f"{told(duration_seconds)} s. A range begins before it ends, both inside."
            )
    if ranges_within(ranges, Fraction(0), duration_seconds) == ((Fraction(0), duration_seconds),):
        return (
            f"the ranges cover all {told(duration_seconds)} s of the sound, which leaves nothing kept. "
            "Make them shorter, or train t2a."
        )
    return None


def nothing_kept(ranges: Sequence[Range], duration_seconds: Fraction, grid: SoundGrid) -> str | None:
    """Say that ranges leave no token of a sound kept; None if they leave one.

    Args:
        ranges: In order, inside the sound.
        duration_seconds: Of the sound that the model is given.
        grid: Of the model.
    """
    num_tokens = num_audio_tokens(duration_seconds, grid.tokens_per_second)
    if any(grid.tokens_beside(ranges, num_tokens, duration_seconds)):
        return None
    return (
        f"the ranges leave no token of {told(1 / grid.tokens_per_second)} s of the sound's {told(duration_seconds)} s "
        "whole, so nothing would be kept. Make them shorter, or train t2a."
    )


def ranges_within(ranges: Sequence[Range], begin_seconds: Fraction, end_seconds: Fraction) -> tuple[Range, ...]:
    """Give the parts of ranges that lie in a span, in seconds from its begin, in order and joined where they meet."""
    parts: list[Range] = []
    for begin, end in sorted(ranges):
        first, last = max(begin, begin_seconds) - begin_seconds, min(end, end_seconds) - begin_seconds
        if first >= last:
            continue
        if parts and first <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(parts[-1][1], last))
        else:
            parts.append((first, last))
    return tuple(parts)
