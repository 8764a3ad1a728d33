"""Decodes the frames that are on screen at given times."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media.container import opened, timed_frames, video_stream_of
from ltx_trainer.media.picture import rgb_pixels


def decode_frames(
    path: Path, times: Sequence[Fraction], size: FrameSize, *, canvas: FrameSize | None = None
) -> np.ndarray:
    """Decode the frame on screen at each time, upright, scaled to cover `size` and cropped to its middle.

    On screen is the last frame whose timestamp is not later; before the first frame the first is held, after the last
    frame the last.

    Args:
        path: A video.
        times: Times on the file's own clock, in seconds, ascending.
        size: Size of the result.
        canvas: Size that each frame is stretched to before it is cropped; None is its own.

    Returns:
        RGB pixels `[len(times), height, width, 3]`, uint8, full range.

    Raises:
        MediaError: The file has no video, is damaged or is HDR.
    """
    assert all(before <= after for before, after in pairwise(times)), "times ascend"
    pixels = np.empty((len(times), size.height, size.width, 3), np.uint8)
    if not times:
        return pixels
    with opened(path) as container:
        stream = video_stream_of(container, path.name)
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        frames = timed_frames(container, stream, path.name, start_seconds=times[0])
        done = 0
        for frame, count in _on_screen(frames, times):
            pixels[done : done + count] = rgb_pixels(frame, size, pixel_aspect, path.name, canvas)
            done += count
    if done < len(times):
        raise MediaError(f"{path.name} has a video track without a single frame. Export it again.")
    return pixels


def _on_screen(
    frames: Iterator[tuple[Fraction, VideoFrame]], times: Sequence[Fraction]
) -> Iterator[tuple[VideoFrame, int]]:
    """Give the frames that are shown at any of `times`, each with the number of times it is shown at."""
    done = 0
    shown = None
    for time_seconds, frame in frames:
        if shown is not None:
            count = _count_before(times, done, time_seconds)
            if count:
                yield shown, count
            done += count
            if done == len(times):
                return
        shown = frame
    if shown is not None:
        yield shown, len(times) - done


def _count_before(times: Sequence[Fraction], start: int, end_seconds: Fraction) -> int:
    """Count the times from index `start` on that lie before `end_seconds`."""
    stop = start
    while stop < len(times) and times[stop] < end_seconds:
        stop += 1
    return stop - start
