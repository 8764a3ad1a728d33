"""Finds out what a video or a soundtrack holds, by decoding all of it."""

from collections.abc import Iterable, Iterator
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

from ltx_trainer.artifacts import Range
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media.audio import SoundChunk, stereo_chunks
from ltx_trainer.media.colour import check_colour
from ltx_trainer.media.container import audio_stream_of, choice_of, declared_seconds, opened, timed_frames
from ltx_trainer.media.cuts import Cut, CutFinder, CutRule, cut_rule
from ltx_trainer.media.deinterlace import Timed
from ltx_trainer.media.flaws import SILENT, ClippingCounter, SilenceFinder
from ltx_trainer.media.loudness import BLOCK_SECONDS, LoudnessMeter
from ltx_trainer.media.picture import upright_size
from ltx_trainer.media.spool import Reel
from ltx_trainer.media.video import Video, is_animation, opened_video, progressive

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
        choice: Which track it is, in words that follow a name; None where the file has no other of pictures.
    """

    num_frames: int
    start_seconds: Fraction
    duration_seconds: Fraction
    size: FrameSize
    cuts: tuple[Cut, ...]
    choice: str | None = None


@dataclass(frozen=True)
class AudioScan:
    """What a soundtrack holds, by decoding it.

    Attributes:
        start_seconds: Time of the first sample on the file's clock, which its video shares.
        duration_seconds: From the first sample to the end of the last, gaps included.
        rate_hz: Sample rate in the file.
        channels: Channels in the file.
        peak: Largest absolute sample of the whole track as stereo at the rate asked for; 1 is full scale.
        true_peak: Likewise between the samples.
        loudness_lufs: Integrated loudness of that stereo; None if no 0.4 s of it are above -70 LUFS.
        silences: Spans of a second or more under -60 dBFS on the file's clock, gaps included.
        clipped: Places where a channel of the file stands at full scale for three samples or more.
        choice: Which track it is, in words that follow a name; None where the file has no other of sound.
    """

    start_seconds: Fraction
    duration_seconds: Fraction
    rate_hz: int
    channels: int
    peak: float
    true_peak: float
    loudness_lufs: float | None
    silences: tuple[Range, ...]
    clipped: int
    choice: str | None = None

    @property
    def end_seconds(self) -> Fraction:
        """End of the last sample on the file's clock."""
        return self.start_seconds + self.duration_seconds

    @property
    def is_silent(self) -> bool:
        """Whether all of it is under -60 dBFS."""
        return self.peak < SILENT

    @property
    def is_too_short(self) -> bool:
        """Whether it is too short to have a loudness."""
        return self.loudness_lufs is None and self.duration_seconds < BLOCK_SECONDS + Fraction(1, 100)


def scan_video(path: Path, *, find_cuts: bool, rule: CutRule | None = None, reel: Reel | None = None) -> VideoScan:
    """Decode a whole video once, to count and time its frames.

    Args:
        path: A video.
        find_cuts: Also look for cuts; if not, `cuts` is empty.
        rule: How they are found. None: as `cut_rule` does by default.
        reel: Takes the pictures that clips may be cut from.

    Raises:
        MediaError: The file has no video, is damaged or cut short, or its colours are not known here.
        OutOfResources: The disk has no room for the pictures.
    """
    with opened_video(path) as video:
        count = _Count(path.name, video, CutFinder(video.time_base, rule or cut_rule()) if find_cuts else None)
        frames = count.watch(video.frames())
        if reel is not None:
            reel.begin(video.declared_seconds, video.usual_seconds)
            for time_seconds, frame in progressive(video, frames):
                reel.add(time_seconds, frame, video.pixel_aspect, path.name)
                if reel.has_ended:
                    break
            reel.finish()
        for _ in frames:
            pass
        return count.finish()


class _Count:
    """Counts, times and checks the frames of a video that go by.

    Args:
        name: The file's.
        video: Open.
        cut_finder: Looks at each of them.
    """

    def __init__(self, name: str, video: Video, cut_finder: CutFinder | None) -> None:
        self._name = name
        self._video = video
        self._cut_finder = cut_finder
        self._times: list[Fraction] = []
        self._size: FrameSize | None = None
        self._last: VideoFrame | None = None

    def watch(self, frames: Iterator[Timed]) -> Iterator[Timed]:
        for time_seconds, frame in frames:
            _check_frame(frame, time_seconds, self._name)
            self._size = self._size or upright_size(frame, self._video.pixel_aspect, self._name)
            self._times.append(time_seconds)
            self._last = frame
            if self._cut_finder is not None:
                self._cut_finder.feed(time_seconds, frame)
            yield time_seconds, frame

    def finish(self) -> VideoScan:
        """Say what was found.

        Raises:
            MediaError: There was no frame, or the header promises more.
        """
        times, name = self._times, self._name
        if self._size is None or self._last is None:
            raise MediaError(f"{name} has a video track without a single frame. Export it again.")
        end_seconds = times[-1] + _last_duration(self._video, self._last, times)
        _check_length(self._video.declared_seconds, "video", times[0], end_seconds, name)
        cuts = self._cut_finder.cuts if self._cut_finder is not None else ()
        return VideoScan(len(times), times[0], end_seconds - times[0], self._size, cuts, self._video.choice)


