"""The validation items of a request, their inputs found and looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from ltx_trainer import media
from ltx_trainer.artifacts import Footage, MediaKind, Preview, Range, Role, Soundtrack, SourceFile
from ltx_trainer.conditions import Terms
from ltx_trainer.config import REQUEST_FRAMES_FACTOR, AudioSection, PreviewItem, Request
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import ConfigError, MediaError, counted
from ltx_trainer.geometry import ClipShape, SoundGrid, num_frames_within
from ltx_trainer.media import AudioScan, VideoScan
from ltx_trainer.modes import KINDS, Condition, ItemField, Mode, Presence
from ltx_trainer.prepare.beside import mask_footage, other_aspect, reference_footage, still_footage
from ltx_trainer.prepare.lengths import SLACK_SECONDS, early_end, fitting_frames, fitting_seconds, told
from ltx_trainer.prepare.ranges import nothing_kept, range_problem, ranges_within
from ltx_trainer.prepare.scans import Scans
from ltx_trainer.prepare.sound import check_model, gain_of

_ARTICLES = {MediaKind.IMAGE: "an image", MediaKind.VIDEO: "a video", MediaKind.AUDIO: "a sound"}


class Finder(Protocol):
    """Gives the file that a source stands for."""

    def __call__(self, source: str, *, what: str) -> Path:
        """Give its path; `what` names the field for messages."""
        ...


def prepare_previews(
    request: Request,
    mode: Mode,
    terms: Terms,
    find: Finder,
    folder: Path,
    *,
    audio: AudioSection,
    audio_rate_hz: int | None,
    sound_grid: SoundGrid | None,
) -> tuple[Preview, ...]:
    """Say what will be rendered, in the order of the request, and what is given of it.

    An extension's input that is shorter than the preview is held, and its sound padded with silence, on the side that
    is generated. Every other input is at least as long as the preview. The first frames or seconds are taken, of an
    input that is extended to the front the last.

    Args:
        request: Holds the validation items.
        mode: Says what each field of an item is.
        terms: Of every preview.
        find: Gives the file of a field.
        folder: Of the scans, shared by all runs.
        audio: Says which level sound is brought to.
        audio_rate_hz: Sample rate of the model; None if it has no sound.
        sound_grid: Its tokens; None if it has no sound.

    Raises:
        ConfigError: An input is not there, or too short; a range is not inside its sound, or nothing is kept beside
            them; a reference has another aspect than its video; the model has no sound.
        DatasetError: An input cannot be fetched.
        MediaError: An input is not what its field takes, or has no sound where it is needed.
    """
    check_model(mode, audio_rate_hz)
    desk = _Desk(request, audio, mode, terms, find, Scans(folder), audio_rate_hz, sound_grid)
    return tuple(_preview(desk, item, index) for index, item in enumerate(request.validation))


def settle_previews(previews: Sequence[Preview], mode: Mode, *, with_audio: bool) -> tuple[Preview, ...]:
    """Take away the sound that is given to previews of a silent run, and refuse one that lacks it in a run with sound.

    Args:
        previews: From `prepare_previews`.
        mode: Of the run. Only those that have sound if the clips do are looked at.
        with_audio: Whether the clips have sound.

    Raises:
        MediaError: An item's video has no audio track.
    """
    if mode.audio is not Presence.GENERATED_IF_SOUND:
        return tuple(previews)
    if not with_audio:
        return tuple(replace(preview, soundtrack={}) for preview in previews)
    for index, preview in enumerate(previews):
        if Role.TARGET in preview.footage and Role.TARGET not in preview.soundtrack:
            raise MediaError(
                f"input.validation.{index}.video_url: {preview.footage[Role.TARGET].source.name} has no audio track, "
                "and the clips are trained with sound. Give it one, or set with_audio to false."
            )
    return tuple(previews)


@dataclass(frozen=True)
class _Desk:
    """What every item is looked at with."""

    request: Request
    audio: AudioSection
    mode: Mode
    terms: Terms
    find: Finder
    scans: Scans
    rate_hz: int | None
    sound_grid: SoundGrid | None


@dataclass(frozen=True)
class _Input:
    """One file of an item.

    Attributes:
        field: The field's full name, for messages.
        role: What it is to the item.
        source: The file.
        scan: Of a video; None of an image and of a sound.
    """

    field: str
    role: Role
    source: SourceFile
    scan: VideoScan | None = None


def _preview(desk: _Desk, item: PreviewItem, index: int) -> Preview:
    """Look at every file of an item, and at its ranges."""
    seen: dict[Role, _Input] = {}
    soundtrack: dict[Role, Soundtrack] = {}
    ranges: tuple[Range, ...] = ()
    for field in desk.mode.item_fields:
        given, name = getattr(item, field.name), f"input.validation.{index}.{field.name}"
        if given is None:
            continue
        if MediaKind.RANGES in field.kinds:
            ranges = _ranges(desk, name, item.exact_ranges)
        elif MediaKind.AUDIO in field.kinds:
            # A sound that drives a video is the sound of that video.
            role = Role.TARGET if field.role is Role.SOUND else field.role
            soundtrack[role] = _own_sound(desk, field, name, given)
        else:
            seen[field.role] = _picture(desk, field, name, given)
    shape = desk.terms.shape
    footage = {} if shape is None else _footage(desk, shape, seen)
    soundtrack = {**_sound_of_videos(desk, seen, footage, soundtrack), **soundtrack}
    sources = desk.scans.facts_of([*footage.values(), *soundtrack.values()])
    return Preview(item.prompt, shape, desk.terms.duration_seconds, footage, soundtrack, ranges, sources)


def _ranges(desk: _Desk, name: str, ranges: Sequence[Range]) -> tuple[Range, ...]:
    duration = desk.terms.duration_seconds
    assert desk.sound_grid is not None, "checked at the begin"
    within = ranges_within(ranges, Fraction(0), duration)
    problem = range_problem(ranges, duration) or nothing_kept(within, duration, desk.sound_grid)
    if problem is not None:
        raise ConfigError(f"{name}: {problem}")
    return within


def _picture(desk: _Desk, field: ItemField, name: str, given: str) -> _Input:
    """Find the video or image of a field, and scan it as what it is."""
    path = _found(desk, field, name, given)
    digest = file_sha256(path)
    video = SourceFile(path.name, path, digest, MediaKind.VIDEO)
    image = SourceFile(path.name, path, digest, MediaKind.IMAGE)
    try:
        if MediaKind.IMAGE in field.kinds and _is_image(desk, image, field):
            return _Input(name, field.role, image)
        return _Input(name, field.role, video, desk.scans.video(video, find_cuts=False))
    except MediaError as error:
        raise MediaError(f"{name}: {_what_else(path, field) or error}") from error


def _is_image(desk: _Desk, image: SourceFile, field: ItemField) -> bool:
    """Tell whether a file is an image.

    Raises:
        MediaError: It is none, and the field takes nothing else, or it is called one.
    """
    try:
        desk.scans.image(image)
    except MediaError:
        named = KINDS.get(image.path.suffix.lower())
        if field.kinds == {MediaKind.IMAGE} or named is MediaKind.IMAGE:
            raise
        return False
    return True


def _own_sound(desk: _Desk, field: ItemField, name: str, given: str) -> Soundtrack:
    """Find the sound of a field and take its first seconds, of a suffix its last."""
    path = _found(desk, field, name, given)
    source = SourceFile(path.name, path, file_sha256(path), MediaKind.AUDIO)
    track = _track(desk, name, source, field)
    duration = desk.terms.duration_seconds
    start, lasting = track.start_seconds, track.duration_seconds
    extends = not desk.mode.has_video and desk.terms.kept_seconds is not None
    if extends:
        _check_kept_sound(desk, name, source, lasting)
        if Condition.SUFFIX in desk.mode.conditions:
            start -= duration - lasting
    else:
        _check_sound(desk, name, source, lasting)
    return _soundtrack(desk, source, start, track)


def _footage(desk: _Desk, shape: ClipShape, seen: dict[Role, _Input]) -> dict[Role, Footage]:
    """Take the first frames of every video."""
    footage: dict[Role, Footage] = {}
    keyframes = dict(desk.terms.keyframes)
    for role, given in seen.items():
        source, scan = given.source, given.scan
        if role in (Role.START, *keyframes):
            footage[role] = still_footage(source, shape)
        elif role is Role.TARGET and scan is not None:
            footage[role] = Footage(source, _start_of_target(desk, given, scan, shape), shape.duration_seconds, shape)
        elif role is Role.REFERENCE and scan is not None:
            _check_video(desk, given, scan, shape)
            _check_aspect(given, scan, seen.get(Role.TARGET), shape)
            footage[role] = reference_footage(source, scan.start_seconds, shape.duration_seconds, desk.terms)
    mask, target = seen.get(Role.MASK), seen.get(Role.TARGET)
    if mask is not None and target is not None and target.scan is not None:
        begin = Fraction(0) if mask.scan is None else mask.scan.start_seconds
        footage[Role.MASK] = mask_footage(mask.source, begin, footage[Role.TARGET], target.scan.size)
    return footage


def _start_of_target(desk: _Desk, given: _Input, scan: VideoScan, shape: ClipShape) -> Fraction:
    """Say when the first frame of a preview is shown, on the clock of its video: before its begin if it is held.

    A suffix ends with its video, however long that is.
    """
    if not (desk.terms.prefix_frames or desk.terms.suffix_frames):
        _check_video(desk, given, scan, shape)
        return scan.start_seconds
    num_frames = num_frames_within(scan.duration_seconds, shape.frame_rate)
    needed = desk.request.conditioning_frames
    if num_frames < needed:
        raise ConfigError(
            f"{given.field}: {given.source.name} has {counted(num_frames, 'frame')} at {shape.frame_rate} fps, and "
            f"{needed} are given (conditioning_frames). Give a longer video."
        )
    missing = shape.num_frames - num_frames if desk.terms.suffix_frames else 0
    return scan.start_seconds - missing / shape.frame_rate


def _sound_of_videos(
    desk: _Desk, seen: dict[Role, _Input], footage: dict[Role, Footage], own: dict[Role, Soundtrack]
) -> dict[Role, Soundtrack]:
    """Take the track of an extension's video, if it has one, and of a reference without a sound of its own."""
    if desk.rate_hz is None:
        return {}
    request, mode = desk.request, desk.mode
    reference, target = seen.get(Role.REFERENCE), seen.get(Role.TARGET)
    if reference is not None and mode.needs_audio and Role.REFERENCE_SOUND not in own:
        assert reference.scan is not None, "references are videos"
        track = _scan_sound(desk, reference.field, reference.source)
        if track is None:
            raise MediaError(
                f"{reference.field}: {reference.source.name} has no audio track, which {mode.name} needs. "
                "Give reference_audio_url, or a video with sound."
            )
        start = reference.scan.start_seconds
        _check_track(reference, start, desk.terms.duration_seconds, track)
        return {Role.REFERENCE_SOUND: _soundtrack(desk, reference.source, start, track)}
    extends = mode.audio is Presence.GENERATED_IF_SOUND and request.with_audio is not False
    if target is not None and extends:
        track = _scan_sound(desk, target.field, target.source)
        if track is not None:
            start, kept = footage[Role.TARGET].start_seconds, desk.terms.kept_seconds
            assert kept is not None, "an extension keeps a span"
            _check_track(target, start + kept[0], kept[1] - kept[0], track)
            return {Role.TARGET: _soundtrack(desk, target.source, start, track)}
    return {}


