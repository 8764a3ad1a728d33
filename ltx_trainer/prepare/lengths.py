"""Whether a file is long enough for a span, and which settings would do for one that is not."""

from fractions import Fraction

from ltx_trainer.conditions import Terms
from ltx_trainer.config import Request
from ltx_trainer.geometry import num_frames_within

SLACK_SECONDS = Fraction(1, 100)
"""What sound may lack of a span that has no frames: less than a token of any model."""

_SHORTEST_SECONDS = Fraction(1, 2)
_STEP_SECONDS = Fraction(1, 10)


def early_end(span_seconds: Fraction) -> Fraction:
    """Say how much earlier than the pictures a track, or the other file of a pair, may end: 0.25 s, at most a tenth."""
    return min(Fraction(1, 4), span_seconds / 10)


def frames_within(seconds: Fraction, span_seconds: Fraction, num_frames: int) -> int:
    """Count the frames that `seconds` hold, of which a span holds `num_frames`; half a frame may be missing."""
    return num_frames_within(seconds, num_frames / span_seconds)


def fitting_frames(num_frames: int, factor: int, request: Request, terms: Terms) -> int | None:
    """Give the largest count of frames that a file of `num_frames` would do for; None if none does.

    Args:
        num_frames: At the rate that is asked for.
        factor: Pixel frames of one latent frame.
        request: Says how many frames are given.
        terms: A reference that is slower takes fewer lengths, and an extension more than what is given.
    """
    step = factor * terms.reference_time
    fitting = (num_frames - 1) // step * step + 1
    extends = terms.prefix_frames or terms.suffix_frames
    return fitting if fitting > (request.conditioning_frames if extends else 1) else None


def fitting_seconds(seconds: Fraction, request: Request, terms: Terms) -> str | None:
    """Give the longest duration that a file of `seconds` would do for, in tenths; None if none does."""
    fitting = (seconds + SLACK_SECONDS) // _STEP_SECONDS * _STEP_SECONDS
    least = Fraction(0) if terms.kept_seconds is None else Fraction(str(request.conditioning_seconds))
    return told(fitting) if fitting >= _SHORTEST_SECONDS and fitting > least else None


def told(seconds: Fraction) -> str:
    """Write seconds for a message, to the millisecond."""
    return f"{round(float(seconds), 3):g}"
