"""Decodes the frames that are on screen at given times."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media.picture import rgb_pixels, white_pixels, whole_pixels
from ltx_trainer.media.video import opened_video, progressive


def decode_frames(
    path: Path, times: Sequence[Fraction], size: FrameSize, *, canvas: FrameSize | None = None
) -> np.ndarray:
    """Decode the frame on screen at each time, upright, scaled to cover `size` and cropped to its middle.

    Interlaced frames are made whole, HDR and wide colours become BT.709, and what is transparent lies on black. On
    screen is the last frame whose timestamp is not later; before the first frame the first is held, after the last
    frame the last.

    Args:
        path: A video.
        times: Times on the file's own clock, in seconds, ascending.
        size: Size of the result.
        canvas: Size that each frame is stretched to before it is cropped; None is its own.

    Returns:
        RGB pixels `[len(times), height, width, 3]`, uint8, full range.

    Raises:
        MediaError: The file has no video, is damaged, or its colours are not known here.
    """
    pixels = np.empty((len(times), size.height, size.width, 3), np.uint8)
    _fill(pixels, path, times, lambda frame, aspect: rgb_pixels(frame, size, aspect, path.name, canvas))
    return pixels


def decode_whole(
    path: Path, times: Sequence[Fraction], size: FrameSize, *, canvas: FrameSize | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Decode as `decode_frames`, and cut nothing off: pictures `[rows, columns, 3]`, each with how often it is shown.

    Raises:
        MediaError: As in `decode_frames`.
    """
    return _read(path, times, lambda frame, aspect: whole_pixels(frame, size, aspect, path.name, canvas))


def decode_white(
    path: Path, times: Sequence[Fraction], size: FrameSize, *, canvas: FrameSize | None = None
) -> np.ndarray:
    """Tell which pixels `[len(times), height, width]` of the frames of `decode_frames` hold any that is white.

    Raises:
        MediaError: As in `decode_frames`.
    """
    white = np.empty((len(times), size.height, size.width), np.bool_)
    _fill(white, path, times, lambda frame, aspect: white_pixels(frame, size, aspect, path.name, canvas))
    return white


def _fill(
    pictures: np.ndarray, path: Path, times: Sequence[Fraction], read: Callable[[VideoFrame, Fraction], np.ndarray]
) -> None:
    done = 0
    for picture, count in _read(path, times, read):
        pictures[done : done + count] = picture
        done += count


def _read(
    path: Path, times: Sequence[Fraction], read: Callable[[VideoFrame, Fraction], np.ndarray]
) -> Iterator[tuple[np.ndarray, int]]:
    """Read the frame on screen at each time; `read` is given it with the aspect of its pixels."""
    assert all(before <= after for before, after in pairwise(times)), "times ascend"
    if not times:
        return
    done = 0
    with opened_video(path) as video:
        for frame, count in _on_screen(progressive(video, video.frames(times[0])), times):
            yield read(frame, video.pixel_aspect), count
            done += count
    if done < len(times):
        raise MediaError(f"{path.name} has a video track without a single frame. Export it again.")


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
