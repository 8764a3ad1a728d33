"""Joins videos of one size and rate into one file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ClipShape
from ltx_trainer.media.audio import decode_audio, fit_audio
from ltx_trainer.media.container import audio_stream_of, opened, timed_frames, video_stream_of
from ltx_trainer.media.encode import Sound, encode_video
from ltx_trainer.media.probe import VideoScan, scan_video


@dataclass(frozen=True)
class _Part:
    """One of the videos that are joined."""

    path: Path
    scan: VideoScan
    frame_rate: Fraction
    audio_rate_hz: int | None

    def __str__(self) -> str:
        return f"{self.path.name} ({self.scan.size} at {self.frame_rate} frames per second)"


def join_videos(paths: Sequence[Path], path: Path) -> None:
    """Write videos one after another into one MP4, each one's sound beside its own pictures.

    Args:
        paths: Files of `write_video`, in order. A silent one among others with sound gets silence.
        path: Where the file appears once it is whole.

    Raises:
        MediaError: There are none, one cannot be read, or sizes or rates differ.
        OutOfResources: The disk is full.
    """
    if not paths:
        raise MediaError(f"{path.name} cannot be joined from 0 videos; at least 1 is needed.")
    parts = [_read_part(each) for each in paths]
    first = parts[0]
    for part in parts:
        if (part.scan.size, part.frame_rate) != (first.scan.size, first.frame_rate):
            raise MediaError(f"{part} cannot follow {first}: joined videos have one size and rate.")
    shape = ClipShape(sum(part.scan.num_frames for part in parts), first.scan.size, first.frame_rate)
    audio_rate_hz = max((part.audio_rate_hz for part in parts if part.audio_rate_hz is not None), default=None)
    sound = None if audio_rate_hz is None else Sound(_joined_sound(parts, audio_rate_hz), audio_rate_hz)
    encode_video(path, _joined_pictures(parts), shape, sound)


def _read_part(path: Path) -> _Part:
    scan = scan_video(path, find_cuts=False)
    with opened(path) as container:
        frame_rate = video_stream_of(container, path.name).average_rate
        sound = audio_stream_of(container, path.name)
        if frame_rate is None:
            raise MediaError(f"{path.name} has no constant frame rate. Only videos written here can be joined.")
        return _Part(path, scan, frame_rate, None if sound is None else sound.rate)


def _joined_sound(parts: Sequence[_Part], rate_hz: int) -> np.ndarray:
    """Put the sound of the parts together; rounding is to the begin of the whole, so it does not add up."""
    pieces = []
    num_frames = 0
    for part in parts:
        begin = round(num_frames / part.frame_rate * rate_hz)
        num_frames += part.scan.num_frames
        num_samples = round(num_frames / part.frame_rate * rate_hz) - begin
        pieces.append(fit_audio(_sound_of(part, rate_hz), num_samples))
    return np.concatenate(pieces, axis=1)


def _sound_of(part: _Part, rate_hz: int) -> np.ndarray:
    if part.audio_rate_hz is None:
        return np.zeros((2, 0), np.float32)
    # One sample more than the pictures last, so that rounding never leaves a hole.
    span_seconds = part.scan.num_frames / part.frame_rate + Fraction(1, rate_hz)
    return decode_audio(part.path, start_seconds=part.scan.start_seconds, span_seconds=span_seconds, rate_hz=rate_hz)


def _joined_pictures(parts: Sequence[_Part]) -> Iterator[VideoFrame]:
    for part in parts:
        with opened(part.path) as container:
            stream = video_stream_of(container, part.path.name)
            for _, frame in timed_frames(container, stream, part.path.name):
                yield frame
