"""The optimizer, and its learning rate as a function of the step alone.

No scheduler object is stepped, so that the rate depends neither on the number of processes nor on where a run was
stopped.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from ltx_trainer.config import OptimizerSection


def make_optimizer(
    settings: OptimizerSection, parameters: Sequence[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """Make AdamW over the adapter's parameters."""
    return torch.optim.AdamW(
        parameters,
        lr=learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=parameters[0].is_cuda,
    )


def rate_at(step: int, *, peak: float, num_steps: int, settings: OptimizerSection) -> float:
    """Give the learning rate of the update that follows `step` updates."""
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return peak
    progress = (step - settings.warmup_steps) / (num_steps - settings.warmup_steps)
    if settings.schedule == "linear":
        return peak * (1 - progress)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