def _soundtrack(desk: _Desk, source: SourceFile, start_seconds: Fraction, track: AudioScan) -> Soundtrack:
    duration = desk.terms.duration_seconds
    gain = gain_of(desk.request, desk.audio, track)
    return Soundtrack(source, start_seconds, duration, duration, desk.request.audio_preserve_pitch, gain)


def _found(desk: _Desk, field: ItemField, name: str, given: str) -> Path:
    path = desk.find(given, what=name)
    if not path.is_file():
        raise ConfigError(f"{name}: {path} is not a file. Give the path of {_kinds(field)}.")
    return path


def _track(desk: _Desk, name: str, source: SourceFile, field: ItemField) -> AudioScan:
    try:
        track = _scan_sound(desk, name, source)
    except MediaError as error:
        other = _what_else(source.path, field)
        raise MediaError(f"{name}: {other}" if other else str(error)) from error
    if track is None:
        raise MediaError(f"{name}: {source.name} has no audio track. Give {_kinds(field)} with sound.")
    return track


def _scan_sound(desk: _Desk, name: str, source: SourceFile) -> AudioScan | None:
    assert desk.rate_hz is not None, "checked at the begin"
    try:
        return desk.scans.audio(source, rate_hz=desk.rate_hz)
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


def _what_else(path: Path, field: ItemField) -> str | None:
    """Say that a file is of a kind that its field does not take; None if it is of no other kind."""
    kind = MediaKind.VIDEO if field.kinds == {MediaKind.IMAGE} else MediaKind.IMAGE
    if kind in field.kinds or not _can_be(kind, path):
        return None
    return f"{path.name} is {_ARTICLES[kind]}, and {_kinds(field)} is needed."


