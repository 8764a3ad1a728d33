"""Files that are written, read back."""

import os
import wave
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from ltx_trainer.errors import ConfigError, GeometryError
from ltx_trainer.geometry import FrameSize, midpoint_times
from ltx_trainer.media import (
    decode_audio,
    decode_frames,
    recompress_still,
    scan_audio,
    scan_video,
    write_audio,
    write_video,
)

if TYPE_CHECKING:
    from tests.media.conftest import Studio

RATES = [Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(60)]
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)])


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_a_written_video_has_exactly_the_rate_and_frames_given(
    studio: "Studio", tmp_path: Path, rate: Fraction
) -> None:
    path = tmp_path / "clip.mp4"

    write_video(path, studio.numbered(33), rate)

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames, stream.pix_fmt) == (rate, 33, "yuv420p")
        assert (stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc) == (1, 1, 1, 1)
    scan = scan_video(path, find_cuts=False)
    assert (scan.num_frames, scan.start_seconds, scan.duration_seconds) == (33, 0, 33 / rate)
    times = midpoint_times(Fraction(0), 33 / rate, 33)
    assert studio.read_numbers(decode_frames(path, times, FrameSize(64, 32))) == list(range(33))


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.5, 2.5])
def test_sound_lasts_as_long_as_the_pictures(
    studio: "Studio", tmp_path: Path, rate: Fraction, rate_hz: int, seconds: float
) -> None:
    path = tmp_path / "clip.mp4"

    write_video(path, studio.numbered(41), rate, audio=studio.tone(1000, seconds, rate_hz), audio_rate_hz=rate_hz)

    picture, sound = scan_video(path, find_cuts=False), scan_audio(path, rate_hz=rate_hz)
    assert sound is not None
    assert sound.start_seconds == picture.start_seconds == 0
    assert abs(sound.duration_seconds - picture.duration_seconds) <= Fraction(1, rate_hz)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_the_bytes_of_a_video_do_not_depend_on_the_number_of_processors(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(blocks, 3 * index, 1) for index in range(17)])
    processors = os.sched_getaffinity(0)
    one, all_of_them = tmp_path / "one.mp4", tmp_path / "all.mp4"

    write_video(all_of_them, frames, Fraction(24))
    os.sched_setaffinity(0, {min(processors)})
    try:
        write_video(one, frames, Fraction(24))
    finally:
        os.sched_setaffinity(0, processors)

    assert one.read_bytes() == all_of_them.read_bytes()


def test_a_better_quality_is_nearer_to_the_pictures_given(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    times = midpoint_times(Fraction(0), Fraction(3, 24), 3)

    def distance(crf: int) -> float:
        write_video(tmp_path / f"{crf}.mp4", frames, Fraction(24), crf=crf)
        return float(
            np.abs(decode_frames(tmp_path / f"{crf}.mp4", times, FrameSize(64, 64)).astype(int) - frames).mean()
        )

    assert distance(10) < distance(35)


def test_written_sound_keeps_its_pitch_place_and_level(studio: "Studio", tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    sound = studio.tone(1000, 2, 48000)
    sound[:, :24000] = 0

    write_video(path, studio.numbered(48), Fraction(24), audio=sound, audio_rate_hz=48000)

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(2), rate_hz=48000)
    assert int((np.abs(samples[0]) > 0.25).argmax()) == pytest.approx(24000, abs=100)
    assert studio.pitch_of(samples[0, 30000:90000], 48000) == pytest.approx(1000, rel=0.001)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)


def test_written_colours_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "patches.mp4"
    frames = np.broadcast_to(COLOURS.astype(np.uint8).repeat(16, axis=0), (4, 32, 96, 3)).copy()

    write_video(path, frames, Fraction(24))

    frame = decode_frames(path, [Fraction(0)], FrameSize(96, 32))[0]
    assert np.abs(frame[16, np.arange(6) * 16 + 8].astype(int) - COLOURS).max() <= 6


@pytest.mark.parametrize(("height", "width"), [(31, 64), (32, 63)])
def test_odd_sides_are_refused(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(GeometryError, match=rf"{width}x{height} cannot be stored as yuv420p.* Nearest: 64x32"):
        write_video(tmp_path / "clip.mp4", np.zeros((1, height, width, 3), np.uint8), Fraction(24))
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="0 frames do not make a video"):
        write_video(tmp_path / "clip.mp4", np.zeros((0, 32, 64, 3), np.uint8), Fraction(24))


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(studio: "Studio", tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("old", encoding="utf-8")

    with pytest.raises(ValueError, match="array"):
        write_video(path, studio.numbered(3).astype(np.float32), Fraction(24))

    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_wav_has_the_samples_in_16_bits_and_is_clipped_at_full_scale(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    samples = np.array([[0, 0.5, 1, 2], [0, -0.5, -1, -2]], np.float32)

    write_audio(path, samples, 24000)

    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 24000)
        levels = np.frombuffer(file.readframes(4), "<i2").reshape(4, 2).T
    np.testing.assert_array_equal(levels, [[0, 16384, 32767, 32767], [0, -16384, -32767, -32767]])
    assert [each.name for each in tmp_path.iterdir()] == ["sound.wav"]


def test_a_recompressed_still_loses_more_at_a_higher_crf() -> None:
    generator = np.random.default_rng(0)
    still = generator.integers(0, 256, (16, 16, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)

    errors = [np.abs(recompress_still(still, crf=crf).astype(int) - still).mean() for crf in (1, 20, 33, 51)]

    assert recompress_still(still, crf=33).shape == still.shape
    assert errors == sorted(errors)
    assert 2 * errors[0] < errors[-1]


def test_a_recompressed_still_is_the_same_every_time() -> None:
    still = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    np.testing.assert_array_equal(recompress_still(still, crf=33), recompress_still(still, crf=33))


def test_a_quality_that_h264_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"crf 52 is not a quality of H\.264, which takes 0 to 51"):
        recompress_still(np.zeros((32, 32, 3), np.uint8), crf=52)
