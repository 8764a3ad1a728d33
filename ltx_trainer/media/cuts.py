"""Finds where the scenes of a video end and begin while it is decoded, by the times of its frames."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import numpy as np
from av.video.frame import VideoFrame
from scenedetect.common import FrameTimecode, Timecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

from ltx_trainer.media.picture import bgr_thumbnail
from ltx_trainer.media.transitions import TransitionFinder

# PySceneDetect's own default, in time instead of frames, so that the frame rate does not matter.
_SHORTEST_SCENE_SECONDS = 0.6
# PySceneDetect asks for a rate, which it does not use where each frame has its time.
_NOMINAL_RATE = Fraction(25)
# AdaptiveDetector judges a frame by so many on each side of it.
_FRAMES_BESIDE = 2

Span = tuple[int, int]
"""In ticks: where the old scene ends, and the first frame of the new one."""


@dataclass(frozen=True)
class Cut:
    """Where one scene becomes another.

    Attributes:
        end_seconds: Where the old scene ends: its frames come before this time.
        start_seconds: Time of the first frame of the new scene; the same if the cut is hard. What lies between belongs
            to neither.
    """

    end_seconds: Fraction
    start_seconds: Fraction


@dataclass(frozen=True)
class CutRule:
    """How cuts are found.

    Attributes:
        detector: A name in `THRESHOLDS`.
        threshold: In the units of the detector.
    """

    detector: str
    threshold: float

    def __str__(self) -> str:
        """Name it in a file name: all of it, and nothing else."""
        return f"{self.detector}-{self.threshold!r}"


THRESHOLDS: Mapping[str, float] = {
    "transitions": 3.0,
    "adaptive": 3.0,
    "content": 27.0,
    "histogram": 0.2,
    "hash": 0.35,
    "threshold": 12.0,
}
"""The detectors, each with a threshold of its own. `transitions` finds cuts, dissolves and fades; the others are
PySceneDetect's: `threshold` finds fades through black, the rest find cuts."""


def cut_rule(detector: str = "transitions", threshold: float | None = None) -> CutRule:
    """Make a rule; without a threshold, with the detector's own."""
    return CutRule(detector, THRESHOLDS[detector] if threshold is None else float(threshold))


class CutFinder:
    """Collects the cuts of one video, frame by frame. Of its pictures it remembers a few seconds, very small.

    Args:
        time_base: Ticks of the video's clock, in seconds.
        rule: How they are found.
    """

    def __init__(self, time_base: Fraction, rule: CutRule) -> None:
        self._time_base = time_base
        self._start_seconds: Fraction | None = None
        self._finder = _finder_of(rule, time_base)

    def feed(self, time_seconds: Fraction, frame: VideoFrame) -> None:
        """Take the next frame, shown from `time_seconds` on."""
        if self._start_seconds is None:
            self._start_seconds = time_seconds
        self._finder.feed(round((time_seconds - self._start_seconds) / self._time_base), bgr_thumbnail(frame))

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts of all that was fed, in order, on the clock that was fed."""
        start = self._start_seconds or Fraction(0)
        spans: list[Span] = []
        for end, begin in sorted(self._finder.finish()):
            if spans and end <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(begin, spans[-1][1]))
            else:
                spans.append((end, begin))
        return tuple(Cut(start + end * self._time_base, start + begin * self._time_base) for end, begin in spans)


class _Finder(Protocol):
    """Finds spans between scenes, on a clock that starts with the first frame."""

    def feed(self, ticks: int, picture: np.ndarray) -> None: ...

    def finish(self) -> list[Span]: ...


def _finder_of(rule: CutRule, time_base: Fraction) -> _Finder:
    detectors: Mapping[str, Callable[[float], SceneDetector]] = {
        "adaptive": lambda threshold: AdaptiveDetector(threshold, _SHORTEST_SCENE_SECONDS),
        "content": lambda threshold: ContentDetector(threshold, _SHORTEST_SCENE_SECONDS),
        "histogram": lambda threshold: HistogramDetector(threshold, min_scene_len=_SHORTEST_SCENE_SECONDS),
        "hash": lambda threshold: HashDetector(threshold, min_scene_len=_SHORTEST_SCENE_SECONDS),
    }
    if rule.detector == "transitions":
        return _Everything(rule.threshold, time_base)
    if rule.detector == "threshold":
        return _Darkness(rule.threshold, time_base)
    return _Jumps(detectors[rule.detector](rule.threshold), time_base)


class _Clock:
    """Tells PySceneDetect times, and reads them."""

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base

    def at(self, ticks: int) -> FrameTimecode:
        return FrameTimecode(Timecode(ticks, self._time_base), fps=_NOMINAL_RATE)


class _Jumps:
    """Cuts as one of PySceneDetect's detectors finds them."""

    def __init__(self, detector: SceneDetector, time_base: Fraction) -> None:
        self._detector, self._clock = detector, _Clock(time_base)
        self._found: list[Span] = []

    def feed(self, ticks: int, picture: np.ndarray) -> None:
        found = self._detector.process_frame(self._clock.at(ticks), picture)
        self._found += [(cut.pts, cut.pts) for cut in found]

    def finish(self) -> list[Span]:
        return self._found


class _Darkness:
    """What PySceneDetect finds to lie under a threshold of brightness."""

    def __init__(self, threshold: float, time_base: Fraction) -> None:
        self._detector, self._clock = ThresholdDetector(threshold, _SHORTEST_SCENE_SECONDS), _Clock(time_base)
        self._found: list[Span] = []

    def feed(self, ticks: int, picture: np.ndarray) -> None:
        faded = self._detector.last_fade["frame"]
        # Its own time is that of a frame counted at a constant rate; the frame that it is told at is the new scene's.
        if self._detector.process_frame(self._clock.at(ticks), picture):
            self._found.append((faded.pts, ticks))

    def finish(self) -> list[Span]:
        return self._found


class _Everything:
    """Cuts as PySceneDetect's AdaptiveDetector finds them, but for flashes, and dissolves and fades."""

    def __init__(self, threshold: float, time_base: Fraction) -> None:
        # Of any length: what is shorter than a scene is left out where scenes are made, and hides no cut after it.
        self._detector = AdaptiveDetector(threshold, min_scene_len=0, window_width=_FRAMES_BESIDE)
        self._clock = _Clock(time_base)
        self._transitions = TransitionFinder(float(time_base))
        self._last: tuple[int, np.ndarray] | None = None

    def feed(self, ticks: int, picture: np.ndarray) -> None:
        if self._last is None:
            # The first frame stands in for those before it, and the last for those after, so that a frame of another
            # scene is found there too.
            for early in range(_FRAMES_BESIDE):
                self._tell(early - _FRAMES_BESIDE, picture)
        self._transitions.feed(ticks, picture)
        self._tell(ticks, picture)
        self._last = ticks, picture

    def finish(self) -> list[Span]:
        if self._last is not None:
            ticks, picture = self._last
            for late in range(1, _FRAMES_BESIDE + 1):
                self._tell(ticks + late, picture)
        return self._transitions.finish()

    def _tell(self, ticks: int, picture: np.ndarray) -> None:
        for cut in self._detector.process_frame(self._clock.at(ticks + _FRAMES_BESIDE), picture):
            self._transitions.jump(cut.pts - _FRAMES_BESIDE)
