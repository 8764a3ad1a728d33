"""Latents as tokens, and where each token stands in time and space.

Shapes: b samples, c channels, f latent frames, h rows, w columns, n video tokens, t audio tokens, m mel bins.
Tokens run frame by frame, row by row, column by column. Coordinates are [start, end) bounds: time in seconds, rows and
columns in pixels.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ltx_trainer.geometry import LatentGrid, ScaleFactors


@dataclass(frozen=True)
class ModelStream:
    """One modality of a batch as the transformer sees it.

    Attributes:
        tokens: Noisy where generated, clean where given `[b n c]`.
        timesteps: Noise level of each token in [0, 1], 0 where given `[b n]`.
        sigma: Noise level of each sample in [0, 1], 0 for a frozen modality `[b]`.
        coordinates: `[b 3 n 2]` for video, `[b 1 n 2]` for audio.
    """

    tokens: Tensor
    timesteps: Tensor
    sigma: Tensor
    coordinates: Tensor


def video_tokens(latents: Tensor) -> Tensor:
    """Turn `[b c f h w]` into `[b n c]`."""
    return latents.flatten(2).transpose(1, 2)


def video_latents(tokens: Tensor, grid: LatentGrid) -> Tensor:
    """Turn `[b n c]` back into `[b c f h w]`."""
    return tokens.transpose(1, 2).unflatten(2, (grid.frames, grid.rows, grid.columns))


def audio_tokens(latents: Tensor) -> Tensor:
    """Turn `[b c t m]` into `[b t c*m]`: one token for each step, its channels outermost."""
    return latents.transpose(1, 2).flatten(2)


def audio_latents(tokens: Tensor, num_channels: int) -> Tensor:
    """Turn `[b t c*m]` back into `[b c t m]`."""
    return tokens.unflatten(2, (num_channels, -1)).transpose(1, 2)


def video_coordinates(grid: LatentGrid, factors: ScaleFactors, frame_rate: Fraction, *, causal: bool = True) -> Tensor:
    """Give the bounds of each video token `[3 n 2]`.

    Latent frame 0 stands for pixel frame 0 alone, latent frame k for the `factors.frames` frames that end at
    `factors.frames * k`; where they are not causal, every latent frame for as many frames, from frame 0 on.
    """
    axes = (
        _bounds(grid.frames, factors.frames, causal=causal) / float(frame_rate),
        _bounds(grid.rows, factors.rows, causal=False),
        _bounds(grid.columns, factors.columns, causal=False),
    )
    starts = torch.meshgrid(*(axis[:, 0] for axis in axes), indexing="ij")
    ends = torch.meshgrid(*(axis[:, 1] for axis in axes), indexing="ij")
    return torch.stack([torch.stack(starts), torch.stack(ends)], dim=-1).flatten(1, 3)


def audio_coordinates(num_tokens: int, *, hops_per_token: int, hop_length: int, rate_hz: int) -> Tensor:
    """Give the bounds in seconds of each audio token `[1 t 2]`; the first covers one hop, the encoder being causal.

    The operations run in single precision in the model's own order: its rotary angles reach 15,000 radians, so that a
    last bit here would show in the fourth decimal of the output.
    """
    return (_bounds(num_tokens, hops_per_token, causal=True) * hop_length / rate_hz)[None]


def _bounds(count: int, factor: int, *, causal: bool) -> Tensor:
    starts = torch.arange(count, dtype=torch.float32) * factor
    shift = factor - 1 if causal else 0
    return torch.stack([(starts - shift).clamp(min=0), starts + factor - shift], dim=-1)
