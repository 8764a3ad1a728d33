"""Opens media files, picks their streams and walks the decoded frames on the file's own clock."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, overload

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ltx_trainer.errors import MediaError
from ltx_trainer.workers import num_threads

logger = logging.getLogger(__name__)

# Formats that only hold media. Playlists and concatenation scripts, which name other files or addresses, are not here.
_OPEN_OPTIONS = {
    "format_whitelist": "mov,matroska,avi,mpegts,wav,mp3,flac,ogg,aac",
    "protocol_whitelist": "file",
}
# Formats in which a seek lands at an estimated time, or in which a frame's time is only known by counting.
_READ_FROM_START = frozenset({"avi", "mpegts", "mp3", "aac"})
# A seek goes by decode times, which differ from the times on screen, and an audio decoder needs a moment to settle.
_PREROLL_SECONDS = Fraction(1)
# Decoders of transparency, which these codecs store as a second picture that libav's own decoders pass over.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file; libav's errors inside the block become ours.

    Raises:
        MediaError: The file is missing, empty, of a format that is not read, or damaged.
    """
    if not path.is_file():
        raise MediaError(f"{path.name} does not exist.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path.name} is empty: 0 bytes.")
    try:
        container = av.open(f"file:{path}", options=_OPEN_OPTIONS, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{path.name} cannot be opened as media, whatever its extension says, or was cut short: {error.strerror}. "
            "Export it again as MP4, MOV, MKV, WebM or AVI."
        ) from error
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{path.name} is damaged and cannot be decoded: {error.strerror}. Export it again."
            ) from error


def video_stream_of(container: InputContainer, name: str) -> VideoStream:
    """Pick the video stream that FFmpeg would play.

    Raises:
        MediaError: There is none that can be decoded. A cover picture does not count.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        found = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise MediaError(f"{name} has no video track; it holds: {found}.")
    _check_decodable(stream, name)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = num_threads()
    return stream


def audio_stream_of(container: InputContainer, name: str) -> AudioStream | None:
    """Pick the audio stream that FFmpeg would play; None if the file has none.

    Raises:
        MediaError: There is one, but no decoder for it, or its header does not say how to decode it.
    """
    stream = container.streams.best("audio", related=container.streams.best("video"))
    if not isinstance(stream, AudioStream):
        # FFmpeg passes over tracks without channels or a rate, as of a damaged header.
        if container.streams.audio:
            raise MediaError(f"{name} has an audio track whose header is damaged. Export it again.")
        if not len(container.streams):
            raise MediaError(f"{name} holds no track that can be read. Export it again.")
        return None
    _check_decodable(stream, name)
    return stream


def tell_choice(container: InputContainer, stream: VideoStream | AudioStream, name: str) -> None:
    """Say which track was picked of several of its type; nothing where there is one."""
    tracks = [
        each
        for each in (container.streams.video if stream.type == "video" else container.streams.audio)
        if not each.disposition & Disposition.attached_pic
    ]
    if len(tracks) > 1:
        others = ", ".join(_told(each) for each in tracks if each.index != stream.index)
        logger.info(
            "%s has %d %s tracks: %s is taken, and not %s.", name, len(tracks), stream.type, _told(stream), others
        )


def _told(stream: VideoStream | AudioStream) -> str:
    is_video = isinstance(stream, VideoStream)
    form = f"{stream.width}x{stream.height}" if is_video else f"{stream.sample_rate} Hz, {stream.channels} channels"
    return f"track {stream.index} ({stream.codec_context.name}, {form})" if stream.codec_context else f"{stream.index}"


def declared_seconds(container: InputContainer, stream: VideoStream | AudioStream) -> Fraction:
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


def time_base_of(stream: VideoStream | AudioStream) -> Fraction:
    """Give the length of one tick of the stream's clock, in seconds."""
    assert stream.time_base is not None, "a demuxed stream has a clock"
    return stream.time_base


