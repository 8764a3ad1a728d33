"""Ranges of seconds, as a request and a file beside a sound write them: `[[1.0, 2.0], [3.5, 4.0]]`."""

import sys
from fractions import Fraction
from itertools import pairwise

from ltx_trainer.artifacts import Range

EXAMPLE = "[[1.0, 2.0], [3.5, 4.0]]"


def parse_ranges(value: object) -> tuple[Range, ...]:
    """Read ranges of seconds: at least one, none empty, none before 0, no two that overlap.

    Args:
        value: As JSON or YAML gives it.

    Returns:
        The ranges in the order of time, their numbers as they were written.

    Raises:
        ValueError: It is something else; the message says what is wrong and what would work.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"is no list of [begin, end] in seconds, such as {EXAMPLE}")  # noqa: TRY004 - pydantic's
    if not value:
        raise ValueError(f"is empty, and at least one range is needed, such as {EXAMPLE}")
    ranges = sorted(_range(item) for item in value)
    for (begin, end), (next_begin, next_end) in pairwise(ranges):
        if next_begin < end:
            raise ValueError(
                f"{_told(begin, end)} and {_told(next_begin, next_end)} overlap; one of them, "
                f"{_told(begin, max(end, next_end))}, would do"
            )
    return tuple(ranges)


def _range(item: object) -> Range:
    match item:
        case [int() | float() as first, int() | float() as second] if _is_number(first) and _is_number(second):
            begin, end = Fraction(str(first)), Fraction(str(second))
        case _:
            raise ValueError(f"{item!r} is not a range, which is [begin, end] in seconds; such as {EXAMPLE}")
    if begin == end:
        raise ValueError(f"{_told(begin, end)} is empty; a range ends after it begins")
    if begin > end:
        raise ValueError(f"{_told(begin, end)} ends before it begins; {_told(end, begin)} would work")
    if begin < 0:
        raise ValueError(f"{_told(begin, end)} begins before 0, where a sound begins")
    return begin, end


def _is_number(value: float) -> bool:
    """Tell a finite number; an integer that no float holds is none."""
    return not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _told(begin: Fraction, end: Fraction) -> str:
    return str([float(begin), float(end)])
