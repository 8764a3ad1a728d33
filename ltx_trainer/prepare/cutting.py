"""Which spans of a source become clips: scenes, and the windows in them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from ltx_trainer.artifacts import Example, Footage, LeftOut, MediaKind, Range, Role
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Request
from ltx_trainer.errors import DatasetError, MediaError, counted
from ltx_trainer.geometry import ClipShape, SoundGrid, num_frames_within
from ltx_trainer.media import VideoScan, Wish
from ltx_trainer.prepare.beside import Seen, cut_beside, look_beside
from ltx_trainer.prepare.lengths import SLACK_SECONDS, early_end, fitting_frames, fitting_seconds, told
from ltx_trainer.prepare.ranges import check_ranges, nothing_kept, ranges_within
from ltx_trainer.prepare.scans import Scans

MIN_FRAMES_TO_SCALE = 2
"""One frame has no motion to stretch."""

SHORTEST_SCENE_SECONDS = Fraction(3, 5)
"""What is shorter between two cuts is no scene: PySceneDetect's default of 15 frames at 25 fps."""


@dataclass(frozen=True)
class Take:
    """The span of one future clip.

    Attributes:
        name: The example's name, with the number of the scene, window or part where a file gives several.
        example: Where it comes from.
        footage: Its pictures by role; empty in a mode without video.
        begins: Where the span begins, on the own clock of each video of the example.
        offset_seconds: From the target's first frame or sample to the begin of the span.
        span_seconds: Length of the span in the target's file.
        duration_seconds: What the span becomes.
        ranges: Seconds of the clip's sound that are generated.
    """

    name: str
    example: Example
    footage: Mapping[Role, Footage]
    begins: Mapping[Role, Fraction]
    offset_seconds: Fraction
    span_seconds: Fraction
    duration_seconds: Fraction
    ranges: tuple[Range, ...] = ()

    @property
    def slack_seconds(self) -> Fraction:
        """What a file beside the target may lack of the span: half a frame."""
        target = self.footage.get(Role.TARGET)
        return SLACK_SECONDS if target is None else self.span_seconds / (2 * target.shape.num_frames)


@dataclass(frozen=True)
class Cutting:
    """How sources are cut.

    Attributes:
        request: Says whether to split and to scale.
        terms: Say what a video or sound becomes, and what is given beside it.
        frames_factor: Pixel frames of one latent frame; lengths are `factor * k + 1`.
        audio_rate_hz: Sample rate of the model; None if it has no sound.
        sound_grid: Its tokens; None if it has no sound.
        spread: Whether as many windows as fit are taken, and not the first only.
    """

    request: Request
    terms: Terms
    frames_factor: int
    audio_rate_hz: int | None
    sound_grid: SoundGrid | None
    spread: bool

    @property
    def wish(self) -> Wish | None:
        """Which pictures of a video its clips may be cut from; None in a mode without video."""
        shape, request = self.terms.shape, self.request
        if shape is None:
            return None
        takes_all = request.auto_scale_input or self.spread
        is_split_from = Fraction(request.split_input_duration_threshold) if request.split_input_into_scenes else None
        return Wish(shape.size, first=None if takes_all else shape, short_seconds=is_split_from)


def cut_example(cutting: Cutting, example: Example, scans: Scans) -> list[Take | LeftOut]:
    """Cut one example to takes, each of which is used or left out for a reason; all of it if a file cannot be read.

    Raises:
        DatasetError: Its ranges do not fit its sound, or leave nothing to keep or to generate of what is taken.
    """
    source = example.files[Role.TARGET]
    try:
        if cutting.terms.shape is None:
            return _cut_sound(cutting, example, scans)
        if source.kind is MediaKind.IMAGE:
            scans.image(source)
            return [_still(example, cutting.terms.shape)]
        scan = scans.video(source, find_cuts=cutting.request.split_input_into_scenes, wish=cutting.wish)
        beside = look_beside(example, scans, cutting.terms)
    except MediaError as error:
        return [LeftOut(example.name, str(error))]
    cut = _Cut(cutting, cutting.terms.shape, example, scan, beside)
    scenes = _scenes(cutting.request, example.name, scan)
    if not scenes:
        reason = (
            f"has no {told(SHORTEST_SCENE_SECONDS)} s between its cuts and fades; split_input_into_scenes: false would "
            "take it as it is"
        )
        return [LeftOut(example.name, reason)]
    return [item for scene in scenes for item in cut.fit(scene)]


def _still(example: Example, shape: ClipShape) -> Take:
    still = replace(shape, num_frames=1)
    nowhere = Fraction(0)
    footage = Footage(example.files[Role.TARGET], nowhere, nowhere, still)
    return Take(example.name, example, {Role.TARGET: footage}, {}, nowhere, nowhere, still.duration_seconds)


