"""The seconds of a sound that are generated: whether they fit the sound, and which of them lie in a part of it."""

from collections.abc import Sequence
from fractions import Fraction

from ltx_trainer.artifacts import Range
from ltx_trainer.errors import DatasetError
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
