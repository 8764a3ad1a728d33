"""Finds out what a video or a soundtrack holds, by decoding all of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media.audio import stereo_chunks
from ltx_trainer.media.container import audio_stream_of, opened, time_base_of, timed_frames, video_stream_of
from ltx_trainer.media.cuts import Cut, CutFinder, CutRule, cut_rule
from ltx_trainer.media.picture import check_colour, upright_size

# What a header may promise beyond the last frame before the file counts as cut short.
_MISSING_SECONDS = Fraction(1, 2)


@dataclass(frozen=True)
class VideoScan:
    """What a video holds, counted and timed by decoding it.

    Attributes:
        num_frames: Frames that were decoded.
        start_seconds: Time of the first frame on the file's clock.
        duration_seconds: From the first frame's begin to the last frame's end.
        size: Upright, with square pixels.
        cuts: Where scenes end and begin on the file's clock, in order.
    """

    num_frames: int
    start_seconds: Fraction
    duration_seconds: Fraction
    size: FrameSize
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class AudioScan:
    """What a soundtrack holds, by decoding it.

    Attributes:
        start_seconds: Time of the first sample on the file's clock, which its video shares.
        duration_seconds: From the first sample to the end of the last, gaps included.
        rate_hz: Sample rate in the file.
        channels: Channels in the file.
        peak: Largest absolute sample of the whole track as stereo at the rate asked for; 1 is full scale.
    """

    start_seconds: Fraction
    duration_seconds: Fraction
    rate_hz: int
    channels: int
    peak: float


def scan_video(path: Path, *, find_cuts: bool, rule: CutRule | None = None) -> VideoScan:
    """Decode a whole video once, to count and time its frames.

    Args:
        path: A video.
        find_cuts: Also look for cuts; if not, `cuts` is empty.
        rule: How they are found. None: as `cut_rule` does by default.

    Raises:
        MediaError: The file has no video, is damaged, cut short or HDR.
    """
    with opened(path) as container:
        stream = video_stream_of(container, path.name)
        cut_finder = CutFinder(time_base_of(stream), rule or cut_rule()) if find_cuts else None
        times: list[Fraction] = []
        size = None
        frame = None
        for time_seconds, frame in timed_frames(container, stream, path.name):
            _check_frame(frame, time_seconds, path.name)
            size = size or upright_size(frame, stream.sample_aspect_ratio or Fraction(1), path.name)
            times.append(time_seconds)
            if cut_finder is not None:
                cut_finder.feed(time_seconds, frame)
        if size is None or frame is None:
            raise MediaError(f"{path.name} has a video track without a single frame. Export it again.")
        end_seconds = times[-1] + _last_duration(stream, frame, times)
        _check_complete(container, stream, times[0], end_seconds, path.name)
    cuts = cut_finder.cuts if cut_finder is not None else ()
    return VideoScan(len(times), times[0], end_seconds - times[0], size, cuts)


def scan_audio(path: Path, *, rate_hz: int) -> AudioScan | None:
    """Decode a whole soundtrack once; None if the file has no audio track.

    Args:
        path: A video or audio file.
        rate_hz: Rate at which the peak is measured.

    Raises:
        MediaError: The track is damaged, cut short or empty, or its channels are unknown.
    """
    with opened(path) as container:
        stream = audio_stream_of(container, path.name)
        if stream is None:
            return None
        extent = _Extent()
        frames = extent.watch(timed_frames(container, stream, path.name))
        peak = 0.0
        for chunk in stereo_chunks(frames, rate_hz=rate_hz, name=path.name):
            peak = max(peak, float(np.abs(chunk.samples).max(initial=0)))
        if extent.start_seconds is None:
            raise MediaError(f"{path.name} has an audio track without a single sample. Export it again.")
        _check_complete(container, stream, extent.start_seconds, extent.end_seconds, path.name)
        duration_seconds = extent.end_seconds - extent.start_seconds
        return AudioScan(extent.start_seconds, duration_seconds, stream.sample_rate, stream.channels, peak)


class _Extent:
    """Begin and end of the frames that went by."""

    def __init__(self) -> None:
        self.start_seconds: Fraction | None = None
        self.end_seconds = Fraction(0)

    def watch(self, frames: Iterator[tuple[Fraction, AudioFrame]]) -> Iterator[tuple[Fraction, AudioFrame]]:
        for time_seconds, frame in frames:
            if self.start_seconds is None:
                self.start_seconds = time_seconds
            self.end_seconds = time_seconds + Fraction(_num_valid_samples(frame), frame.sample_rate)
            yield time_seconds, frame


def _num_valid_samples(frame: AudioFrame) -> int:
    """Count the samples that are sound; the last frame of AAC is filled up, and its duration says from where."""
    exact_clock = frame.time_base == Fraction(1, frame.sample_rate)
    return min(frame.samples, frame.duration) if exact_clock and frame.duration > 0 else frame.samples


def _check_frame(frame: VideoFrame, time_seconds: Fraction, name: str) -> None:
    if frame.is_corrupt:
        raise MediaError(f"{name} is damaged at {float(time_seconds):.3f} s. Export it again.")
    check_colour(frame, name)


def _last_duration(stream: VideoStream, frame: VideoFrame, times: list[Fraction]) -> Fraction:
    """Give how long the last frame stays: as it says, else as long as the others, else one at the nominal rate."""
    if frame.duration > 0:
        return frame.duration * time_base_of(stream)
    if len(times) > 1:
        return median(after - before for before, after in pairwise(times))
    return 1 / stream.guessed_rate if stream.guessed_rate else Fraction(0)


def _check_complete(
    container: InputContainer,
    stream: VideoStream | AudioStream,
    start_seconds: Fraction,
    end_seconds: Fraction,
    name: str,
) -> None:
    """Refuse a file that ends before its header says: some formats just stop where they were cut."""
    declared = _declared_seconds(container, stream)
    found = max(end_seconds, end_seconds - start_seconds)
    if declared - found > _MISSING_SECONDS:
        raise MediaError(
            f"{name} is cut short: its header promises {float(declared):.2f} s of {stream.type}, "
            f"{float(found):.2f} s can be decoded. Export it again."
        )


def _declared_seconds(container: InputContainer, stream: VideoStream | AudioStream) -> Fraction:
    """Read the longest length that the header promises for a stream; 0 if it promises none."""
    promises = [Fraction(0)]
    if stream.duration is not None:
        promises.append(stream.duration * time_base_of(stream))
    if container.format.name == "avi" and isinstance(stream, VideoStream) and stream.average_rate:
        # libav lowers the duration of a cut AVI to what is left, but keeps the number of frames.
        promises.append(stream.frames / stream.average_rate)
    if "DURATION" in stream.metadata:
        promises.append(_matroska_seconds(stream.metadata["DURATION"]))
    return max(promises)


def _matroska_seconds(tag: str) -> Fraction:
    """Read a Matroska statistics tag such as 00:00:05.040000000; 0 if it is something else."""
    parts = tag.strip().split(":")
    if len(parts) != 3 or not all(part.replace(".", "", 1).isdecimal() for part in parts):
        return Fraction(0)
    hours, minutes, seconds = (Fraction(part) for part in parts)
    return hours * 3600 + minutes * 60 + seconds
