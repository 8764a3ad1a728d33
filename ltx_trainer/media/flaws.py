"""Finds silence and clipping, as sound goes by."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

SILENT = 1e-3
"""What no sample of silence reaches: -60 dBFS."""

MIN_SILENCE_SECONDS = 1
"""Pauses that are shorter belong to speech and music."""

_MIN_CLIPPED = 3
# Of 1, or of an integer's range; 16-bit samples end there. PyAV reads past the planes of frames with more channels.
_FULL_SCALE = 32767 / 32768
_MAX_PLANES = 7


class SilenceFinder:
    """Finds the spans of a second or more in which both sides stay under -60 dBFS.

    Args:
        rate_hz: Of the sound.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._spans: list[tuple[int, int]] = []
        self._quiet_since: int | None = None

    def add(self, first: int, samples: np.ndarray) -> None:
        """Take samples `[2, n]` of which the first is number `first`; what lies between two pieces is silence."""
        begin = first if self._quiet_since is None else self._quiet_since
        loud = first + np.flatnonzero(np.abs(samples).max(axis=0) >= SILENT)
        edges = np.concatenate(([begin - 1], loud))
        for index in np.flatnonzero(np.diff(edges) > MIN_SILENCE_SECONDS * self._rate_hz):
            self._spans.append((int(edges[index]) + 1, int(edges[index + 1])))
        self._quiet_since = max(begin, int(edges[-1]) + 1)

    def finish(self, end: int) -> tuple[tuple[Fraction, Fraction], ...]:
        """Give the spans in seconds, of sound that ends before sample `end`; number 0 is at 0 s."""
        if self._quiet_since is not None and end - self._quiet_since >= MIN_SILENCE_SECONDS * self._rate_hz:
            self._spans.append((self._quiet_since, end))
        return tuple((Fraction(begin, self._rate_hz), Fraction(stop, self._rate_hz)) for begin, stop in self._spans)


class ClippingCounter:
    """Counts the places where a channel stands at full scale, or beyond, for three samples or more."""

    def __init__(self) -> None:
        self.num_clipped = 0
        self._last = np.zeros((0, _MIN_CLIPPED), bool)

    def watch(self, frames: Iterator[tuple[Fraction, AudioFrame]]) -> Iterator[tuple[Fraction, AudioFrame]]:
        """Look at frames as they are decoded, before anything is done to them."""
        for time_seconds, frame in frames:
            self._count(_at_full_scale(frame))
            yield time_seconds, frame

    def _count(self, full: np.ndarray) -> None:
        """Count the runs of `[channels, n]` that reach their third sample."""
        last = self._last if len(self._last) == len(full) else np.zeros((len(full), _MIN_CLIPPED), bool)
        if not full.any():
            self._last = np.zeros_like(last)
            return
        seen = np.concatenate((last, full), axis=1)
        self.num_clipped += int((seen[:, 3:] & seen[:, 2:-1] & seen[:, 1:-2] & ~seen[:, :-3]).sum())
        self._last = seen[:, -_MIN_CLIPPED:]


def _at_full_scale(frame: AudioFrame) -> np.ndarray:
    """Tell which samples `[channels, n]` are at full scale or beyond."""
    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels > _MAX_PLANES:
        # Only the order of the samples changes.
        (frame,) = AudioResampler(frame.format.packed, None, None).resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if samples.dtype.kind == "f":
        return np.abs(samples) >= _FULL_SCALE
    if samples.dtype == np.uint8:
        return (samples == 255) | (samples <= 1)
    limit = int((1 << 8 * samples.dtype.itemsize - 1) * _FULL_SCALE)
    return (samples >= limit) | (samples <= -limit)
