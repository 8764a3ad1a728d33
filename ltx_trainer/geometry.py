"""Pixel and latent sizes, frame rates as fractions, and the rules between them.

A latent grid is causal in time: latent frame 0 covers pixel frame 0, and latent frame k >= 1 covers the
`factors.frames` pixel frames that end at pixel frame `factors.frames * k`.
"""

import math
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

    def num_audio_tokens(self, tokens_per_second: Fraction) -> int:
        """Count the audio tokens that go with the clip. Halves round to even, as in the model's own sampler."""
        return round(self.duration_seconds * tokens_per_second)


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


def num_frames_within(duration_seconds: Fraction, frame_rate: Fraction) -> int:
    """Count the frames at `frame_rate` whose midpoints lie inside a span.

    The midpoint rule gives back the exact count when source and target rates are equal, however the source's
    timestamps were rounded.
    """
    return max(0, math.ceil(duration_seconds * frame_rate - Fraction(1, 2)))


def midpoint_times(start_seconds: Fraction, span_seconds: Fraction, num_frames: int) -> tuple[Fraction, ...]:
    """Give the times at which `num_frames` equal parts of a span are sampled: the middle of each."""
    return tuple(start_seconds + span_seconds * Fraction(2 * index + 1, 2 * num_frames) for index in range(num_frames))
