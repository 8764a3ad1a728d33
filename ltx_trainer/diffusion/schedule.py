"""Noise levels: the ladder that sampling descends and the distribution that training draws from.

A noise level (sigma) is in [0, 1]: 0 is the clip, 1 is pure noise.
"""

import math

import torch
from torch import Tensor

LARGE_GRID_SHIFT = 2.05
LAST_SIGMA = 0.1
LINE_FALL = 0.025

SMALLEST_SIGMA = 1e-3
LOWER_QUANTILE = -2.5758
UPPER_QUANTILE = 3.0902


def sampling_sigmas(num_steps: int) -> list[float]:
    """Give the `num_steps + 1` levels of a preview of LTX-2.x, from 1 down to 0, the last but one being 0.1.

    They do not depend on the size: previews of all sizes descend the ladder of a 4096-token grid.
    Source: the published sampler of LTX-2.x, held against recorded numbers in the tests.
    """
    return _shifted(num_steps, LARGE_GRID_SHIFT)


def shifted_sigmas(num_steps: int, num_tokens: int) -> list[float]:
    """Give `num_steps + 1` levels that stay high for longer the more tokens there are; the last but one is 0.1.

    Source: the sampler of LTX-Video 0.9.0 and 0.9.1 in diffusers, held to it in the tests.
    """
    return _shifted(num_steps, grid_shift(num_tokens))


def linear_quadratic_sigmas(num_steps: int) -> list[float]:
    """Give `num_steps + 1` levels, from 1 down to 0: half of them fall along a line to 0.975, the rest ever faster.

    Source: Polyak et al. 2024 (arXiv 2410.13720), section 3.4.2, as LTX-Video uses it from version 0.9.5 on.
    """
    if num_steps == 1:
        return [1.0, 0.0]
    line, curve = num_steps // 2, num_steps - num_steps // 2
    slope = LINE_FALL / line
    # The curve leaves the line with its slope and ends at 0.
    bend = (1 - LINE_FALL - slope * curve) / curve**2
    fallen = [slope * step for step in range(line)]
    fallen += [LINE_FALL + slope * step + bend * step**2 for step in range(curve)]
    return [*(1 - fall for fall in fallen), 0.0]


def grid_shift(num_tokens: int) -> float:
    """Give how far levels are shifted up for a number of tokens: from 0.95 at 1024 to 2.05 at 4096, not clamped."""
    return 0.95 + (num_tokens - 1024) * 1.1 / 3072


def _shifted(num_steps: int, shift: float) -> list[float]:
    if num_steps == 1:
        return [1.0, 0.0]
    levels = torch.linspace(1.0, 0.0, num_steps + 1)[:-1]
    shifted = math.exp(shift) / (math.exp(shift) + 1 / levels - 1)
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
    mean = grid_shift(num_tokens)
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
