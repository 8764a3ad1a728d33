"""Plays sound faster or slower at the same pitch.

Short windows are taken from the sound and laid into the result one after the other. Each may move a little from its
place, to where it best goes on with what the last one ends in; none moves further, so that no moment drifts.

Source: Verhelst and Roelands 1993 (WSOLA), with windows that overlap to three quarters in the result, so that down to
half the length no sample of the sound falls between two of them.
"""

import numpy as np

_WINDOW_SECONDS = 0.04
_OVERLAP = 4
# Half the longest period that is kept whole: that of 62.5 Hz.
_SEARCH_SECONDS = 0.008
# What the furthest move costs, of a perfect fit. Where nothing fits better, as in silence, windows stay in place.
_COST_OF_MOVING = 0.02
# Keeps fits finite in silence: the energy of a window at -120 dBFS, some 1e-9.
_LEAST_ENERGY = 1e-9


def stretch_audio(samples: np.ndarray, *, rate_hz: int, num_samples: int) -> np.ndarray:
    """Play sound faster or slower at the same pitch, so that it lasts exactly `num_samples`.

    Args:
        samples: Stereo `[2, n]`, float32.
        rate_hz: Its rate, which decides over how long a time the waveform is kept intact.
        num_samples: Length of the result.

    Returns:
        Stereo `[2, num_samples]`, float32. From half to double length, a moment sits within 30 ms of its place.
    """
    if samples.shape[1] == num_samples:
        return samples
    if samples.shape[1] == 0 or num_samples == 0:
        return np.zeros((samples.shape[0], num_samples), np.float32)
    hop = round(rate_hz * _WINDOW_SECONDS / _OVERLAP)
    length = hop * _OVERLAP
    window = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)
    begins = _Begins(samples, length, round(rate_hz * _SEARCH_SECONDS))
    # The first windows begin before the result, so that its first sample lies under as many as every other.
    lead = length - hop
    stretched = np.zeros((samples.shape[0], num_samples + lead + length), np.float32)
    tempo = samples.shape[1] / num_samples
    for begin in range(0, num_samples + lead, hop):
        middle = (begin - lead + length / 2) * tempo
        stretched[:, begin : begin + length] += begins.next(round(middle - length / 2), hop) * window
    # Windows of this shape that overlap so add up to half their number.
    return stretched[:, lead : lead + num_samples] * np.float32(2 / _OVERLAP)


class _Begins:
    """Decides where in the sound each window is taken from.

    Args:
        samples: The sound `[2, n]`.
        length: Of a window.
        reach: How far a window may move from its place.
    """

    def __init__(self, samples: np.ndarray, length: int, reach: int) -> None:
        self._length, self._reach = length, reach
        self._padding = 2 * length + reach
        self._samples = np.pad(samples, ((0, 0), (self._padding, self._padding)))
        self._mono = self._samples.mean(axis=0, dtype=np.float64)
        self._energy = np.concatenate(([0.0], np.cumsum(self._mono**2)))
        self._cost = _COST_OF_MOVING * np.abs(np.arange(-reach, reach + 1)) / reach
        self._size = 1 << (length + 2 * reach - 1).bit_length()
        self._last: int | None = None

    def next(self, place: int, hop: int) -> np.ndarray:
        """Give the window `[2, length]` that belongs at `place`, `hop` samples of the result after the last one."""
        last_place = self._mono.size - self._length - self._reach
        begin = min(max(place + self._padding, self._reach), last_place)
        if self._last is not None:
            begin += self._move(begin, self._last + hop)
        self._last = begin
        return self._samples[:, begin : begin + self._length]

    def _move(self, begin: int, expected: int) -> int:
        """Find how far from `begin` the sound is most like what follows in it at `expected`."""
        length, reach, size = self._length, self._reach, self._size
        wanted = self._mono[expected : expected + length]
        around = self._mono[begin - reach : begin + length + reach]
        spectrum = np.fft.rfft(around, size) * np.fft.rfft(wanted, size).conj()
        likeness = np.fft.irfft(spectrum, size)[: 2 * reach + 1]
        ends = self._energy[begin - reach + length : begin + reach + length + 1]
        energy = ends - self._energy[begin - reach : begin + reach + 1]
        fit = likeness / np.sqrt((energy + _LEAST_ENERGY) * ((wanted**2).sum() + _LEAST_ENERGY))
        return int((fit - self._cost).argmax()) - reach
