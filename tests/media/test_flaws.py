"""Silence and clipping, found where they were put."""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.media import AudioScan, decode_audio, scan_audio
from ltx_trainer.media.flaws import SilenceFinder
from ltx_trainer.media.loudness import LoudnessMeter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.media.conftest import Studio

RATE_HZ = 16000


def scanned(path: "Path") -> AudioScan:
    scan = scan_audio(path, rate_hz=RATE_HZ)
    assert scan is not None
    return scan


def seconds_of(scan: AudioScan) -> list[tuple[float, float]]:
    return [(float(begin), float(end)) for begin, end in scan.silences]


def test_silence_of_a_second_is_found_in_the_middle_and_at_both_ends(studio: "Studio") -> None:
    sound = studio.tone(1000, 8, 48000)
    for begin, end in ((0, 1.2), (2, 2.9), (4, 5.5), (6.5, 8)):
        sound[:, round(begin * 48000) : round(end * 48000)] *= 1e-3
    path = studio.write("pauses.wav", track=studio.track(sound, 48000, codec="pcm_s16le"))

    assert seconds_of(scanned(path)) == [
        (pytest.approx(begin, abs=0.002), pytest.approx(end, abs=0.002))
        for begin, end in ((0, 1.2), (4, 5.5), (6.5, 8))
    ]


def test_one_side_that_sounds_is_no_silence(studio: "Studio") -> None:
    sound = studio.tone(1000, 2, RATE_HZ) * np.array([[0.0], [0.01]], np.float32)
    assert scanned(studio.write("a.wav", track=studio.track(sound, RATE_HZ, codec="pcm_s16le"))).silences == ()


def test_a_gap_in_the_file_is_silence_on_the_files_clock(studio: "Studio") -> None:
    gap = studio.track(
        studio.tone(1000, 1, 48000), 48000, codec="pcm_s16le", start_samples=9600, gaps={24576: 3 * 48000}
    )
    path = studio.write("gap.mkv", track=gap)
    scan = scanned(path)

    begin = 0.2 + 24576 / 48000
    assert seconds_of(scan) == [(pytest.approx(begin, abs=0.005), pytest.approx(begin + 3, abs=0.005))]
    assert scan.duration_seconds == pytest.approx(4, abs=0.002)
    meter = LoudnessMeter(RATE_HZ)
    meter.add(decode_audio(path, start_seconds=scan.start_seconds, span_seconds=Fraction(4), rate_hz=RATE_HZ))
    assert scan.loudness_lufs == pytest.approx(meter.finish()[0], abs=0.3)


def test_a_silent_track_is_silent_from_begin_to_end(studio: "Studio") -> None:
    path = studio.write("silent.mp4", track=studio.track(np.zeros((2, 96000), np.float32), 48000))
    scan = scanned(path)

    assert scan.is_silent
    assert scan.silences == ((0, scan.duration_seconds),)
    assert (scan.loudness_lufs, scan.clipped) == (None, 0)


def test_a_sound_between_two_pieces_of_silence_parts_them() -> None:
    finder = SilenceFinder(10)
    finder.add(-5, np.zeros((2, 12)))
    finder.add(7, np.full((2, 1), 0.5))
    finder.add(8, np.zeros((2, 3)))
    finder.add(30, np.zeros((2, 3)))

    assert finder.finish(33) == ((Fraction(-1, 2), Fraction(7, 10)), (Fraction(8, 10), Fraction(33, 10)))


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le", "flac"])
def test_places_at_full_scale_are_counted_by_channel(studio: "Studio", codec: str) -> None:
    sound = studio.tone(1000, 1, 48000)
    # Across two frames; two samples; both sides; the lower end; a long one.
    for side, begin, count, level in (
        (0, 1022, 4, 1),
        (0, 3000, 2, 1),
        (0, 5000, 3, 1),
        (1, 5000, 3, -1),
        (1, 9000, 5000, 1),
    ):
        sound[side, begin : begin + count] = level
    path = studio.write("clipped.mkv", track=studio.track(sound, 48000, codec=codec))

    assert scanned(path).clipped == 4


def test_a_full_scale_tone_is_not_clipped_and_one_beyond_it_is(studio: "Studio") -> None:
    full = 2 * studio.tone(997, 1, 48000)
    for gain, places in ((1, 0), (1.5, 4 * 997)):
        sound = (full * gain).clip(-1, 1)
        path = studio.write("tone.wav", track=studio.track(sound, 48000, codec="pcm_s16le"))
        assert scanned(path).clipped == places


def test_eight_planar_channels_are_looked_at(studio: "Studio") -> None:
    channels = np.repeat(studio.tone(100, 0.5, 48000)[:1], 8, axis=0)
    for gain, is_clipped in ((1, False), (4, True)):
        sound = (gain * channels).clip(-1, 1)
        path = studio.write("surround.mp4", track=studio.track(sound, 48000, layout="7.1"))
        assert (scanned(path).clipped > 0) == is_clipped
