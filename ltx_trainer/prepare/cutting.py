"""Which span of a source becomes which clip: scenes, and the frames that fit."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from ltx_trainer.artifacts import Example, Footage, LeftOut, MediaKind, Role
from ltx_trainer.config import Request
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ClipShape, num_frames_within
from ltx_trainer.media import VideoScan
from ltx_trainer.prepare.scans import Scans

MIN_FRAMES_TO_SCALE = 2
"""One frame has no motion to stretch."""


@dataclass(frozen=True)
class Take:
    """The pictures of one future clip.

    Attributes:
        name: The example's name, with the scene's number where a video was split.
        example: Where they come from.
        footage: Of the target.
    """

    name: str
    example: Example
    footage: Footage


@dataclass(frozen=True)
class Cutting:
    """How sources are cut.

    Attributes:
        request: Says whether to split and to scale.
        shape: What a video becomes.
        frames_factor: Pixel frames of one latent frame; lengths are `factor * k + 1`.
    """

    request: Request
    shape: ClipShape
    frames_factor: int


def cut_example(cutting: Cutting, example: Example, scans: Scans) -> list[Take | LeftOut]:
    """Cut one example to takes, each of which is used or left out for a reason; all of a file that cannot be read."""
    source = example.files[Role.TARGET]
    try:
        if source.kind is MediaKind.IMAGE:
            scans.image(source)
            still = replace(cutting.shape, num_frames=1)
            return [Take(example.name, example, Footage(source, Fraction(0), Fraction(0), still))]
        scan = scans.video(source, find_cuts=cutting.request.split_input_into_scenes)
    except MediaError as error:
        return [LeftOut(example.name, str(error))]
    return [_fit(cutting, example, scan, span) for span in _scenes(cutting.request, example.name, scan)]


@dataclass(frozen=True)
class _Span:
    name: str
    start_seconds: Fraction
    duration_seconds: Fraction


def _scenes(request: Request, name: str, scan: VideoScan) -> list[_Span]:
    """Split a long video at its cuts; a short one, or one without cuts, is one span of its own name."""
    long = scan.duration_seconds > request.split_input_duration_threshold
    if not (request.split_input_into_scenes and long and scan.cuts):
        return [_Span(name, scan.start_seconds, scan.duration_seconds)]
    edges = (scan.start_seconds, *scan.cuts, scan.start_seconds + scan.duration_seconds)
    return [
        _Span(f"{name}#scene-{number:03d}", start, end - start)
        for number, (start, end) in enumerate(pairwise(edges), start=1)
    ]


def _fit(cutting: Cutting, example: Example, scan: VideoScan, span: _Span) -> Take | LeftOut:
    """Take the whole span if it is scaled in time, else its first frames, if there are enough."""
    source, shape = example.files[Role.TARGET], cutting.shape
    own_frames = _own_frames(scan, span)
    if cutting.request.auto_scale_input:
        if own_frames < MIN_FRAMES_TO_SCALE:
            reason = f"has {own_frames} frames of its own, {MIN_FRAMES_TO_SCALE} are needed to scale it in time"
            return LeftOut(span.name, reason)
        return Take(span.name, example, Footage(source, span.start_seconds, span.duration_seconds, shape))
    num_frames = num_frames_within(span.duration_seconds, shape.frame_rate)
    if num_frames < shape.num_frames:
        reason = f"has {num_frames} frames at {shape.frame_rate} fps, {shape.num_frames} are needed"
        return LeftOut(span.name, reason + _remedy(num_frames, own_frames, cutting.frames_factor))
    return Take(span.name, example, Footage(source, span.start_seconds, shape.duration_seconds, shape))


def _own_frames(scan: VideoScan, span: _Span) -> int:
    """Count the source's frames in a span: exactly for a whole video, by the average rate for a scene."""
    if span.duration_seconds == scan.duration_seconds:
        return scan.num_frames
    return num_frames_within(span.duration_seconds, scan.num_frames / scan.duration_seconds)


def _remedy(num_frames: int, own_frames: int, factor: int) -> str:
    """Name the settings that would keep a clip that is too short."""
    fitting = (num_frames - 1) // factor * factor + 1
    remedies = [f"number_of_frames {fitting}"] if fitting > 1 else []
    if own_frames >= MIN_FRAMES_TO_SCALE:
        remedies.append("auto_scale_input")
    return f"; {' or '.join(remedies)} would keep it" if remedies else ""
