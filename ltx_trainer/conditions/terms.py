"""The conditions of a mode in numbers: which latent frames, cells and seconds are given in clips of one shape."""

from dataclasses import dataclass, replace
from fractions import Fraction

from ltx_trainer.artifacts import KEYFRAMES, Role
from ltx_trainer.config import MAX_REFERENCE_FACTOR, Request
from ltx_trainer.errors import GeometryError
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from ltx_trainer.modes import Condition, Mode, Presence


@dataclass(frozen=True)
class Cells:
    """A rectangle of latent cells, ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    def corners(self, factors: ScaleFactors) -> tuple[tuple[int, int], tuple[int, int]]:
        """Give `(x, y)` in pixels of the corner at the top left, and of the one right of and below the last pixel."""
        return (
            (self.left * factors.columns, self.top * factors.rows),
            (self.right * factors.columns, self.bottom * factors.rows),
        )


@dataclass(frozen=True)
class Terms:
    """What is given of clips of one shape.

    Attributes:
        shape: Of the pictures; None in a mode without video.
        duration_seconds: Of the clip.
        frozen: Streams that are given whole: `video`, `audio` or none.
        prefix_frames: Latent frames given at the begin.
        suffix_frames: Latent frames given at the end.
        kept_seconds: Span of the sound that is given; None if none is, or if ranges of each clip's own say it.
        kept_cells: Cells that are given in every latent frame; None if none are.
        keyframes: Pixel frames that are given as tokens of their own, by role.
        reference_space: How many times smaller a reference is in width and in height.
        reference_time: Of how many frames a reference has one.
    """

    shape: ClipShape | None
    duration_seconds: Fraction
    frozen: frozenset[str] = frozenset()
    prefix_frames: int = 0
    suffix_frames: int = 0
    kept_seconds: tuple[Fraction, Fraction] | None = None
    kept_cells: Cells | None = None
    keyframes: tuple[tuple[Role, int], ...] = ()
    reference_space: int = 1
    reference_time: int = 1

    @property
    def reference_shape(self) -> ClipShape:
        """Of a video reference: frame 0 and then every `reference_time`-th, each `reference_space` times smaller."""
        assert self.shape is not None, "asked of a mode with video"
        size = self.shape.size
        return ClipShape(
            (self.shape.num_frames - 1) // self.reference_time + 1,
            FrameSize(size.width // self.reference_space, size.height // self.reference_space),
            self.shape.frame_rate / self.reference_time,
        )


def terms_of(
    mode: Mode,
    request: Request,
    factors: ScaleFactors,
    shape: ClipShape | None,
    *,
    trained_size: FrameSize | None,
) -> Terms:
    """Settle the conditions of a mode for clips of one shape.

    Args:
        mode: Of the run.
        request: Holds the lengths, the rectangle and the factors.
        factors: Of the model's video VAE.
        shape: Of the clips; None in a mode without video.
        trained_size: Size of the training clips, which the kept rectangle is given in; scaled if the clips' is another.

    Raises:
        GeometryError: A length, the rectangle or a factor does not fit the shape; the message says what would.
    """
    frozen = frozenset(
        name for name, presence in (("video", mode.video), ("audio", mode.audio)) if presence is Presence.FROZEN
    )
    if shape is None:
        duration = _exact(request.audio_duration_seconds)
        kept = _kept_span(mode, _exact(request.conditioning_seconds), duration)
        return Terms(None, duration, frozen, kept_seconds=kept)
    _check_length(mode, shape)
    terms = Terms(shape, shape.duration_seconds, frozen)
    if Condition.PREFIX in mode.conditions or Condition.SUFFIX in mode.conditions:
        terms = _extension(terms, shape, mode, request, factors)
    if Condition.RECTANGLE in mode.conditions:
        terms = replace(terms, kept_cells=_kept_cells(request, factors, shape, trained_size or shape.size))
    if Condition.KEYFRAMES in mode.conditions:
        terms = replace(terms, keyframes=_keyframes(request, shape))
    if Condition.REFERENCE in mode.conditions:
        space, time = request.reference_downscale_factor, request.reference_temporal_scale_factor
        _check_factors(space, time, factors, shape)
        terms = replace(terms, reference_space=space, reference_time=time)
    return terms


def _exact(seconds: float) -> Fraction:
    """Take a number of seconds as it was written, not as it is stored."""
    return Fraction(str(seconds))


def _check_length(mode: Mode, shape: ClipShape) -> None:
    given = {field.role for field in mode.item_fields if field.required}
    if shape.num_frames == 1 and given.intersection((Role.START, *KEYFRAMES)):
        raise GeometryError(f"a clip of 1 frame leaves {mode.name} nothing to generate. 9 frames work.")


def _kept_span(mode: Mode, kept: Fraction, duration: Fraction) -> tuple[Fraction, Fraction] | None:
    """Give the seconds of a clip that a mode keeps, at its begin or at its end."""
    if Condition.PREFIX in mode.conditions:
        return Fraction(0), kept
    if Condition.SUFFIX in mode.conditions:
        return duration - kept, duration
    return None


def _extension(terms: Terms, shape: ClipShape, mode: Mode, request: Request, factors: ScaleFactors) -> Terms:
    count = request.conditioning_frames
    if count >= shape.num_frames:
        raise GeometryError(
            f"conditioning_frames {count} leaves nothing of {shape.num_frames} frames to generate. "
            f"It must be less than {shape.num_frames}."
        )
    kept = replace(terms, kept_seconds=_kept_span(mode, count / shape.frame_rate, terms.duration_seconds))
    if Condition.PREFIX in mode.conditions:
        return replace(kept, prefix_frames=(count - 1) // factors.frames + 1)
    return replace(kept, suffix_frames=count // factors.frames)


def _kept_cells(request: Request, factors: ScaleFactors, shape: ClipShape, trained: FrameSize) -> Cells:
    """Snap the kept rectangle inward to whole cells; in clips of another size, what it is snapped to, scaled."""
    assert request.crop_top_left is not None, "required by the mode"
    assert request.crop_bottom_right is not None, "required by the mode"
    (left, top), (right, bottom) = request.crop_top_left, request.crop_bottom_right
    if not (0 <= left < right <= trained.width and 0 <= top < bottom <= trained.height):
        raise GeometryError(
            f"the kept rectangle from {[left, top]} to {[right, bottom]} is not inside the {trained} training frame. "
            f"x goes from 0 to {trained.width}, y from 0 to {trained.height}, and the second corner lies right of and "
            "below the first."
        )
    cells = _cells_within(left, top, right, bottom, factors)
    if shape.size != trained:
        (left, top), (right, bottom) = cells.corners(factors)
        across, down = Fraction(shape.size.width, trained.width), Fraction(shape.size.height, trained.height)
        cells = _cells_within(left * across, top * down, right * across, bottom * down, factors)
    if cells.top >= cells.bottom or cells.left >= cells.right:
        raise GeometryError(
            f"the kept rectangle from {[left, top]} to {[right, bottom]} holds no whole cell of "
            f"{factors.columns}x{factors.rows} pixels at {shape.size}. Make it larger."
        )
    if (cells.top, cells.left) == (0, 0) and (
        (cells.bottom, cells.right) == (shape.size.height // factors.rows, shape.size.width // factors.columns)
    ):
        raise GeometryError("the kept rectangle is the whole frame, which leaves nothing to generate. Make it smaller.")
    return cells


def _cells_within(
    left: Fraction | int, top: Fraction | int, right: Fraction | int, bottom: Fraction | int, factors: ScaleFactors
) -> Cells:
    """Give the whole cells of a rectangle in pixels."""
    return Cells(
        top=int(-(-top // factors.rows)),
        bottom=int(bottom // factors.rows),
        left=int(-(-left // factors.columns)),
        right=int(right // factors.columns),
    )


def _keyframes(request: Request, shape: ClipShape) -> tuple[tuple[Role, int], ...]:
    last = shape.num_frames - 1
    frames = dict(zip(KEYFRAMES, (0, last // 2, last), strict=True))
    if not request.include_middle_keyframe:
        del frames[Role.MIDDLE_KEYFRAME]
    return tuple(frames.items())


def _check_factors(space: int, time: int, factors: ScaleFactors, shape: ClipShape) -> None:
    size, groups = shape.size, (shape.num_frames - 1) // factors.frames
    spaces = [
        number
        for number in range(1, MAX_REFERENCE_FACTOR + 1)
        if size.width % (number * factors.columns) == 0 and size.height % (number * factors.rows) == 0
    ]
    if space not in spaces:
        raise GeometryError(
            f"reference_downscale_factor {space} does not divide {size} into multiples of "
            f"{factors.columns}x{factors.rows}. Possible: {_listed(spaces)}."
        )
    # One frame has no groups, which any number would divide.
    times = [number for number in range(1, MAX_REFERENCE_FACTOR + 1) if groups % number == 0] if groups else [1]
    if time not in times:
        raise GeometryError(
            f"reference_temporal_scale_factor {time} does not divide the {groups} groups of {factors.frames} frames "
            f"in {shape.num_frames} frames. Possible: {_listed(times)}."
        )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
