"""Small drawings of the dataset page, as numbers for inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ltx_trainer.survey import PEAK_STEP, Waveform

WAVE_HEIGHT = 40
"""Of a waveform's drawing; its width is its number of peaks."""

MAX_BARS = 12
"""Of a histogram."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        label: What it counts, with its unit.
        count: How many.
        share: Of the highest bar, 0 to 1.
    """

    label: str
    count: int
    share: float


@dataclass(frozen=True)
class Histogram:
    """How values are spread.

    Attributes:
        title: What is counted.
        bars: From the smallest value to the largest, empty ones in between included.
        first: The smallest edge, with its unit.
        last: The largest edge, with its unit.
    """

    title: str
    bars: tuple[Bar, ...]
    first: str
    last: str


def wave_outline(waveform: Waveform, gain: float) -> str:
    """Give the outline of a sound, after its gain, as the path of a filled shape; full scale fills the height."""
    middle = WAVE_HEIGHT / 2
    # Silence is a line too.
    heights = [max(0.5, min(1.0, peak * PEAK_STEP * gain) * middle) for peak in waveform.peaks]
    above = [f"{place} {middle - height:.1f}" for place, height in enumerate(heights)]
    below = [f"{place} {middle + height:.1f}" for place, height in reversed(list(enumerate(heights)))]
    return f"M{'L'.join([*above, *below])}Z"


def histogram(title: str, values: Sequence[float], unit: str) -> Histogram | None:
    """Count values in bars of a round width, equal ones in one row; None without values.

    Args:
        title: What is counted.
        values: Finite numbers.
        unit: Stands after every number.
    """
    if not values:
        return None
    low, high = min(values), max(values)
    if _told(low) == _told(high):
        return ranked(title, [f"{_told(low)} {unit}"] * len(values))
    width = _round_width((high - low) / MAX_BARS)
    first = math.floor(low / width)
    counts = [0] * (math.floor(high / width) - first + 1)
    for value in values:
        counts[math.floor(value / width) - first] += 1
    bars = tuple(
        Bar(
            f"{_told((first + place) * width)} to {_told((first + place + 1) * width)} {unit}",
            count,
            count / max(counts),
        )
        for place, count in enumerate(counts)
    )
    return Histogram(title, bars, f"{_told(first * width)} {unit}", f"{_told((first + len(counts)) * width)} {unit}")


def ranked(title: str, names: Sequence[str]) -> Histogram | None:
    """Count names, the most frequent first; None without names."""
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    if not counts:
        return None
    most = max(counts.values())
    rows = sorted(counts.items(), key=lambda row: -row[1])
    bars = [Bar(name, count, count / most) for name, count in rows[:MAX_BARS]]
    if rest := rows[MAX_BARS:]:
        number = sum(count for _, count in rest)
        bars.append(Bar(f"{len(rest)} others", number, min(1.0, number / most)))
    return Histogram(title, tuple(bars), "", "")


def _round_width(least: float) -> float:
    """Give the smallest of 1, 2 and 5 times a power of ten that is not below `least`, at least 0.1."""
    if least <= 0.1:
        return 0.1
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _told(number: float) -> str:
    return f"{round(number, 2):g}"
