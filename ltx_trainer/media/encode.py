"""Writes video with sound as MP4, sound as WAV, and stills through one frame of H.264."""

import struct
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc
from av.video.stream import VideoStream

from ltx_trainer.atomic import whole_file, write_bytes
from ltx_trainer.errors import ConfigError, GeometryError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media.audio import fit_audio
from ltx_trainer.media.picture import rgb_pixels, yuv_frame

_QUALITY_CRF = 18
_REPEATABLE = {"x264-params": "mbtree=0"}
"""With AVX-512, the default way of spreading bits over frames depends on what memory happens to hold."""
_AUDIO_BITS_PER_SECOND = 192_000
_LARGEST_CRF = 51
_MATRIX_BT709 = 1
_WAV_FLOAT = 3
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Sound:
    """Stereo samples `[2, n]`, float32, 1 is full scale, at one rate."""

    samples: np.ndarray
    rate_hz: int


def write_video(
    path: Path,
    frames: np.ndarray,
    frame_rate: Fraction,
    *,
    audio: np.ndarray | None = None,
    audio_rate_hz: int | None = None,
    crf: int = _QUALITY_CRF,
) -> None:
    """Write an MP4 with H.264 and AAC at exactly `frame_rate`; the sound is cut or padded to the pictures' length.

    Args:
        path: Where the file appears once it is whole.
        frames: RGB pixels `[frames, height, width, 3]`, uint8; height and width are even.
        frame_rate: Frames per second.
        audio: Stereo `[2, n]`, float32, 1 is full scale; None for a silent file.
        audio_rate_hz: Rate of `audio`.
        crf: H.264 quality, 0 is the best and 51 the worst.

    Raises:
        GeometryError: There are no frames, or a side is odd.
        OutOfResources: The disk is full.
    """
    num_frames, height, width, _ = frames.shape
    shape = ClipShape(num_frames, FrameSize(width, height), frame_rate)
    check_writable(shape)
    sound = None
    if audio is not None:
        assert audio_rate_hz is not None, "sound has a rate"
        sound = Sound(audio, audio_rate_hz)
    encode_video(path, (yuv_frame(frame) for frame in frames), shape, sound, crf=crf)


