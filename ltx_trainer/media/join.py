"""Joins videos into one file, one after another and side by side, and sounds one after another."""

import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media.audio import decode_audio, fit_audio
from ltx_trainer.media.container import audio_stream_of, opened, timed_frames, video_stream_of
from ltx_trainer.media.encode import Sound, check_writable, encode_video, write_audio_levels
from ltx_trainer.media.probe import VideoScan, scan_video

PAUSE_SECONDS = Fraction(1, 2)
"""Silence between sounds that are joined."""


@dataclass(frozen=True)
class _Part:
    """One of the videos that are joined."""

    path: Path
    scan: VideoScan
    frame_rate: Fraction
    audio_rate_hz: int | None

    def __str__(self) -> str:
        size, count = self.scan.size, self.scan.num_frames
        return f"{self.path.name} ({size} at {self.frame_rate} frames per second, {count} frames)"


@dataclass(frozen=True)
class _Row:
    """Videos that stand side by side, of one height, rate and length."""

    parts: Sequence[_Part]

    @property
    def heard(self) -> _Part:
        """The one whose sound is the row's."""
        return self.parts[-1]

    @property
    def size(self) -> FrameSize:
        return FrameSize(sum(part.scan.size.width for part in self.parts), self.heard.scan.size.height)

    def __str__(self) -> str:
        names = " beside ".join(part.path.name for part in self.parts)
        return f"{names} ({self.size} at {self.heard.frame_rate} frames per second)"


def join_videos(rows: Sequence[Sequence[Path]], path: Path) -> None:
    """Write rows of videos one after another into one MP4, each row's sound beside its own pictures.

    Args:
        rows: In order; each holds files of `write_video` that stand side by side, left to right, and the last one's
            sound is heard. A silent row among others with sound gets silence.
        path: Where the file appears once it is whole.

    Raises:
        MediaError: There are none, one cannot be read, heights, rates or lengths differ in a row, or sizes or rates
            between rows.
        GeometryError: A side of a video is odd.
        OutOfResources: The disk is full.
    """
    if not rows or not all(rows):
        raise MediaError(f"{path.name} cannot be joined from 0 videos; at least 1 is needed in each row.")
    read = [_read_row(row) for row in rows]
    first = read[0]
    for row in read:
        if (row.size, row.heard.frame_rate) != (first.size, first.heard.frame_rate):
            raise MediaError(f"{row} cannot follow {first}: joined videos have one size and rate.")
    heard = [row.heard for row in read]
    shape = ClipShape(sum(part.scan.num_frames for part in heard), first.size, first.heard.frame_rate)
    audio_rate_hz = max((part.audio_rate_hz for part in heard if part.audio_rate_hz is not None), default=None)
    sound = None if audio_rate_hz is None else Sound(_joined_sound(heard, audio_rate_hz), audio_rate_hz)
    encode_video(path, _joined_pictures(read), shape, sound)


def join_sounds(paths: Sequence[Path], path: Path) -> None:
    """Write files of `write_audio` one after another into one WAV, sample for sample, with half a second between.

    Args:
        paths: In order.
        path: Where the file appears once it is whole.

    Raises:
        MediaError: There are none, one cannot be read, or rates or channels differ.
        OutOfResources: The disk is full.
    """
    if not paths:
        raise MediaError(f"{path.name} cannot be joined from 0 sounds; at least 1 is needed.")
    read = [_read_levels(each) for each in paths]
    first, rate_hz = read[0]
    pause = np.zeros((round(PAUSE_SECONDS * rate_hz), first.shape[1]), first.dtype)
    pieces = [first]
    for (levels, own_rate_hz), each in zip(read[1:], paths[1:], strict=True):
        if (own_rate_hz, levels.shape[1]) != (rate_hz, first.shape[1]):
            raise MediaError(
                f"{each.name} ({levels.shape[1]} channels at {own_rate_hz} Hz) cannot follow {paths[0].name} "
                f"({first.shape[1]} channels at {rate_hz} Hz): joined sounds have one rate and as many channels."
            )
        pieces += [pause, levels]
    write_audio_levels(path, np.concatenate(pieces), rate_hz)


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """Read a file of `write_audio`: samples `[2, n]`, float32, 1 is full scale, and their rate.

    Raises:
        MediaError: It cannot be read.
    """
    levels, rate_hz = _read_levels(path)
    return levels.T.astype(np.float32) / 32767, rate_hz


def _read_levels(path: Path) -> tuple[np.ndarray, int]:
    """Read the 16-bit samples `[n, channels]` of a WAV, and their rate."""
    try:
        with wave.open(str(path), "rb") as file:
            levels = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            return levels, file.getframerate()
    except (OSError, EOFError, wave.Error) as error:
        raise MediaError(f"{path.name} cannot be read: {error}. Only sounds written here can be joined.") from error


def _read_row(paths: Sequence[Path]) -> _Row:
    row = _Row([_read_part(path) for path in paths])
    for part in row.parts:
        check_writable(ClipShape(part.scan.num_frames, part.scan.size, part.frame_rate))
        if _what_a_row_shares(part) != _what_a_row_shares(row.heard):
            raise MediaError(
                f"{part} cannot stand beside {row.heard}: videos side by side have one height, rate and length."
            )
    return row


def _what_a_row_shares(part: _Part) -> tuple[int, Fraction, int]:
    return part.scan.size.height, part.frame_rate, part.scan.num_frames


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


def _joined_pictures(rows: Sequence[_Row]) -> Iterator[VideoFrame]:
    for row in rows:
        for pictures in zip(*(_pictures_of(part) for part in row.parts), strict=True):
            yield pictures[0] if len(pictures) == 1 else _side_by_side(pictures)


def _pictures_of(part: _Part) -> Iterator[VideoFrame]:
    with opened(part.path) as container:
        stream = video_stream_of(container, part.path.name)
        for _, frame in timed_frames(container, stream, part.path.name):
            yield frame


def _side_by_side(pictures: Sequence[VideoFrame]) -> VideoFrame:
    """Put pictures of one height together as they are stored, brightness and both colour planes each for itself."""
    planes = zip(*(_planes_of(picture) for picture in pictures), strict=True)
    width, height = sum(picture.width for picture in pictures), pictures[0].height
    flat = np.concatenate([np.concatenate(plane, axis=1).reshape(-1) for plane in planes])
    joined = VideoFrame.from_ndarray(flat.reshape(height * 3 // 2, width), format="yuv420p")
    joined.color_range = ColorRange.MPEG
    return joined


def _planes_of(picture: VideoFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give Y `[height, width]`, and U and V of half the size, uint8."""
    flat = picture.to_ndarray(format="yuv420p").reshape(-1)
    height, width = picture.height, picture.width
    y, u, v = np.split(flat, [height * width, height * width * 5 // 4])
    half = (height // 2, width // 2)
    return y.reshape(height, width), u.reshape(half), v.reshape(half)