def _can_be(kind: MediaKind, path: Path) -> bool:
    try:
        if kind is MediaKind.IMAGE:
            media.scan_image(path)
        else:
            media.scan_video(path, find_cuts=False)
    except MediaError:
        return False
    return True


def _kinds(field: ItemField) -> str:
    return " or ".join(told_kind for kind, told_kind in _ARTICLES.items() if kind in field.kinds)


def _check_video(desk: _Desk, given: _Input, scan: VideoScan, shape: ClipShape) -> None:
    """Refuse a video that is shorter than the preview.

    Raises:
        ConfigError: With the number of frames that would do.
    """
    num_frames = num_frames_within(scan.duration_seconds, shape.frame_rate)
    if num_frames < shape.num_frames:
        raise ConfigError(_too_few(desk, given.field, given.source, num_frames, shape))


def _check_aspect(given: _Input, scan: VideoScan, target: _Input | None, shape: ClipShape) -> None:
    """Refuse a reference that loses other edges than the video beside it.

    Raises:
        ConfigError: With both sizes.
    """
    if target is None or target.scan is None:
        return
    problem = other_aspect(f"reference {given.source.name}", scan.size, target.scan.size, shape.size)
    if problem is not None:
        raise ConfigError(f"{given.field}: {target.source.name} {problem}.")


