"""The ear of the audio encoder: a waveform to a log-mel spectrogram.

Shapes: n samples, t spectrogram frames, m mel bins; leading dimensions pass through.
"""

import math
from functools import cache

import torch
from torch import Tensor

WINDOW_LENGTH = 1024
QUIETEST = 1e-5

LINEAR_HZ_PER_MEL = 200 / 3
LOG_FROM_HZ = 1000.0
LOG_STEP = math.log(6.4) / 27


def log_mel(waveform: Tensor, *, rate_hz: int, hop_length: int, mel_bins: int) -> Tensor:
    """Turn sound into the natural logarithm of mel magnitudes `[.. t m]`, floored at 1e-5.

    Windows are centred, the ends reflected: n samples make `n // hop_length + 1` frames.

    Args:
        waveform: Samples in [-1, 1] `[.. n]`, more than half a window (512) of them.
        rate_hz: Their rate; the bins reach up to half of it.
        hop_length: Samples from one frame to the next.
        mel_bins: Number of triangular filters.
    """
    flat = waveform.reshape(-1, waveform.shape[-1])
    spectrum = torch.stft(
        flat,
        n_fft=WINDOW_LENGTH,
        hop_length=hop_length,
        window=torch.hann_window(WINDOW_LENGTH, dtype=flat.dtype, device=flat.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    mel = spectrum.abs().mT @ _mel_filters(rate_hz, mel_bins).to(flat)
    return mel.clamp(min=QUIETEST).log().unflatten(0, waveform.shape[:-1])


@cache
def _mel_filters(rate_hz: int, mel_bins: int) -> Tensor:
    """Give triangular filters of equal area, evenly spaced in mel `[frequencies m]`.

    Source: the scale and the area normalisation of Slaney's Auditory Toolbox (1998).
    """
    frequencies = torch.linspace(0, rate_hz / 2, WINDOW_LENGTH // 2 + 1, dtype=torch.float64)
    corners = torch.linspace(0, _mel(rate_hz / 2), mel_bins + 2, dtype=torch.float64)
    left, peak, right = (_hertz(corners[start : start + mel_bins]) for start in range(3))
    rising = (frequencies[:, None] - left) / (peak - left)
    falling = (right - frequencies[:, None]) / (right - peak)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (right - left)).float()


def _mel(hertz: float) -> float:
    """Linear below 1 kHz, logarithmic above."""
    if hertz < LOG_FROM_HZ:
        return hertz / LINEAR_HZ_PER_MEL
    return LOG_FROM_HZ / LINEAR_HZ_PER_MEL + math.log(hertz / LOG_FROM_HZ) / LOG_STEP


def _hertz(mel: Tensor) -> Tensor:
    first_log = LOG_FROM_HZ / LINEAR_HZ_PER_MEL
    return torch.where(mel < first_log, mel * LINEAR_HZ_PER_MEL, LOG_FROM_HZ * ((mel - first_log) * LOG_STEP).exp())
