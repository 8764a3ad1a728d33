"""Noise levels: the ladder that sampling descends and the distribution that training draws from.

A noise level (sigma) is in [0, 1]: 0 is the clip, 1 is pure noise.
"""

import math

import torch
from torch import Tensor

LARGE_GRID_SHIFT = 2.05
LAST_SIGMA = 0.1

SMALLEST_SIGMA = 1e-3
LOWER_QUANTILE = -2.5758
UPPER_QUANTILE = 3.0902


def sampling_sigmas(num_steps: int) -> list[float]:
    """Give the `num_steps + 1` levels of a preview, from 1 down to 0, the last but one being 0.1.

    They do not depend on the size: previews of all sizes descend the ladder of a 4096-token grid.
    Source: the published sampler of LTX-2.x, held against recorded numbers in the tests.
    """
    if num_steps == 1:
        return [1.0, 0.0]
    levels = torch.linspace(1.0, 0.0, num_steps + 1)[:-1]
    shifted = math.exp(LARGE_GRID_SHIFT) / (math.exp(LARGE_GRID_SHIFT) + 1 / levels - 1)
    stretched = 1 - (1 - shifted) * (1 - LAST_SIGMA) / (1 - shifted[-1])
    return [*stretched.tolist(), 0.0]


def shifted_logit_normal(normal: Tensor, num_tokens: int) -> Tensor:
    """Turn standard normal draws into noise levels, higher for clips of more tokens.

    The logit's mean rises linearly from 0.95 at 1024 tokens to 2.05 at 4096 and is not clamped. The middle 99.4 % are
    stretched over [0, 1]; levels under 0.001 are reflected.

    Args:
        normal: Standard normal draws.
        num_tokens: Tokens of the target, references not counted.
    """
    mean = 0.95 + (num_tokens - 1024) * 1.1 / 3072
    lowest, highest = _sigmoid(mean + LOWER_QUANTILE), _sigmoid(mean + UPPER_QUANTILE)
    level = (torch.sigmoid(normal + mean) - lowest) / (highest - lowest)
    return torch.where(level < SMALLEST_SIGMA, 2 * SMALLEST_SIGMA - level, level).clamp(0, 1)


def draw_sigmas(
    count: int, num_tokens: int, *, distribution: str, uniform_fraction: float, generator: torch.Generator
) -> Tensor:
    """Draw one noise level for each sample `[count]`.

    Every call takes the same number of values from the generator, whatever the settings.

    Args:
        count: Samples.
        num_tokens: Tokens of the target.
        distribution: `shifted_logit_normal` or `uniform`.
        uniform_fraction: Probability of a uniform draw in place of the shifted one, so that no level is ever unseen.
        generator: A CPU generator.
    """
    normal = torch.randn(count, generator=generator)
    uniform = SMALLEST_SIGMA + (1 - SMALLEST_SIGMA) * torch.rand(count, generator=generator)
    mixed = torch.rand(count, generator=generator) < uniform_fraction
    if distribution == "uniform":
        return uniform
    return torch.where(mixed, uniform, shifted_logit_normal(normal, num_tokens))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
