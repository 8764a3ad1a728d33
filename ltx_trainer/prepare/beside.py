"""What is seen beside a clip's own pictures: references, masks, start images and keyframes, cut to the same span."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from ltx_trainer.artifacts import Example, Footage, LeftOut, MediaKind, Role, SourceFile
from ltx_trainer.conditions import Terms
from ltx_trainer.geometry import ClipShape, FrameSize, cover_margins
from ltx_trainer.media import VideoScan, Wish
from ltx_trainer.prepare.lengths import frames_within, told
from ltx_trainer.prepare.scans import Scans

BESIDE = (Role.REFERENCE, Role.MASK, Role.START)

Seen = VideoScan | FrameSize
"""A video, or the size of an image."""


def look_beside(example: Example, scans: Scans, terms: Terms) -> dict[Role, Seen]:
    """Scan the pictures beside a target.

    Args:
        example: Holds the files.
        scans: Of files.
        terms: Say the shape of a reference.

    Raises:
        MediaError: One of them cannot be read.
    """
    found: dict[Role, Seen] = {}
    for role in BESIDE:
        source = example.files.get(role)
        if source is None:
            continue
        is_image = source.kind is MediaKind.IMAGE
        wish = Wish(terms.reference_shape.size) if role is Role.REFERENCE else None
        found[role] = scans.image(source) if is_image else scans.video(source, find_cuts=False, wish=wish)
    return found


def cut_beside(
    name: str,
    example: Example,
    target: Footage,
    offset_seconds: Fraction,
    terms: Terms,
    scans: Mapping[Role, Seen],
    canvas: FrameSize,
) -> dict[Role, Footage] | LeftOut:
    """Cut what stands beside a target to the target's span, counted from each file's own first frame.

    Args:
        name: Of the clip.
        example: Holds the files.
        target: The target's pictures.
        offset_seconds: From the target's first frame to the begin of its span.
        terms: Say the shape of a reference, and which frames are keyframes.
        scans: From `look_beside`.
        canvas: The target's own size, which masks are stretched to, and of whose aspect the others are.

    Returns:
        Footage by role, or the reason to leave the clip out: a file is too short for it, or of another aspect.
    """
    footage = {role: keyframe_footage(target, frame) for role, frame in terms.keyframes}
    for role, scan in scans.items():
        source = example.files[role]
        begin = scan.start_seconds + offset_seconds if isinstance(scan, VideoScan) else Fraction(0)
        if role is Role.MASK:
            footage[role] = mask_footage(source, begin, target, canvas)
            continue
        span = target.span_seconds if role is Role.REFERENCE else target.span_seconds / target.shape.num_frames
        reason = _shortage(source, role, scan, offset_seconds, span, target)
        if reason is None:
            own = scan.size if isinstance(scan, VideoScan) else scan
            reason = other_aspect(f"{role} {source.name}", own, canvas, target.shape.size)
        if reason is not None:
            return LeftOut(name, reason)
        if role is Role.REFERENCE:
            footage[role] = reference_footage(source, begin, span, terms)
        else:
            # The very first frame is taken by its own time; a later one by the middle of the target's.
            footage[role] = still_footage(source, target.shape, begin, span if offset_seconds else Fraction(0))
    return footage


def reference_footage(source: SourceFile, begin_seconds: Fraction, span_seconds: Fraction, terms: Terms) -> Footage:
    """Take frames 0, S, 2 S, ... of a span that the target takes all frames of.

    Each stands in the middle of its part of a longer span, that of the reference, at the time of the target's frame.

    Args:
        source: A video.
        begin_seconds: Begin of the target's span, on the file's own clock.
        span_seconds: Length of the target's span.
        terms: Say the target's shape, and S.
    """
    assert terms.shape is not None, "references are seen"
    shape, step, num_frames = terms.reference_shape, terms.reference_time, terms.shape.num_frames
    lead = span_seconds * (step - 1) / (2 * num_frames)
    return Footage(source, begin_seconds - lead, span_seconds * step * shape.num_frames / num_frames, shape)


def other_aspect(beside: str, own: FrameSize, canvas: FrameSize, size: FrameSize) -> str | None:
    """Say that what stands beside a target loses other edges; None if both crops agree to a pixel of the target.

    Args:
        beside: What to call it.
        own: Its size.
        canvas: The target's own size.
        size: What the target becomes.
    """
    apart = (abs(one - other) for one, other in zip(cover_margins(own, size), cover_margins(canvas, size), strict=True))
    if max(apart) <= 1:
        return None
    return (
        f"is {canvas} and its {beside} {own}: at {size} they would lose other edges, and not show the same places. "
        "Give both one aspect ratio"
    )


def mask_footage(source: SourceFile, begin_seconds: Fraction, target: Footage, canvas: FrameSize) -> Footage:
    """Take a mask at the times of its target's frames; an image covers all of them."""
    if source.kind is MediaKind.IMAGE:
        return Footage(source, Fraction(0), Fraction(0), target.shape, canvas)
    return Footage(source, begin_seconds, target.span_seconds, target.shape, canvas)


def still_footage(
    source: SourceFile, shape: ClipShape, begin_seconds: Fraction = Fraction(0), span_seconds: Fraction = Fraction(0)
) -> Footage:
    """Take one picture of the size of a clip: an image, or the middle of a span of a video."""
    return Footage(source, begin_seconds, span_seconds, replace(shape, num_frames=1))


def keyframe_footage(target: Footage, frame: int) -> Footage:
    """Take one frame of a target, at the same time."""
    share = target.span_seconds / target.shape.num_frames
    return still_footage(target.source, target.shape, target.start_seconds + frame * share, share)


def _shortage(
    source: SourceFile, role: Role, scan: Seen, offset: Fraction, span: Fraction, target: Footage
) -> str | None:
    """Say what a file lacks of a span; None if it lacks nothing."""
    if not isinstance(scan, VideoScan):
        # An image is the first frame of the whole video, and no other scene's.
        return f"begins {told(offset)} s into its video, and its {role} {source.name} is an image" if offset else None
    num_frames = target.shape.num_frames if role is Role.REFERENCE else 1
    found = frames_within(scan.duration_seconds - offset, span, num_frames)
    if found >= num_frames:
        return None
    return (
        f"needs {num_frames} frames in {told(span)} s from {told(offset)} s on, and its {role} {source.name}, of "
        f"{told(scan.duration_seconds)} s, has {max(found, 0)}"
    )