@dataclass(frozen=True)
class _Span:
    name: str
    start_seconds: Fraction
    duration_seconds: Fraction


def _scenes(request: Request, name: str, scan: VideoScan) -> list[_Span]:
    """Split a long video at its cuts, without what lies between two scenes; one scene has the video's own name.

    A short video is one span.
    """
    long = scan.duration_seconds > request.split_input_duration_threshold
    if not (request.split_input_into_scenes and long and scan.cuts):
        return [_Span(name, scan.start_seconds, scan.duration_seconds)]
    begins = (scan.start_seconds, *(cut.start_seconds for cut in scan.cuts))
    ends = (*(cut.end_seconds for cut in scan.cuts), scan.start_seconds + scan.duration_seconds)
    lengths = [(begin, end - begin) for begin, end in zip(begins, ends, strict=True)]
    scenes = [(begin, length) for begin, length in lengths if length >= SHORTEST_SCENE_SECONDS]
    names = [f"{name}#scene-{number:03d}" for number in range(1, len(scenes) + 1)] if len(scenes) > 1 else [name]
    return [_Span(own, *scene) for own, scene in zip(names, scenes, strict=False)]


def _spaced(total: Fraction, size: Fraction, count: int) -> list[Fraction]:
    """Give where `count` spans begin that do not overlap, the first at the begin of `total`, the last at its end."""
    free = max(Fraction(0), total - count * size) / max(1, count - 1)
    return [index * (size + free) for index in range(count)]


