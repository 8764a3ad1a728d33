"""Every kind of track, beside pictures with a flash: read as a clip, its tone and its click are where they were put."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.artifacts import Footage, MediaKind, Soundtrack, SourceFile
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media import read_pictures, read_sound, scan_audio

if TYPE_CHECKING:
    from tests.media.conftest import Studio

RATE_HZ = 16000
# Few frames cost little; sound is held to half a frame of 24 a second.
NUM_FRAMES, FRAME_RATE = 9, Fraction(6)
SECONDS = NUM_FRAMES / FRAME_RATE
HALF_A_FRAME = 1 / 48
FLASH = 3
CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}
FORMATS = {"s16": ("mkv", "pcm_s16le"), "fltp": ("mp4", "aac")}


@pytest.fixture
def flash(studio: "Studio") -> np.ndarray:
    pixels = np.zeros_like(studio.numbered(NUM_FRAMES))
    pixels[FLASH] = 255
    return pixels


def sound_of(studio: "Studio", seconds: Fraction, start: Fraction, rate_hz: int, channels: int) -> np.ndarray:
    """Make a tone with a click at the flash `[channels, n]`, of a track that starts at `start`."""
    tone = 0.4 * studio.tone(1000, seconds - start, rate_hz)[:1]
    click = round((FLASH / FRAME_RATE - start) * rate_hz)
    tone[:, click : click + rate_hz // 100] = 0.7
    return np.repeat(tone, channels, axis=0)


def read_clip(path: Path) -> tuple[np.ndarray, np.ndarray]:
    source = SourceFile(path.name, path, "", MediaKind.VIDEO)
    shape = ClipShape(NUM_FRAMES, FrameSize(64, 32), FRAME_RATE)
    sound = Soundtrack(source, Fraction(0), SECONDS, SECONDS, preserve_pitch=True, gain=1.0)
    return read_pictures(Footage(source, Fraction(0), SECONDS, shape)), read_sound(sound, RATE_HZ)


def check(studio: "Studio", path: Path, tone: tuple[float, float]) -> np.ndarray:
    """Check that a clip has its flash, and at that time its click, and between two times its tone."""
    pictures, sound = read_clip(path)
    assert int(pictures.mean(axis=(1, 2, 3)).argmax()) == FLASH
    assert sound.shape == (2, round(SECONDS * RATE_HZ))
    for side in sound:
        click = int((np.abs(side) > 0.45).argmax()) / RATE_HZ
        assert click == pytest.approx(FLASH / FRAME_RATE, abs=HALF_A_FRAME)
        begin, end = (round(time * RATE_HZ) for time in tone)
        assert studio.pitch_of(side[begin:end], RATE_HZ) == pytest.approx(1000, rel=0.01)
        assert np.sqrt((side[begin:end] ** 2).mean()) == pytest.approx(0.2 / np.sqrt(2), rel=0.1)
    return sound


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("layout", CHANNELS)
@pytest.mark.parametrize("source_hz", [8000, 22050, 44100, 48000, 96000])
def test_every_layout_rate_and_format_is_heard_in_step_and_in_tune(
    studio: "Studio", flash: np.ndarray, source_hz: int, layout: str, sample_format: str
) -> None:
    extension, codec = FORMATS[sample_format]
    samples = sound_of(studio, SECONDS, Fraction(0), source_hz, CHANNELS[layout])
    track = studio.track(samples, source_hz, layout=layout, codec=codec)
    path = studio.write(f"clip.{extension}", studio.pictures(flash, rate=FRAME_RATE), track)

    check(studio, path, (0.7, 1.3))

    scan = scan_audio(path, rate_hz=RATE_HZ)
    assert scan is not None
    assert (scan.channels, scan.rate_hz, scan.clipped) == (CHANNELS[layout], source_hz, 0)
    assert scan.duration_seconds == pytest.approx(SECONDS, abs=2 * HALF_A_FRAME)


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("layout", ["mono", "5.1"])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 5)], ids=["on time", "late"])
@pytest.mark.parametrize("end", [SECONDS - Fraction(1, 2), SECONDS + Fraction(1, 2)], ids=["shorter", "longer"])
def test_a_track_that_begins_late_or_ends_elsewhere_stays_in_step_with_silence_where_there_is_none(
    studio: "Studio", flash: np.ndarray, start: Fraction, end: Fraction, layout: str, sample_format: str
) -> None:
    extension, codec = FORMATS[sample_format]
    samples = sound_of(studio, end, start, 48000, CHANNELS[layout])
    track = studio.track(samples, 48000, layout=layout, codec=codec, start_samples=round(start * 48000))
    path = studio.write(f"clip.{extension}", studio.pictures(flash, rate=FRAME_RATE), track)

    sound = check(studio, path, (0.7, 0.95))

    scan = scan_audio(path, rate_hz=RATE_HZ)
    assert scan is not None
    # The priming of AAC, 1,024 samples, is marked in MP4 only where the track begins at 0.
    assert scan.start_seconds == pytest.approx(start, abs=0.023)
    assert scan.end_seconds == pytest.approx(end, abs=2 * HALF_A_FRAME)
    if start:
        assert np.abs(sound[:, : round(0.17 * RATE_HZ)]).max() < 1e-3
    assert np.abs(sound[:, round(1.05 * RATE_HZ) :]).max() == pytest.approx(0.2 if end > SECONDS else 0, abs=0.06)


def test_a_video_without_a_track_has_none(studio: "Studio", flash: np.ndarray) -> None:
    assert scan_audio(studio.write("clip.mp4", studio.pictures(flash, rate=FRAME_RATE)), rate_hz=RATE_HZ) is None