@overload
def timed_frames(
    container: InputContainer, stream: VideoStream, name: str, *, start_seconds: Fraction | None = None
) -> Iterator[tuple[Fraction, VideoFrame]]: ...
@overload
def timed_frames(
    container: InputContainer, stream: AudioStream, name: str, *, start_seconds: Fraction | None = None
) -> Iterator[tuple[Fraction, AudioFrame]]: ...
def timed_frames(
    container: InputContainer, stream: Any, name: str, *, start_seconds: Fraction | None = None
) -> Iterator[tuple[Fraction, Any]]:
    """Decode one stream in the order of the screen, each frame with its time on the file's clock, in seconds.

    Args:
        container: An open file that nothing was read from.
        stream: One of its streams.
        name: The file's name, for messages.
        start_seconds: Begin at a frame at or before this time; None begins at the first frame.

    Raises:
        MediaError: A frame has no time, or times run backwards.
    """
    if start_seconds is not None and _seek(container, stream, start_seconds - _PREROLL_SECONDS):
        frames = _with_times(container, stream, name)
        first = next(frames, None)
        if first is not None and first[0] <= start_seconds:
            yield first
            yield from frames
            return
        container.seek(stream.start_time or 0, stream=stream)
    yield from _with_times(container, stream, name)


def _matroska_seconds(tag: str) -> Fraction:
    """Read a Matroska statistics tag such as 00:00:05.040000000; 0 if it is something else."""
    parts = tag.strip().split(":")
    if len(parts) != 3 or not all(part.replace(".", "", 1).isdecimal() for part in parts):
        return Fraction(0)
    hours, minutes, seconds = (Fraction(part) for part in parts)
    return hours * 3600 + minutes * 60 + seconds


def _check_decodable(stream: VideoStream | AudioStream, name: str) -> None:
    if stream.codec_context is None:
        raise MediaError(
            f"{name} has a {stream.type} track in a codec that cannot be decoded. Convert it to H.264 and AAC."
        )


def _seek(container: InputContainer, stream: VideoStream | AudioStream, time_seconds: Fraction) -> bool:
    """Go to a key frame before a time; tell whether that was possible and worth it."""
    ticks = int(time_seconds / time_base_of(stream))
    if container.format.name in _READ_FROM_START or ticks <= (stream.start_time or 0):
        return False
    container.seek(ticks, stream=stream)
    return True


def _with_times(
    container: InputContainer, stream: VideoStream | AudioStream, name: str
) -> Iterator[tuple[Fraction, Any]]:
    previous = None
    for ticks, frame in _with_ticks(container, stream):
        if ticks is None:
            raise MediaError(f"{name} has {stream.type} frames without timestamps. Export it again as MP4.")
        if previous is not None and ticks < previous:
            at = float(previous * time_base_of(stream))
            raise MediaError(f"{name} has {stream.type} timestamps that run backwards at {at:.3f} s. Export it again.")
        previous = ticks
        yield ticks * time_base_of(stream), frame


def _with_ticks(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[tuple[int | None, Any]]:
    if container.format.name == "avi" and isinstance(stream, VideoStream):
        yield from _counted_ticks(container, stream)
    else:
        for frame in _decoded(container, stream):
            yield frame.pts, frame


def _decoded(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Any]:
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder: Any = CodecContext.create(name, "r")
    # The last packet of a stream is an empty one, after which the decoder gives what it holds.
    for packet in container.demux(stream):
        yield from decoder.decode(packet if packet.size else None)


def _counted_ticks(container: InputContainer, stream: VideoStream) -> Iterator[tuple[int, VideoFrame]]:
    """Give the frames of an AVI their times: it keeps only decode times, which are off by the reordering."""
    shift = None
    ticks = 0
    for frame in container.decode(stream):
        # The frames that leave the decoder last have no decode time of their own.
        ticks = frame.dts if frame.dts is not None else ticks + max(1, frame.duration)
        shift = ticks - (stream.start_time or 0) if shift is None else shift
        yield ticks - shift, frame
