"""Sound: its place in time, its channels, its length."""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.errors import MediaError
from ltx_trainer.media import decode_audio, fit_audio, scan_audio

if TYPE_CHECKING:
    from tests.media.conftest import Studio

CHANNELS = {
    "mono": ["FC"],
    "5.1": ["FL", "FR", "FC", "LFE", "BL", "BR"],
    "7.1": ["FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"],
}


def first_loud(samples: np.ndarray, level: float = 0.1) -> int:
    """Find the first sample above a level."""
    return int((np.abs(samples) > level).argmax())


@pytest.mark.parametrize("source_hz", [8000, 22050, 44100, 48000, 96000])
def test_a_tone_keeps_its_pitch_level_and_length_at_every_rate(studio: "Studio", source_hz: int) -> None:
    path = studio.write("tone.wav", track=studio.track(studio.tone(1000, 1, source_hz), source_hz, codec="pcm_s16le"))

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1), rate_hz=16000)

    assert samples.shape == (2, 16000)
    assert samples.dtype == np.float32
    assert studio.pitch_of(samples[0], 16000) == pytest.approx(1000, rel=0.001)
    np.testing.assert_allclose(samples[:, 100:-100], studio.tone(1000, 1, 16000)[:, 100:-100], atol=2e-3)


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_the_priming_of_a_late_track_of_aac_does_not_move_its_sound(studio: "Studio", extension: str) -> None:
    late = studio.track(studio.tone(1000, 0.5, 48000), 48000, start_samples=24000)
    path = studio.write(f"late.{extension}", studio.pictures(studio.numbered(24)), late)

    sound = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1), rate_hz=48000)[0]

    assert (np.abs(sound) > 0.1).argmax() / 48000 == pytest.approx(0.5, abs=1e-3)
    # What an encoder hears before an attack is heard before it too, softly.
    assert np.abs(sound[: round(0.498 * 48000)]).max() < 0.05


def test_a_late_start_is_silence_first(studio: "Studio") -> None:
    late = studio.track(studio.tone(1000, 1, 48000), 48000, codec="pcm_s16le", start_samples=9600)
    path = studio.write("late.mkv", track=late)

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(3, 2), rate_hz=16000)

    assert not samples[:, :3180].any()
    assert first_loud(samples[0]) == pytest.approx(3200, abs=8)
    assert not samples[:, 19220:].any()


def test_a_gap_is_silence_and_what_follows_keeps_its_place(studio: "Studio") -> None:
    gap = studio.track(studio.tone(1000, 1, 48000), 48000, codec="pcm_s16le", gaps={24576: 48000})
    path = studio.write("gap.mkv", track=gap)

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(2), rate_hz=48000)

    assert not samples[:, 24700:72500].any()
    assert np.abs(samples[:, 24000:24500]).max() > 0.4
    assert 24700 + first_loud(samples[0, 24700:]) == pytest.approx(24576 + 48000, abs=50)


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "avi"])
def test_a_span_inside_the_file_is_that_part_of_the_whole(studio: "Studio", container: str) -> None:
    clicks = np.zeros((2, 6 * 48000), np.float32)
    for second in range(6):
        clicks[:, second * 48000 + 24000 :][:, :480] = 0.1 + 0.1 * second
    codec = "aac" if container == "mp4" else "pcm_s16le"
    path = studio.write(f"clicks.{container}", track=studio.track(clicks, 48000, codec=codec))

    whole = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(6), rate_hz=16000)
    part = decode_audio(path, start_seconds=Fraction(13, 4), span_seconds=Fraction(5, 2), rate_hz=16000)

    np.testing.assert_allclose(part, whole[:, 52000:92000], atol=1e-3)
    assert np.abs(part[:, 4000:4160]).max() == pytest.approx(0.4, abs=0.1)


def test_a_click_stays_at_its_time_through_aac(studio: "Studio") -> None:
    click = np.zeros((2, 48000), np.float32)
    click[:, 24000:24010] = 0.9
    path = studio.write("click.mp4", track=studio.track(click, 48000))

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1), rate_hz=48000)

    assert int(np.abs(samples[0]).argmax()) == pytest.approx(24005, abs=10)


