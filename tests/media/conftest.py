"""Real media files at a tiny size, written with the libraries that the room reads with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class Track:
    """Sound to write: `samples` is `[channels, n]`, float32."""

    samples: np.ndarray
    rate_hz: int
    layout: str = "stereo"
    codec: str = "aac"
    start_samples: int = 0
    gaps: dict[int, int] = field(default_factory=dict)
    """Samples of silence, which is not stored, before the sample at an index."""


@dataclass(frozen=True)
class Pictures:
    """Pictures to write: `pixels` is `[frames, height, width, 3]`, uint8, shown from `ticks[k] * time_base` on."""

    pixels: np.ndarray
    rate: Fraction = Fraction(24)
    ticks: Sequence[int] | None = None
    time_base: Fraction | None = None
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    matrix: Colorspace = Colorspace.ITU709
    full_range: bool = False
    tagged: bool = True
    transfer: int = 1
    primaries: int = 1
    rotation: int = 0
    mirrored: bool = False
    pixel_aspect: Fraction = Fraction(1)
    title: str = ""
    options: dict[str, str] = field(default_factory=lambda: {"crf": "4", "g": "12"})


class Studio:
    """Makes media files in a folder, and reads what was put into them.

    Args:
        folder: Where the files go.
    """

    pictures = Pictures
    track = Track

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, pictures: Pictures | None = None, track: Track | None = None, **options: str) -> Path:
        """Write a file in the format that its extension says, and give its path."""
        path = self._folder / name
        with av.open(str(path), "w", options=options) as output:
            # Both tracks have to be there before the first packet.
            video = None if pictures is None else _add_video(output, pictures)
            audio = None if track is None else output.add_stream(track.codec, rate=track.rate_hz, layout=track.layout)
            if pictures is not None and video is not None:
                for frame in _video_frames(pictures):
                    output.mux(video.encode(frame))
                output.mux(video.encode())
            if track is not None and isinstance(audio, AudioStream):
                for frame in _audio_frames(track):
                    output.mux(audio.encode(frame))
                output.mux(audio.encode())
        return path

    def numbered(self, count: int) -> np.ndarray:
        """Draw pictures with their index on them, in bars that `read_numbers` reads."""
        bits = (np.arange(count)[:, None] >> np.arange(8)) & 1
        row = np.where(bits, 235, 20).astype(np.uint8).repeat(8, axis=1)
        return np.broadcast_to(row[:, None, :, None], (count, 32, 64, 3)).copy()

    def read_numbers(self, frames: np.ndarray) -> list[int]:
        """Read the index off each picture, at any size."""
        columns = (np.arange(8) * 2 + 1) * frames.shape[2] // 16
        bits = frames[:, frames.shape[1] // 2, columns, 1] > 128
        return [int(number) for number in bits @ (1 << np.arange(8))]

    def tone(self, hz: float, seconds: float | Fraction, rate_hz: int) -> np.ndarray:
        """Make a sine of half scale, stereo `[2, n]`."""
        wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
        return np.stack([wave, wave]).astype(np.float32)

    def pitch_of(self, samples: np.ndarray, rate_hz: int) -> float:
        """Find the strongest frequency of mono samples, in Hz."""
        size = 1 << 18
        return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size)).argmax() * rate_hz / size)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def _add_video(output: OutputContainer, pictures: Pictures) -> VideoStream:
    stream = output.add_stream(pictures.codec, rate=pictures.rate, options=pictures.options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = pictures.pixels.shape[1:3]
    stream.pix_fmt = pictures.pix_fmt
    stream.metadata["title"] = pictures.title
    stream.codec_context.time_base = pictures.time_base or 1 / pictures.rate
    stream.codec_context.sample_aspect_ratio = pictures.pixel_aspect
    if pictures.rotation or pictures.mirrored:
        stream.set_display_rotation(pictures.rotation, hflip=pictures.mirrored)
    if pictures.tagged:
        stream.codec_context.color_range = _range_of(pictures)
        stream.codec_context.colorspace = {Colorspace.ITU709: 1, Colorspace.ITU601: 6}[pictures.matrix]
        stream.codec_context.color_trc = pictures.transfer
        stream.codec_context.color_primaries = pictures.primaries
    return stream


def _range_of(pictures: Pictures) -> ColorRange:
    return ColorRange.JPEG if pictures.full_range else ColorRange.MPEG


def _video_frames(pictures: Pictures) -> list[VideoFrame]:
    ticks = pictures.ticks or range(len(pictures.pixels))
    frames = []
    for tick, pixels in zip(ticks, pictures.pixels, strict=True):
        frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format=pictures.pix_fmt,
            dst_colorspace=pictures.matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=_range_of(pictures),
            interpolation=ACCURATE,
        )
        frame.pts = tick
        frame.time_base = pictures.time_base or 1 / pictures.rate
        frames.append(frame)
    return frames


def _audio_frames(track: Track) -> list[AudioFrame]:
    starts = sorted({0, *track.gaps, track.samples.shape[1]})
    pts = track.start_samples
    frames = []
    for start, stop in pairwise(starts):
        pts += track.gaps.get(start, 0)
        for begin in range(start, stop, 1024):
            samples = np.ascontiguousarray(track.samples[:, begin : min(stop, begin + 1024)])
            frame = _audio_frame(samples, track)
            frame.rate = track.rate_hz
            frame.time_base = Fraction(1, track.rate_hz)
            frame.pts = pts
            pts += samples.shape[1]
            frames.append(frame)
    return frames


def _audio_frame(samples: np.ndarray, track: Track) -> AudioFrame:
    if track.codec in ("pcm_s16le", "flac"):
        packed = np.rint(samples * 32767).astype(np.int16).T.reshape(1, -1)
        return AudioFrame.from_ndarray(np.ascontiguousarray(packed), format="s16", layout=track.layout)
    # Packed samples, because PyAV 18 does not take 8 channels in planes.
    packed = np.ascontiguousarray(samples.T.reshape(1, -1))
    return AudioFrame.from_ndarray(packed, format="flt", layout=track.layout)