def write_audio(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """Write a WAV with 16-bit samples; what is beyond full scale is clipped, as a loudspeaker would.

    Args:
        path: Where the file appears once it is whole.
        samples: Stereo `[2, n]`, float32, 1 is full scale.
        rate_hz: Rate of the samples.

    Raises:
        OutOfResources: The disk is full.
    """
    write_audio_levels(path, np.rint(samples.clip(-1, 1) * 32767).astype("<i2").T, rate_hz)


def write_audio_levels(path: Path, levels: np.ndarray, rate_hz: int) -> None:
    """Write 16-bit samples `[n, channels]` as a WAV, exactly as they are; as in `write_audio`."""
    with whole_file(path) as beside, wave.open(str(beside), "wb") as file:
        file.setnchannels(levels.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(levels.tobytes())


def write_exact_audio(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """Write a WAV with 32-bit floating-point samples: exactly those given, beyond full scale too.

    Args:
        path: Where the file appears once it is whole.
        samples: Stereo `[2, n]`, float32.
        rate_hz: Rate of the samples.

    Raises:
        OutOfResources: The disk is full.
    """
    channels, count = samples.shape
    content = samples.T.astype("<f4").tobytes()
    frame_bytes = channels * _FLOAT_BYTES
    facts = struct.pack("<HHIIHHH", _WAV_FLOAT, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 32, 0)
    chunks = ((b"fmt ", facts), (b"fact", struct.pack("<I", count)), (b"data", content))
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(chunk)) + chunk for name, chunk in chunks)
    write_bytes(path, b"RIFF" + struct.pack("<I", len(body)) + body)


def recompress_still(frame: np.ndarray, *, crf: int) -> np.ndarray:
    """Send a still through one frame of H.264 and back, so that it looks like a frame of a video.

    Args:
        frame: RGB pixels `[height, width, 3]`, uint8; height and width are even.
        crf: H.264 quality, 0 is the best and 51 the worst.

    Returns:
        RGB pixels of the same size.

    Raises:
        ConfigError: `crf` is out of range.
        GeometryError: A side is odd.
    """
    if not 0 <= crf <= _LARGEST_CRF:
        raise ConfigError(f"crf {crf} is not a quality of H.264, which takes 0 to {_LARGEST_CRF}.")
    size = FrameSize(frame.shape[1], frame.shape[0])
    check_writable(ClipShape(1, size, Fraction(25)))
    encoder = VideoCodecContext.create("libx264", "w")
    _set_picture_format(encoder, size)
    encoder.time_base = Fraction(1, 25)
    # One thread, so that the result is the same on every machine.
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", **_REPEATABLE}
    still = yuv_frame(frame)
    still.pts = 0
    decoder = VideoCodecContext.create("h264", "r")
    packets = [*encoder.encode(still), *encoder.encode(None)]
    decoded = [*(picture for packet in packets for picture in decoder.decode(packet)), *decoder.decode(None)]
    return np.ascontiguousarray(rgb_pixels(decoded[0], size, Fraction(1), "the recompressed still"))


def check_writable(shape: ClipShape) -> None:
    """Refuse what H.264 in yuv420p cannot hold.

    Raises:
        GeometryError: There are no frames, or a side is odd.
    """
    size = shape.size
    if shape.num_frames == 0:
        raise GeometryError("0 frames do not make a video; at least 1 is needed.")
    if size.width % 2 or size.height % 2:
        even = FrameSize(size.width + size.width % 2, size.height + size.height % 2)
        raise GeometryError(f"{size} cannot be stored as yuv420p, which takes even sides. Nearest: {even}.")


def encode_video(
    path: Path, pictures: Iterable[VideoFrame], shape: ClipShape, sound: Sound | None, *, crf: int = _QUALITY_CRF
) -> None:
    """Encode limited-range BT.709 pictures, `shape.num_frames` in number, and their sound; as in `write_video`."""
    with (
        whole_file(path) as beside,
        av.open(f"file:{beside}", "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        video = output.add_stream("libx264", rate=shape.frame_rate, options={"crf": str(crf), **_REPEATABLE})
        # One thread, so that the bytes are the same whatever number of processors there is.
        video.codec_context.thread_count = 1
        _set_picture_format(video.codec_context, shape.size)
        video.codec_context.time_base = 1 / shape.frame_rate
        sound_writer = None if sound is None else _SoundWriter(output, sound, shape.duration_seconds)
        _mux(output, video, pictures, shape.frame_rate, sound_writer)


class _SoundWriter:
    """Encodes sound piece by piece, in step with the pictures."""

    def __init__(self, output: OutputContainer, sound: Sound, duration_seconds: Fraction) -> None:
        self._output = output
        self._rate_hz = sound.rate_hz
        self._samples = fit_audio(sound.samples, round(duration_seconds * sound.rate_hz))
        self._track = output.add_stream("aac", rate=sound.rate_hz, layout="stereo")
        self._track.bit_rate = _AUDIO_BITS_PER_SECOND
        self._num_done = 0

    def write_until(self, time_seconds: Fraction) -> None:
        """Encode all sound before a time."""
        end = min(self._samples.shape[1], round(time_seconds * self._rate_hz))
        if end > self._num_done:
            piece = np.ascontiguousarray(self._samples[:, self._num_done : end])
            frame = AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.rate = self._rate_hz
            frame.time_base = Fraction(1, self._rate_hz)
            frame.pts = self._num_done
            self._output.mux(self._track.encode(frame))
            self._num_done = end

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._output.mux(self._track.encode(None))


def _set_picture_format(codec: VideoCodecContext, size: FrameSize) -> None:
    codec.width = size.width
    codec.height = size.height
    codec.pix_fmt = "yuv420p"
    codec.color_range = ColorRange.MPEG
    codec.colorspace = _MATRIX_BT709
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709


def _mux(
    output: OutputContainer,
    video: VideoStream,
    pictures: Iterable[VideoFrame],
    frame_rate: Fraction,
    sound_writer: _SoundWriter | None,
) -> None:
    """Write pictures and sound in turn, so that a player need not read ahead."""
    for index, picture in enumerate(pictures):
        picture.pts = index
        picture.time_base = 1 / frame_rate
        # A decoded picture remembers its type, which the encoder would otherwise repeat.
        picture.pict_type = PictureType.NONE
        output.mux(video.encode(picture))
        if sound_writer is not None:
            sound_writer.write_until((index + 1) / frame_rate)
    output.mux(video.encode(None))
    if sound_writer is not None:
        sound_writer.finish()
