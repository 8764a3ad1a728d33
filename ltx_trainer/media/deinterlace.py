"""Makes whole frames of interlaced ones, in which every other line was taken half a frame later."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av.error
from av.filter.context import FilterContext
from av.filter.graph import Graph
from av.video.frame import VideoFrame

# Interpolates in both directions of time; the parity of each frame and whether it is interlaced are its own.
_FILTER, _ARGUMENTS = "bwdif", "mode=send_frame:parity=auto:deint=interlaced"

Timed = tuple[Fraction, VideoFrame]
"""A frame, and when it is shown, in seconds."""


def deinterlaced(frames: Iterator[Timed]) -> Iterator[Timed]:
    """Give a frame for each, at the same time: its first field, with the lines between filled in.

    What is not marked as interlaced is given as it is, and costs nothing before the first frame that is.

    Args:
        frames: In order, as decoded.
    """
    weaver = None
    for time_seconds, frame in frames:
        if weaver is not None and not weaver.takes(frame):
            yield from weaver.finish()
            weaver = None
        if weaver is None and frame.interlaced_frame:
            weaver = _Weaver(frame)
        if weaver is None:
            yield time_seconds, frame
        else:
            yield from weaver.feed(time_seconds, frame)
    if weaver is not None:
        yield from weaver.finish()


class _Weaver:
    """FFmpeg's filter, for frames of one size and format. It holds a frame back, to look at the next.

    Args:
        frame: The first.
    """

    def __init__(self, frame: VideoFrame) -> None:
        self._form = _form_of(frame)
        self._times: deque[Fraction] = deque()
        self._num_fed = 0
        graph = Graph()
        size, layout = f"{frame.width}x{frame.height}", frame.format.name
        # Only the order of frames matters here; their times are kept beside it.
        facts = {"video_size": size, "pix_fmt": layout, "time_base": "1/1", "pixel_aspect": "1/1"}
        tags = {"colorspace": str(frame.colorspace), "range": str(frame.color_range)}
        self._source = graph.add("buffer", **facts, **tags)
        self._sink = graph.add("buffersink")
        graph.link_nodes(self._source, graph.add(_FILTER, _ARGUMENTS), self._sink).configure()
        self._graph = graph

    def takes(self, frame: VideoFrame) -> bool:
        """Tell whether a frame is of the same size and format as the first."""
        return _form_of(frame) == self._form

    def feed(self, time_seconds: Fraction, frame: VideoFrame) -> Iterator[Timed]:
        """Take the next frame, and give what is done."""
        frame.pts, frame.time_base = self._num_fed, Fraction(1)
        self._num_fed += 1
        self._times.append(time_seconds)
        self._source.push(frame)
        yield from self._done()

    def finish(self) -> Iterator[Timed]:
        """Give what is held back."""
        self._source.push(None)
        yield from self._done()

    def _done(self) -> Iterator[Timed]:
        while (frame := _pulled(self._sink)) is not None:
            yield self._times.popleft(), frame


def _pulled(sink: FilterContext) -> VideoFrame | None:
    try:
        frame = sink.pull()
    except (av.error.BlockingIOError, av.error.EOFError):
        return None
    assert isinstance(frame, VideoFrame), "pictures go in"
    return frame


def _form_of(frame: VideoFrame) -> tuple[int, int, str, int, int]:
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
