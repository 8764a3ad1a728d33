"""Sound that is played faster or slower: its pitch, its level and its place in time."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.media import stretch_audio

if TYPE_CHECKING:
    from tests.media.conftest import Studio

RATE_HZ = 16000


def voice(hz: float, seconds: float) -> np.ndarray:
    """Make a low sound rich in harmonics, stereo `[2, n]`."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * hz * k * times + k) / k for k in range(1, 20))
    return np.tile(0.2 * wave, (2, 1)).astype(np.float32)


def first_loud(samples: np.ndarray, level: float) -> float:
    """Find when a side first reaches a level, in seconds."""
    assert np.abs(samples).max() > level
    return float((np.abs(samples) > level).argmax()) / RATE_HZ


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.8, 1.001, 1.25, 2.0, 3.5])
def test_stretched_sound_keeps_its_pitch_and_level_and_has_the_length_asked_for(
    studio: "Studio", factor: float
) -> None:
    num_samples = round(2 * RATE_HZ * factor)
    for hz, sound in ((1000, studio.tone(1000, 2, RATE_HZ)), (110, voice(110, 2))):
        stretched = stretch_audio(sound, rate_hz=RATE_HZ, num_samples=num_samples)

        assert stretched.shape == (2, num_samples)
        assert stretched.dtype == np.float32
        middle = stretched[0, num_samples // 4 : 3 * num_samples // 4]
        assert studio.pitch_of(middle, RATE_HZ) == pytest.approx(hz, rel=0.005)
        # From its first moment to its last.
        for part in (stretched[0, : num_samples // 20], middle, stretched[0, -num_samples // 20 :]):
            assert np.sqrt((part**2).mean()) == pytest.approx(np.sqrt((sound[0] ** 2).mean()), rel=0.15)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_a_moment_of_stretched_sound_stays_within_a_frame_of_its_place(studio: "Studio", factor: float) -> None:
    envelope = np.exp(-(((np.arange(3 * RATE_HZ) / RATE_HZ - 2) / 0.06) ** 2))
    burst = (studio.tone(700, 3, RATE_HZ) * envelope).astype(np.float32)

    stretched = stretch_audio(burst, rate_hz=RATE_HZ, num_samples=round(3 * RATE_HZ * factor))

    energy = stretched[0] ** 2
    centre = (energy * np.arange(len(energy))).sum() / energy.sum() / RATE_HZ
    assert centre == pytest.approx(2 * factor, abs=0.005)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_a_click_is_neither_lost_nor_more_than_30_milliseconds_away(factor: float) -> None:
    noise = np.random.default_rng(0).standard_normal(3 * RATE_HZ)
    for second in np.linspace(0.3, 2.7, 4):
        for floor in (0, 1e-3):
            click = floor * noise
            click[round(second * RATE_HZ) :][: RATE_HZ // 500] += 0.9
            sound = np.tile(click, (2, 1)).astype(np.float32)

            stretched = stretch_audio(sound, rate_hz=RATE_HZ, num_samples=round(3 * RATE_HZ * factor))

            assert first_loud(stretched[0], 0.15) == pytest.approx(second * factor, abs=0.03)


def test_sides_stay_apart_and_in_step(studio: "Studio") -> None:
    sound = studio.tone(1000, 1, RATE_HZ) * np.array([[1.0], [-0.5]], np.float32)

    stretched = stretch_audio(sound, rate_hz=RATE_HZ, num_samples=20000)

    np.testing.assert_allclose(stretched[1], -0.5 * stretched[0], atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 100])
def test_next_to_nothing_can_be_stretched(length: int) -> None:
    assert stretch_audio(np.ones((2, length), np.float32), rate_hz=RATE_HZ, num_samples=300).shape == (2, 300)
    assert stretch_audio(np.ones((2, 300), np.float32), rate_hz=RATE_HZ, num_samples=length).shape == (2, length)


def test_sound_of_the_right_length_is_not_touched(studio: "Studio") -> None:
    samples = studio.tone(440, 0.1, RATE_HZ)

    np.testing.assert_array_equal(stretch_audio(samples, rate_hz=RATE_HZ, num_samples=1600), samples)
