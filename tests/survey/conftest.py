"""Clips with what was seen and heard of them, and tiny videos to look at."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.artifacts import Clip, Footage, MediaKind, PictureFacts, Role, SoundFacts, Soundtrack, SourceFacts
from ltx_trainer.artifacts import SourceFile as Source
from ltx_trainer.digests import file_sha256
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media import write_video
from ltx_trainer.survey import Fingerprint, Glance, Glimpse, SurveyedClip, Waveform

RATE = Fraction(24)
RATE_HZ = 16000
OWN, TARGET = FrameSize(128, 128), FrameSize(64, 64)


@pytest.fixture
def surveyed() -> Callable[..., SurveyedClip]:
    """Give a function that makes a clip of four seconds of a file of its own; nothing is on disk."""

    def make(
        name: str,
        caption: str | None = None,
        *,
        file: str | None = None,
        digest: str | None = None,
        begin: float = 0,
        num_frames: int = 96,
        own: FrameSize = OWN,
        size: FrameSize = TARGET,
        moving: float | None = 0.5,
        lost: float | None = 0.0,
        cut_off: float = 0.0,
        prints: Sequence[Fingerprint] = (),
        peaks: Sequence[int] | None = None,
        gain: float = 1.0,
        held_out: bool = False,
        lacks_caption: bool = False,
        cuts: Sequence[tuple[Fraction, Fraction]] = (),
        seconds: Fraction = Fraction(5),
    ) -> SurveyedClip:
        kind = MediaKind.IMAGE if num_frames == 1 else MediaKind.VIDEO
        source = Source(file or f"{name}.mp4", Path("nowhere"), digest or f"digest of {file or name}", kind)
        shape = ClipShape(num_frames, size, RATE)
        footage = Footage(source, Fraction(begin), shape.duration_seconds, shape)
        sound = Soundtrack(
            source, Fraction(begin), footage.span_seconds, shape.duration_seconds, preserve_pitch=True, gain=gain
        )
        waveforms = {} if peaks is None else {Role.TARGET: Waveform(tuple(peaks))}
        own_prints = tuple(prints) or (Fingerprint(hash(name) & (2**64 - 1), bytes(108)),)
        return SurveyedClip(
            Clip(
                name,
                f"a caption of {name}, and of nothing else" if caption is None else caption,
                {Role.TARGET: footage},
                {Role.TARGET: sound} if waveforms else {},
            ),
            {
                source.sha256: SourceFacts(
                    PictureFacts(own, 120, seconds, tuple(cuts)), SoundFacts(44100, 1, Fraction(5), -20.0, 0.5)
                )
            },
            Glimpse({Role.TARGET: Glance((b"jpeg",), own_prints, moving, lost, cut_off)}, waveforms),
            held_out=held_out,
            lacks_caption=lacks_caption,
        )

    return make


@pytest.fixture
def many(surveyed: Callable[..., SurveyedClip]) -> Callable[..., list[SurveyedClip]]:
    """Give a function that makes clips alike, of files of their own."""
    return lambda count, **facts: [surveyed(f"clip {index}", **facts) for index in range(count)]


def picture(seed: int, width: int = 160, height: int = 96) -> np.ndarray:
    """Draw smooth blobs, RGB `[height, width, 3]`, uint8."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    drawn = np.zeros((height, width, 3))
    for _ in range(12):
        row, column, radius = generator.uniform(0, 1), generator.uniform(0, 1), generator.uniform(0.05, 0.3)
        blob = np.exp(-((down - row) ** 2 + (across - column) ** 2) / radius**2)
        drawn += blob[..., None] * generator.uniform(-120, 120, 3)
    return (128 + drawn).clip(0, 255).astype(np.uint8)


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., tuple[Footage, FrameSize]]:
    """Give a function that writes frames, and gives all of them as footage with their own size."""

    def write(
        name: str, frames: np.ndarray, size: FrameSize, audio: np.ndarray | None = None
    ) -> tuple[Footage, FrameSize]:
        path = tmp_path / f"{name}.mp4"
        write_video(path, frames, RATE, audio=audio, audio_rate_hz=None if audio is None else RATE_HZ)
        source = Source(path.name, path, file_sha256(path), MediaKind.VIDEO)
        shape = ClipShape(len(frames), size, RATE)
        own = FrameSize(frames.shape[2], frames.shape[1])
        return Footage(source, Fraction(0), shape.duration_seconds, shape), own

    return write