@dataclass(frozen=True)
class _Cut:
    """One video that is cut, and what was found in it and beside it."""

    cutting: Cutting
    shape: ClipShape
    example: Example
    scan: VideoScan
    beside: Mapping[Role, Seen]

    def fit(self, span: _Span) -> list[Take | LeftOut]:
        """Take the whole span if it is scaled in time, else its first frames or all its windows, if any fit."""
        cutting, shape = self.cutting, self.shape
        own_frames = self._own_frames(span)
        if cutting.request.auto_scale_input:
            if own_frames < MIN_FRAMES_TO_SCALE:
                found = counted(own_frames, "frame")
                reason = f"has {found} of its own, {MIN_FRAMES_TO_SCALE} are needed to scale it in time"
                return [LeftOut(span.name, reason)]
            return [self._take(span, self._common_seconds(span))]
        num_frames = num_frames_within(span.duration_seconds, shape.frame_rate)
        if num_frames < shape.num_frames:
            reason = f"has {counted(num_frames, 'frame')} at {shape.frame_rate} fps, {shape.num_frames} are needed"
            return [LeftOut(span.name, reason + _remedy(cutting, num_frames, own_frames))]
        return [self._take(window, shape.duration_seconds) for window in self._windows(span, num_frames)]

    def _windows(self, span: _Span, num_frames: int) -> list[_Span]:
        """Give the windows of a span of so many frames: its own begin, or begins that are spread over it.

        They begin at whole frames of the rate asked for, which are the source's own where it has that rate.
        """
        count = num_frames // self.shape.num_frames if self.cutting.spread else 1
        if count == 1:
            return [span]
        starts = _spaced(Fraction(num_frames), Fraction(self.shape.num_frames), count)
        begins = [span.start_seconds + start // 1 / self.shape.frame_rate for start in starts]
        return [
            _Span(f"{span.name}#window-{number:03d}", begin, self.shape.duration_seconds)
            for number, begin in enumerate(begins, start=1)
        ]

    def _take(self, span: _Span, span_seconds: Fraction) -> Take | LeftOut:
        """Cut every file of the example alike."""
        terms, offset = self.cutting.terms, span.start_seconds - self.scan.start_seconds
        target = Footage(self.example.files[Role.TARGET], span.start_seconds, span_seconds, self.shape)
        beside = cut_beside(span.name, self.example, target, offset, terms, self.beside, self.scan.size)
        if isinstance(beside, LeftOut):
            return beside
        begins = {
            role: scan.start_seconds + offset for role, scan in self.beside.items() if isinstance(scan, VideoScan)
        }
        return Take(
            name=span.name,
            example=self.example,
            footage={Role.TARGET: target, **beside},
            begins={Role.TARGET: span.start_seconds, **begins},
            offset_seconds=offset,
            span_seconds=span_seconds,
            duration_seconds=self.shape.duration_seconds,
        )

    def _common_seconds(self, span: _Span) -> Fraction:
        """Give the length that a span has in its references too, where the shortest ends only a little before it."""
        offset = span.start_seconds - self.scan.start_seconds
        videos = [scan for scan in self.beside.values() if isinstance(scan, VideoScan)]
        shortest = min([span.duration_seconds, *(scan.duration_seconds - offset for scan in videos)])
        allowed = early_end(span.duration_seconds)
        return shortest if shortest >= span.duration_seconds - allowed else span.duration_seconds

    def _own_frames(self, span: _Span) -> int:
        """Count the source's frames in a span: exactly for a whole video, by the average rate for a scene."""
        scan = self.scan
        if span.duration_seconds == scan.duration_seconds:
            return scan.num_frames
        return num_frames_within(span.duration_seconds, scan.num_frames / scan.duration_seconds)


def _remedy(cutting: Cutting, num_frames: int, own_frames: int) -> str:
    """Name the settings that would keep a clip that is too short."""
    fitting = fitting_frames(num_frames, cutting.frames_factor, cutting.request, cutting.terms)
    remedies = [] if fitting is None else [f"number_of_frames {fitting}"]
    if own_frames >= MIN_FRAMES_TO_SCALE:
        remedies.append("auto_scale_input")
    return f"; {' or '.join(remedies)} would keep it" if remedies else ""


def _cut_sound(cutting: Cutting, example: Example, scans: Scans) -> list[Take | LeftOut]:
    """Take the whole sound if it is scaled in time, else its begin, all whole parts of a long one, or all windows."""
    request, duration = cutting.request, cutting.terms.duration_seconds
    source = example.files[Role.TARGET]
    assert cutting.audio_rate_hz is not None, "a mode without video needs a model with sound"
    scan = scans.audio(source, rate_hz=cutting.audio_rate_hz)
    if scan is None:
        raise MediaError(f"{source.path.name} has no audio track.")
    check_ranges(example.name, example.ranges, scan.duration_seconds)
    if request.auto_scale_input:
        return [_part(cutting, example, example.name, Fraction(0), scan.duration_seconds)]
    num_parts = (scan.duration_seconds + SLACK_SECONDS) // duration
    if not num_parts:
        reason = f"lasts {told(scan.duration_seconds)} s, {told(duration)} s are needed"
        return [LeftOut(example.name, reason + _remedy_of_sound(cutting, scan.duration_seconds))]
    long = scan.duration_seconds > request.split_input_duration_threshold
    split = request.split_input_into_scenes and long
    if num_parts == 1 or not (cutting.spread or split):
        return [_part(cutting, example, example.name, Fraction(0), duration)]
    # Parts follow each other; windows are spread.
    kind, total = ("window", scan.duration_seconds) if cutting.spread else ("part", num_parts * duration)
    return [
        _part(cutting, example, f"{example.name}#{kind}-{number:03d}", offset, duration)
        for number, offset in enumerate(_spaced(total, duration, num_parts), start=1)
    ]


def _part(cutting: Cutting, example: Example, name: str, offset: Fraction, span: Fraction) -> Take | LeftOut:
    """Take one span of a sound, with the parts of the ranges that lie in it.

    Raises:
        DatasetError: Nothing would be kept, or generated, of the only span of an example.
    """
    duration = cutting.terms.duration_seconds
    tempo = span / duration if cutting.request.audio_preserve_pitch else Fraction(1)
    heard = ranges_within(example.ranges, offset, offset + duration * tempo)
    ranges = tuple((begin / tempo, end / tempo) for begin, end in heard)
    reason = _idle(cutting, example, ranges, offset, offset + duration * tempo)
    if reason is None:
        return Take(name, example, {}, {}, offset, span, duration, ranges)
    if name == example.name:
        raise DatasetError(f"{name}: {reason}")
    return LeftOut(name, reason)


def _idle(cutting: Cutting, example: Example, ranges: tuple[Range, ...], begin: Fraction, end: Fraction) -> str | None:
    """Say that nothing of a span would be generated, or kept; None if there is something of both."""
    if not example.ranges:
        return None
    if not ranges:
        return f"none of the ranges lies in what is taken, {told(begin)} to {told(end)} s: nothing would be generated."
    assert cutting.sound_grid is not None, "a mode without video needs a model with sound"
    return nothing_kept(ranges, cutting.terms.duration_seconds, cutting.sound_grid)


def _remedy_of_sound(cutting: Cutting, seconds: Fraction) -> str:
    """Name the settings that would keep a sound that is too short."""
    fitting = fitting_seconds(seconds, cutting.request, cutting.terms)
    remedies = [] if fitting is None else [f"audio_duration_seconds {fitting}"]
    return f"; {' or '.join([*remedies, 'auto_scale_input'])} would keep it"
