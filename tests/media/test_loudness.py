"""Loudness and true peak, held against signals of which they are known."""

from collections.abc import Sequence

import numpy as np
import pytest

from ltx_trainer.media.loudness import LoudnessMeter


def sine(decibels: float, seconds: float, rate_hz: int, hz: float = 1000) -> np.ndarray:
    """Make a sine whose peak is at a level below full scale, in mono."""
    return 10 ** (decibels / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def measure(left: np.ndarray, right: np.ndarray, rate_hz: int, pieces: int = 1) -> tuple[float | None, float]:
    meter = LoudnessMeter(rate_hz)
    for piece in np.array_split(np.stack((left, right)).astype(np.float32), pieces, axis=1):
        meter.add(piece)
    return meter.finish()


@pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
def test_a_sine_on_both_sides_is_as_loud_as_its_peak(rate_hz: int) -> None:
    # EBU Tech 3341, test 1: 1 kHz at -23 dBFS on both sides is at -23 LUFS, give or take 0.1.
    tone = sine(-23, 3, rate_hz)
    assert measure(tone, tone, rate_hz)[0] == pytest.approx(-23, abs=0.1)


def test_one_side_alone_is_three_decibels_softer() -> None:
    tone = sine(-23, 3, 48000)
    assert measure(tone, 0 * tone, 48000)[0] == pytest.approx(-26.01, abs=0.1)


def test_loudness_is_that_of_the_ear_and_not_of_the_power() -> None:
    # Of the weighting of BS.1770-4 at 48 kHz: 25 Hz is some 10 dB down, 4 kHz some 3 dB up, against 1 kHz.
    low, high = sine(-20, 3, 48000, 25), sine(-20, 3, 48000, 4000)
    assert (measure(low, low, 48000)[0] or 0) < -28
    assert (measure(high, high, 48000)[0] or -99) > -18


@pytest.mark.parametrize(
    "levels", [[(-36, 4), (-23, 24), (-36, 4)], [(-72, 4), (-23, 10), (-72, 4)], [(-23, 4), (-120, 9)]]
)
def test_what_is_soft_beside_the_rest_does_not_count(levels: Sequence[tuple[float, float]]) -> None:
    # EBU Tech 3341, tests 3 and 4, shortened: the gates.
    tone = np.concatenate([sine(decibels, seconds, 16000) for decibels, seconds in levels])
    assert measure(tone, tone, 16000)[0] == pytest.approx(-23, abs=0.15)


@pytest.mark.parametrize(("decibels", "seconds"), [(-10, 0.39), (-75, 3), (-200, 3)])
def test_what_is_too_short_or_too_soft_has_no_loudness(decibels: float, seconds: float) -> None:
    tone = sine(decibels, seconds, 16000)
    loudness_lufs, true_peak = measure(tone, tone, 16000)
    assert loudness_lufs is None
    assert true_peak == pytest.approx(10 ** (decibels / 20), rel=0.03)


def test_nothing_has_neither() -> None:
    assert LoudnessMeter(16000).finish() == (None, 0)


@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_the_true_peak_lies_between_the_samples(rate_hz: int) -> None:
    # EBU Tech 3341, test 16: a quarter of the rate at 45 degrees is sampled 3 dB below its peak; +0.2 and -0.4 dB.
    phase = np.pi / 2 * np.arange(rate_hz) + np.pi / 4
    wave = 0.5 * np.sin(phase) * np.hanning(rate_hz)
    assert np.abs(wave).max() == pytest.approx(0.5 * np.sqrt(0.5), rel=1e-3)
    _, true_peak = measure(0 * wave, wave, rate_hz)
    assert -0.4 < 20 * np.log10(true_peak / 0.5) < 0.2


def test_a_true_peak_in_the_last_samples_is_seen() -> None:
    burst = np.concatenate([np.zeros(16000), np.sin(np.pi / 2 * np.arange(12) + np.pi / 4) * np.hanning(12)])
    assert np.abs(burst).max() < 0.7
    assert measure(burst, burst, 16000)[1] > 0.8


def test_pieces_do_not_matter() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 40000))
    assert measure(noise[0], noise[1], 16000) == measure(noise[0], noise[1], 16000, pieces=77)
