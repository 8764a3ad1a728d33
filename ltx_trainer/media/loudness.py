"""Measures loudness and true peak, as sound goes by."""

from collections.abc import Iterator
from fractions import Fraction

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.filter import Graph

BLOCK_SECONDS = Fraction(2, 5)
"""Length of the blocks that loudness is measured in; a shorter sound has none. Source: ITU-R BS.1770-4, annex 1."""

_GATE_LUFS = -70.0
# Of the rate at which peaks between samples show. Source: ITU-R BS.1770-4, annex 2.
_OVERSAMPLING = 4


class LoudnessMeter:
    """Measures the integrated loudness and the true peak of stereo sound, in a memory that does not grow.

    Source: ITU-R BS.1770-4 and EBU R 128; the loudness is that of FFmpeg's `ebur128`.

    Args:
        rate_hz: Of the sound.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._num_in = 0
        self._lufs = _GATE_LUFS
        self._true_peak = 0.0
        self._oversampler = AudioResampler("flt", None, _OVERSAMPLING * rate_hz)
        self._graph = Graph()
        source = self._graph.add_abuffer(
            sample_rate=rate_hz, format="flt", layout="stereo", time_base=Fraction(1, rate_hz)
        )
        meter = self._graph.add("ebur128", "metadata=1")
        self._graph.link_nodes(source, meter, self._graph.add("abuffersink")).configure()

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples `[2, n]`, float32; pieces of about a second cost least."""
        if not samples.size:
            return
        packed = np.ascontiguousarray(samples.T.reshape(1, -1), np.float32)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout="stereo")
        frame.rate, frame.pts, frame.time_base = self._rate_hz, self._num_in, Fraction(1, self._rate_hz)
        self._num_in += samples.shape[1]
        self._true_peak = max(self._true_peak, float(np.abs(packed).max()))
        self._watch_peaks(frame)
        self._graph.push(frame)
        self._read()

    def finish(self) -> tuple[float | None, float]:
        """Give the loudness in LUFS, and the true peak as a factor of full scale.

        The loudness is None where no block of 0.4 s is above -70 LUFS.
        """
        if self._num_in:
            self._watch_peaks(None)
            self._graph.push(None)
            self._read()
        return (self._lufs if self._lufs > _GATE_LUFS else None), self._true_peak

    def _watch_peaks(self, frame: AudioFrame | None) -> None:
        for piece in self._oversampler.resample(frame):
            self._true_peak = max(self._true_peak, float(np.abs(piece.to_ndarray()).max(initial=0)))

    def _read(self) -> None:
        """Note what the meter says last."""
        for frame in _drained(self._graph):
            self._lufs = float(frame.metadata.get("lavfi.r128.I", self._lufs))


def _drained(graph: Graph) -> Iterator[AudioFrame]:
    """Give the frames that a graph has ready."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, AudioFrame), "an audio graph gives audio"
        yield frame
