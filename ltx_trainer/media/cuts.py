"""Finds hard cuts while a video is decoded, by the times of its frames."""

from fractions import Fraction

from av.video.frame import VideoFrame
from scenedetect.common import FrameTimecode, Timecode
from scenedetect.detectors import AdaptiveDetector

from ltx_trainer.media.picture import bgr_thumbnail

# PySceneDetect's own default, in time instead of frames, so that the frame rate does not matter.
_SHORTEST_SCENE_SECONDS = 0.6
# PySceneDetect asks for a rate, which it does not use where each frame has its time.
_NOMINAL_RATE = Fraction(25)


class CutFinder:
    """Collects the cuts of one video, frame by frame.

    A frame starts a scene where it differs from the one before far more than its neighbours do from theirs, so a
    moving camera is not a cut.

    Args:
        time_base: Ticks of the video's clock, in seconds.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._start_seconds: Fraction | None = None
        self._detector = AdaptiveDetector(min_scene_len=_SHORTEST_SCENE_SECONDS)
        self._cuts: list[Fraction] = []

    def feed(self, time_seconds: Fraction, frame: VideoFrame) -> None:
        """Take the next frame, shown from `time_seconds` on."""
        if self._start_seconds is None:
            self._start_seconds = time_seconds
        # Counted from the first frame, because PySceneDetect takes no negative times.
        ticks = round((time_seconds - self._start_seconds) / self._time_base)
        timecode = FrameTimecode(Timecode(ticks, self._time_base), fps=_NOMINAL_RATE)
        found = self._detector.process_frame(timecode, bgr_thumbnail(frame))
        self._cuts += [self._start_seconds + cut.pts * self._time_base for cut in found]

    @property
    def cuts(self) -> tuple[Fraction, ...]:
        """Times of the first frames of new scenes, on the clock that was fed, in seconds."""
        return tuple(self._cuts)
