"""Pixel and latent sizes, frame rates as fractions, and the rules between them.

A latent grid is causal in time: latent frame 0 covers pixel frame 0, and latent frame k >= 1 covers the
`factors.frames` pixel frames that end at pixel frame `factors.frames * k`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ltx_trainer.errors import GeometryError


@dataclass(frozen=True)
class ScaleFactors:
    """How many pixel frames, rows and columns one latent cell covers, as the video VAE's config says."""

    frames: int
    rows: int
    columns: int


@dataclass(frozen=True)
class FrameSize:
    """Width and height of a picture, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class LatentGrid:
    """How many latent frames, rows and columns a clip has."""

    frames: int
    rows: int
    columns: int

    @property
    def num_tokens(self) -> int:
        """One token for each cell."""
        return self.frames * self.rows * self.columns


@dataclass(frozen=True)
class ClipShape:
    """Length, size and rate of a clip in pixel space. A still image has one frame, at the run's rate."""

    num_frames: int
    size: FrameSize
    frame_rate: Fraction

    @property
    def duration_seconds(self) -> Fraction:
        """Time that the frames take on screen."""
        return self.num_frames / self.frame_rate

    def latent_grid(self, factors: ScaleFactors) -> LatentGrid:
        """Give the latent grid of the clip.

        Raises:
            GeometryError: The VAE cannot encode this length or size; the message names the nearest that it can.
        """
        check_num_frames(self.num_frames, factors.frames)
        for name, pixels, factor in (
            ("width", self.size.width, factors.columns),
            ("height", self.size.height, factors.rows),
        ):
            if pixels <= 0 or pixels % factor:
                below = max(1, pixels // factor) * factor
                raise GeometryError(
                    f"{name} {pixels} does not fit this model, which takes multiples of {factor}. "
                    f"Nearest: {below} or {below + factor}."
                )
        return LatentGrid(
            (self.num_frames - 1) // factors.frames + 1,
            self.size.height // factors.rows,
            self.size.width // factors.columns,
        )


def num_audio_tokens(duration_seconds: Fraction, tokens_per_second: Fraction) -> int:
    """Count the audio tokens that go with a length. Halves round to even, as in the model's own sampler."""
    return round(duration_seconds * tokens_per_second)


@dataclass(frozen=True)
class SoundGrid:
    """How sound is cut to tokens, causal in time.

    Token 0 covers hop 0, and token k >= 1 the `hops_per_token` hops that end with hop `hops_per_token * k`.

    Attributes:
        hops_per_second: Spectrogram frames in a second.
        hops_per_token: Spectrogram frames that a token covers.
    """

    hops_per_second: Fraction
    hops_per_token: int

    @property
    def tokens_per_second(self) -> Fraction:
        """Tokens in a second of sound."""
        return self.hops_per_second / self.hops_per_token

    def tokens_within(self, span: tuple[Fraction, Fraction], num_tokens: int, duration_seconds: Fraction) -> list[bool]:
        """Tell of each token whether it lies in a span of seconds with its whole interval.

        The last token stands for everything up to the end of the sound, so that a span that ends before it leaves at
        least that token out.

        Args:
            span: Begin and end.
            num_tokens: Of the sound.
            duration_seconds: Of the sound.
        """
        first, end = math.ceil(span[0] * self.hops_per_second), math.floor(span[1] * self.hops_per_second)
        ends = [index * self.hops_per_token + 1 for index in range(num_tokens)]
        within = [max(0, last - self.hops_per_token) >= first and last <= end for last in ends]
        if within and span[1] < duration_seconds:
            within[-1] = False
        return within

    def tokens_beside(
        self, ranges: Sequence[tuple[Fraction, Fraction]], num_tokens: int, duration_seconds: Fraction
    ) -> list[bool]:
        """Tell of each token whether it touches none of the ranges: it lies in one of the spans between them.

        Args:
            ranges: Begins and ends in seconds, in order, inside the sound.
            num_tokens: Of the sound.
            duration_seconds: Of the sound.
        """
        edges = [Fraction(0), *(second for span in ranges for second in span), duration_seconds]
        between = zip(edges[::2], edges[1::2], strict=True)
        spans = [self.tokens_within(span, num_tokens, duration_seconds) for span in between]
        return [any(span[index] for span in spans) for index in range(num_tokens)]


def check_num_frames(num_frames: int, factor: int) -> None:
    """Refuse a frame count that is not `factor * k + 1`.

    Raises:
        GeometryError: With the nearest counts that fit.
    """
    if num_frames < 1 or (num_frames - 1) % factor:
        below = max(0, (num_frames - 1) // factor) * factor + 1
        raise GeometryError(
            f"{num_frames} frames do not fit this model, which takes {factor} * k + 1. "
            f"Nearest: {below} or {below + factor}."
        )


@dataclass(frozen=True)
class CoverCrop:
    """Scale a picture until it covers the target, then cut the target out of its middle.

    Attributes:
        scaled: Size after scaling; at least the target in both directions.
        left: Columns cut off on the left.
        top: Rows cut off at the top.
    """

    scaled: FrameSize
    left: int
    top: int


def cover_crop(source: FrameSize, target: FrameSize) -> CoverCrop:
    """Find the smallest scale at which `source` covers `target`, and the centred crop."""
    scale = max(Fraction(target.width, source.width), Fraction(target.height, source.height))
    scaled = FrameSize(max(target.width, round(source.width * scale)), max(target.height, round(source.height * scale)))
    return CoverCrop(scaled, (scaled.width - target.width) // 2, (scaled.height - target.height) // 2)


def cover_margins(source: FrameSize, target: FrameSize) -> tuple[Fraction, Fraction]:
    """Give the columns and the rows of `target` that `cover_crop` cuts off on each side, before they are rounded."""
    scale = max(Fraction(target.width, source.width), Fraction(target.height, source.height))
    return (source.width * scale - target.width) / 2, (source.height * scale - target.height) / 2


def num_frames_within(duration_seconds: Fraction, frame_rate: Fraction) -> int:
    """Count the frames at `frame_rate` whose midpoints lie inside a span.

    The midpoint rule gives back the exact count when source and target rates are equal, however the source's
    timestamps were rounded.
    """
    return max(0, math.ceil(duration_seconds * frame_rate - Fraction(1, 2)))


def midpoint_times(start_seconds: Fraction, span_seconds: Fraction, num_frames: int) -> tuple[Fraction, ...]:
    """Give the times at which `num_frames` equal parts of a span are sampled: the middle of each."""
    return tuple(start_seconds + span_seconds * Fraction(2 * index + 1, 2 * num_frames) for index in range(num_frames))
