"""Decodes sound to stereo at one rate, placed by its timestamps, and fits it to a length."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler

from ltx_trainer.errors import MediaError
from ltx_trainer.media.container import audio_stream_of, opened, timed_frames

# Containers round timestamps, to 1 ms in Matroska; what differs by more is a gap.
_TIMESTAMP_SLACK_SECONDS = Fraction(1, 100)
# Sound after the span that the resampler's filter looks at, so that the span's end does not ring.
_LOOKAHEAD_SECONDS = Fraction(1, 10)

# Share of each input channel in the left and the right, before each side is scaled to a sum of 1. The effects channel
# is left out. Source: ITU-R BS.775-4, annex 4, with the heights treated as surrounds.
_SIDE = math.sqrt(0.5)
_SHARES = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "DL": (1.0, 0.0),
    "DR": (0.0, 1.0),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "FC": (_SIDE, _SIDE),
    "BC": (0.5, 0.5),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
    **dict.fromkeys(("BL", "SL", "TFL", "TBL", "TSL", "WL"), (_SIDE, 0.0)),
    **dict.fromkeys(("BR", "SR", "TFR", "TBR", "TSR", "WR"), (0.0, _SIDE)),
}
# What the channels of a file that does not name them usually are.
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@dataclass(frozen=True)
class SoundChunk:
    """A piece of a run of sound without gaps.

    Attributes:
        run_start_seconds: Time of the run's first sample on the file's clock.
        offset: Samples of the run before this piece.
        samples: Stereo `[2, n]`, float32.
    """

    run_start_seconds: Fraction
    offset: int
    samples: np.ndarray


def decode_audio(path: Path, *, start_seconds: Fraction, span_seconds: Fraction, rate_hz: int) -> np.ndarray:
    """Decode a span of sound, each sample at its true time; where the file has none there is silence.

    Args:
        path: A video or audio file with sound.
        start_seconds: Begin of the span on the file's own clock.
        span_seconds: Length of the span.
        rate_hz: Sample rate of the result.

    Returns:
        Stereo `[2, round(span_seconds * rate_hz)]`, float32. Mono stands on both sides; more channels are mixed with
        weights that sum to 1 on each side.

    Raises:
        MediaError: The file has no sound, or it is damaged, or its channels are unknown.
    """
    samples = np.zeros((2, round(span_seconds * rate_hz)), np.float32)
    end_seconds = start_seconds + span_seconds + _LOOKAHEAD_SECONDS
    with opened(path) as container:
        stream = audio_stream_of(container, path.name)
        if stream is None:
            raise MediaError(f"{path.name} has no audio track.")
        frames = timed_frames(container, stream, path.name, start_seconds=start_seconds)
        wanted = takewhile(lambda timed: timed[0] < end_seconds, frames)
        for chunk in stereo_chunks(wanted, rate_hz=rate_hz, name=path.name):
            first = round((chunk.run_start_seconds - start_seconds) * rate_hz) + chunk.offset
            _place(chunk.samples, samples, first)
    return samples


def stereo_chunks(frames: Iterable[tuple[Fraction, AudioFrame]], *, rate_hz: int, name: str) -> Iterator[SoundChunk]:
    """Resample frames to stereo; a gap in their times, or another format, starts a new run.

    Raises:
        MediaError: The channels are unknown, or samples are not finite.
    """
    run: _Run | None = None
    for time_seconds, frame in frames:
        if run is None or not run.goes_on_with(time_seconds, frame):
            if run is not None:
                yield from run.end()
            run = _Run(time_seconds, frame, rate_hz, name)
        yield from run.add(frame)
    if run is not None:
        yield from run.end()


def fit_audio(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut sound `[2, n]` at the end, or append silence, to `num_samples`."""
    fitted = np.zeros((2, num_samples), np.float32)
    _place(samples, fitted, 0)
    return fitted


class _Run:
    """Frames that follow each other without a gap, on their way to stereo at one rate."""

    def __init__(self, start_seconds: Fraction, frame: AudioFrame, rate_hz: int, name: str) -> None:
        self._start_seconds = start_seconds
        self._format = _format_of(frame)
        self._source_rate_hz = frame.sample_rate
        self._weights = _mixing_weights(frame.layout, name)
        # Packed samples: PyAV 18 reads past the planes of planar frames with 8 channels or more.
        # A quarter of a second at a time costs less than the source's small frames.
        self._resampler = AudioResampler("flt", None, rate_hz, rate_hz // 4)
        self._name = name
        self._num_in = 0
        self._num_out = 0

    def goes_on_with(self, time_seconds: Fraction, frame: AudioFrame) -> bool:
        expected = self._start_seconds + Fraction(self._num_in, self._source_rate_hz)
        return abs(time_seconds - expected) <= _TIMESTAMP_SLACK_SECONDS and _format_of(frame) == self._format

    def add(self, frame: AudioFrame) -> Iterator[SoundChunk]:
        self._num_in += frame.samples
        return self._chunks(self._resampler.resample(frame))

    def end(self) -> Iterator[SoundChunk]:
        return self._chunks(self._resampler.resample(None))

    def _chunks(self, resampled: Sequence[AudioFrame]) -> Iterator[SoundChunk]:
        for frame in resampled:
            samples = self._weights @ frame.to_ndarray().reshape(-1, self._weights.shape[1]).T
            if not np.isfinite(samples).all():
                raise MediaError(f"{self._name} has sound samples that are not finite numbers. Export it again.")
            yield SoundChunk(self._start_seconds, self._num_out, samples)
            self._num_out += samples.shape[1]


def _format_of(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name


def _mixing_weights(layout: AudioLayout, name: str) -> np.ndarray:
    """Give the weights `[2, channels]` of a mix to stereo."""
    channels = [channel.name for channel in layout.channels]
    if "NONE" in channels and len(channels) in _USUAL_LAYOUTS:
        channels = [channel.name for channel in AudioLayout(_USUAL_LAYOUTS[len(channels)]).channels]
    unknown = [channel for channel in channels if channel not in _SHARES]
    shares = np.array([_SHARES.get(channel, (0.0, 0.0)) for channel in channels]).T
    if unknown or not shares.sum(axis=1).all():
        raise MediaError(
            f"{name} has sound in {len(channels)} channels ({layout.name}) that cannot be mixed to stereo. "
            "Export it as mono, stereo, 5.1 or 7.1."
        )
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def _place(samples: np.ndarray, target: np.ndarray, first: int) -> None:
    """Copy samples to `target[:, first:]`, leaving out what lies outside."""
    begin, end = max(0, first), min(target.shape[1], first + samples.shape[1])
    if begin < end:
        target[:, begin:end] = samples[:, begin - first : end - first]