def scan_audio(path: Path, *, rate_hz: int) -> AudioScan | None:
    """Decode a whole soundtrack once; None if the file has no audio track.

    Args:
        path: A video or audio file.
        rate_hz: Rate at which levels and silence are measured.

    Raises:
        MediaError: The track is damaged, cut short or empty, or its channels are unknown.
    """
    if is_animation(path):
        return None
    with opened(path) as container:
        stream = audio_stream_of(container, path.name)
        if stream is None:
            return None
        extent, clipping = _Extent(), ClippingCounter()
        frames = clipping.watch(extent.watch(timed_frames(container, stream, path.name)))
        levels = _Levels(rate_hz)
        for first, samples in _long_pieces(stereo_chunks(frames, rate_hz=rate_hz, name=path.name), rate_hz):
            levels.add(first, samples)
        if extent.start_seconds is None:
            raise MediaError(f"{path.name} has an audio track without a single sample. Export it again.")
        _check_complete(container, stream, extent.start_seconds, extent.end_seconds, path.name)
        loudness_lufs, true_peak = levels.meter.finish()
        return AudioScan(
            start_seconds=extent.start_seconds,
            duration_seconds=extent.end_seconds - extent.start_seconds,
            rate_hz=stream.sample_rate,
            channels=stream.channels,
            peak=levels.peak,
            true_peak=true_peak,
            loudness_lufs=loudness_lufs,
            silences=levels.silences.finish(round(extent.end_seconds * rate_hz)),
            clipped=clipping.num_clipped,
            choice=choice_of(container, stream),
        )


class _Levels:
    """Levels of the stereo that went by."""

    def __init__(self, rate_hz: int) -> None:
        self.peak = 0.0
        self.meter = LoudnessMeter(rate_hz)
        self.silences = SilenceFinder(rate_hz)
        self._rate_hz = rate_hz
        self._next: int | None = None

    def add(self, first: int, samples: np.ndarray) -> None:
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0)))
        self.silences.add(first, samples)
        # A second of a longer gap is enough to end what was heard before it.
        gap = 0 if self._next is None else min(max(0, first - self._next), self._rate_hz)
        self.meter.add(np.pad(samples, ((0, 0), (gap, 0))))
        self._next = first + samples.shape[1]


def _long_pieces(chunks: Iterable[SoundChunk], rate_hz: int) -> Iterator[tuple[int, np.ndarray]]:
    """Join what follows without a gap to pieces of about a second, each with the number of its first sample."""
    pieces: list[np.ndarray] = []
    first = end = 0
    for chunk in chunks:
        begin = round(chunk.run_start_seconds * rate_hz) + chunk.offset
        if pieces and (begin != end or end - first >= rate_hz):
            yield first, np.concatenate(pieces, axis=1)
            pieces = []
        if not pieces:
            first = begin
        pieces.append(chunk.samples)
        end = begin + chunk.samples.shape[1]
    if pieces:
        yield first, np.concatenate(pieces, axis=1)


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


def _last_duration(video: Video, frame: VideoFrame, times: list[Fraction]) -> Fraction:
    """Give how long the last frame stays: as it says, else as long as the others, else one at the nominal rate."""
    if frame.duration > 0:
        return frame.duration * video.time_base
    if len(times) > 1:
        return median(after - before for before, after in pairwise(times))
    return video.usual_seconds


def _check_complete(
    container: InputContainer, stream: AudioStream, start_seconds: Fraction, end_seconds: Fraction, name: str
) -> None:
    _check_length(declared_seconds(container, stream), stream.type, start_seconds, end_seconds, name)


def _check_length(declared: Fraction, kind: str, start_seconds: Fraction, end_seconds: Fraction, name: str) -> None:
    """Refuse a file that ends before its header says: some formats just stop where they were cut."""
    found = max(end_seconds, end_seconds - start_seconds)
    if declared - found > _MISSING_SECONDS:
        raise MediaError(
            f"{name} is cut short or damaged: its header promises {float(declared):.2f} s of {kind}, "
            f"{float(found):.2f} s can be decoded. Export it again."
        )