def _check_sound(desk: _Desk, name: str, source: SourceFile, lasting: Fraction) -> None:
    """Refuse a sound that is shorter than the preview.

    Raises:
        ConfigError: With the number of frames, or the duration, that would do.
    """
    duration, shape = desk.terms.duration_seconds, desk.terms.shape
    if shape is not None:
        num_frames = num_frames_within(lasting, shape.frame_rate)
        if num_frames < shape.num_frames:
            raise ConfigError(_too_few(desk, name, source, num_frames, shape))
    elif lasting < duration - SLACK_SECONDS:
        fitting = fitting_seconds(lasting, desk.request, desk.terms)
        remedy = "" if fitting is None else f"; audio_duration_seconds {fitting} would do"
        raise ConfigError(f"{name}: {source.name} lasts {told(lasting)} s, and {told(duration)} s are needed{remedy}.")


def _check_track(given: _Input, begin: Fraction, span: Fraction, track: AudioScan) -> None:
    """Refuse a video whose track ends before what is given of it.

    Raises:
        ConfigError: With how much there is.
    """
    left = track.start_seconds + track.duration_seconds - begin
    if left < span - early_end(span):
        raise ConfigError(
            f"{given.field}: {told(span)} s of the sound of {given.source.name} are given, and its track has "
            f"{told(max(left, Fraction(0)))} s of them. Give a video with sound to its end."
        )


def _check_kept_sound(desk: _Desk, name: str, source: SourceFile, lasting: Fraction) -> None:
    kept = desk.request.conditioning_seconds
    if lasting < kept - SLACK_SECONDS:
        raise ConfigError(
            f"{name}: {source.name} lasts {told(lasting)} s, and {kept:g} s are given (conditioning_seconds). "
            "Give a longer sound."
        )


def _too_few(desk: _Desk, name: str, source: SourceFile, num_frames: int, shape: ClipShape) -> str:
    fitting = fitting_frames(num_frames, REQUEST_FRAMES_FACTOR, desk.request, desk.terms)
    remedy = "" if fitting is None else f"; validation_number_of_frames {fitting} would do"
    return (
        f"{name}: {source.name} has {counted(num_frames, 'frame')} at {shape.frame_rate} fps, and "
        f"{shape.num_frames} are needed{remedy}."
    )
