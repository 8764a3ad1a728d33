"""Decodes a span of sound, and draws its outline."""

import numpy as np

from ltx_trainer import media
from ltx_trainer.artifacts import Soundtrack
from ltx_trainer.survey.facts import Waveform

NUM_PARTS = 240
"""Of a clip, each of which has a peak in its waveform."""

PEAK_STEP = 1e-4
"""Of full scale: -80 dBFS."""

SILENT_PEAK = 10
"""In steps: what no part reaches that is silent, -60 dBFS before the gain."""

SPEAKING_PEAK = 0.01
"""Of full scale: what a part reaches after the gain in which a voice may be heard, -40 dBFS."""


def listen_to(soundtrack: Soundtrack, rate_hz: int) -> Waveform:
    """Decode a span of sound and give its outline over the clip, before its gain.

    Args:
        soundtrack: Which sound, and how long it becomes.
        rate_hz: Rate at which peaks are measured: that of the file, which costs least.

    Raises:
        MediaError: The source cannot be read, or has no sound.
    """
    duration = soundtrack.span_seconds if soundtrack.is_stretched else soundtrack.duration_seconds
    samples = media.decode_audio(
        soundtrack.source.path,
        start_seconds=soundtrack.start_seconds,
        span_seconds=min(duration, soundtrack.span_seconds),
        rate_hz=rate_hz,
    )
    heard = np.abs(media.fit_audio(samples, max(NUM_PARTS, round(duration * rate_hz)))).max(axis=0)
    edges = np.arange(NUM_PARTS) * len(heard) // NUM_PARTS
    peaks = np.maximum.reduceat(heard, edges)
    return Waveform(tuple(int(peak) for peak in np.rint(peaks / PEAK_STEP)))


def silent_share(waveform: Waveform) -> float:
    """Say which share of a clip is silent."""
    return sum(peak < SILENT_PEAK for peak in waveform.peaks) / len(waveform.peaks)


def speaking_share(waveform: Waveform, gain: float) -> float:
    """Say in which share of a clip a voice may be heard."""
    return sum(peak * PEAK_STEP * gain >= SPEAKING_PEAK for peak in waveform.peaks) / len(waveform.peaks)