def test_outside_the_track_there_is_silence(studio: "Studio") -> None:
    path = studio.write("tone.wav", track=studio.track(studio.tone(440, 0.5, 16000), 16000, codec="pcm_s16le"))

    samples = decode_audio(path, start_seconds=Fraction(-1, 2), span_seconds=Fraction(2), rate_hz=16000)

    assert samples.shape == (2, 32000)
    assert not samples[:, :7990].any()
    assert not samples[:, 16010:].any()
    assert np.abs(samples[:, 8000:16000]).max() > 0.4


def test_mono_stands_on_both_sides_at_its_own_level(studio: "Studio") -> None:
    path = studio.write(
        "mono.wav", track=studio.track(studio.tone(440, 0.2, 16000)[:1], 16000, layout="mono", codec="pcm_s16le")
    )

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1, 5), rate_hz=16000)

    np.testing.assert_array_equal(samples[0], samples[1])
    np.testing.assert_allclose(samples, studio.tone(440, 0.2, 16000), atol=1e-4)


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_full_scale_in_every_channel_stays_full_scale(studio: "Studio", layout: str, codec: str) -> None:
    full = np.full((len(CHANNELS[layout]), 4800), 0.8, np.float32)
    path = studio.write("many.mkv", track=studio.track(full, 48000, layout=layout, codec=codec))

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1, 10), rate_hz=48000)

    np.testing.assert_allclose(samples, 0.8, atol=1e-3)


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_channels_go_to_their_side(studio: "Studio", layout: str) -> None:
    names = CHANNELS[layout]
    for heard, sides in (("FL", "left"), ("FR", "right"), ("FC", "both"), ("BL", "left"), ("LFE", "none")):
        channels = np.zeros((len(names), 4800), np.float32)
        channels[names.index(heard)] = 0.8
        path = studio.write(f"{heard}.mkv", track=studio.track(channels, 48000, layout=layout, codec="pcm_s16le"))
        left, right = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1, 20), rate_hz=48000)
        assert left.any() == (sides in ("left", "both"))
        assert right.any() == (sides in ("right", "both"))


def test_eight_channels_of_planar_aac_are_mixed(studio: "Studio") -> None:
    channels = np.repeat(studio.tone(1000, 0.5, 48000)[:1], 8, axis=0)
    path = studio.write("surround.mp4", track=studio.track(channels, 48000, layout="7.1"))

    samples = decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1, 2), rate_hz=48000)

    scan = scan_audio(path, rate_hz=48000)
    assert scan is not None
    assert scan.channels == 8
    assert np.abs(samples[:, 9000:15000]).max() == pytest.approx(0.5, abs=0.1)


def test_channels_that_nobody_names_are_refused(studio: "Studio") -> None:
    channels = np.zeros((5, 480), np.float32)
    path = studio.write("five.wav", track=studio.track(channels, 48000, layout="5 channels", codec="pcm_s16le"))

    with pytest.raises(
        MediaError, match=r"five\.wav has sound in 5 channels .* Export it as mono, stereo, 5\.1 or 7\.1"
    ):
        decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1), rate_hz=16000)


def test_a_file_without_sound_is_refused(studio: "Studio") -> None:
    path = studio.write("silent.mp4", studio.pictures(studio.numbered(3)))

    with pytest.raises(MediaError, match=r"silent\.mp4 has no audio track"):
        decode_audio(path, start_seconds=Fraction(0), span_seconds=Fraction(1), rate_hz=16000)


def test_a_track_whose_header_is_damaged_is_not_taken_for_none(studio: "Studio") -> None:
    tone = studio.track(studio.tone(1000, 1, 48000), 48000, codec="pcm_s16le")
    path = studio.write("clip.mkv", studio.pictures(studio.numbered(3)), tone)
    content = path.read_bytes()
    two_channels = b"\x9f\x81\x02"
    assert content.count(two_channels) == 1
    path.write_bytes(content.replace(two_channels, b"\x9f\x81\x00"))

    with pytest.raises(MediaError, match=r"clip\.mkv has an audio track whose header is damaged"):
        scan_audio(path, rate_hz=16000)


def test_fitting_cuts_the_end_or_adds_silence() -> None:
    samples = np.arange(1, 7, dtype=np.float32).reshape(2, 3)

    np.testing.assert_array_equal(fit_audio(samples, 2), [[1, 2], [4, 5]])
    np.testing.assert_array_equal(fit_audio(samples, 5), [[1, 2, 3, 0, 0], [4, 5, 6, 0, 0]])
