"""The optimizers by name, and the learning rate as a function of the step alone.

No scheduler object is stepped, so that the rate depends neither on the number of processes nor on where a run was
stopped.
"""

import io
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree
from torch import nn

from ltx_trainer.config import OptimizerSection


def make_optimizer(
    settings: OptimizerSection, parameters: Sequence[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """Make the optimizer of the settings over the adapter's parameters.

    Betas, epsilon and weight decay mean the same to all of them: the decay of both moments, what is added to the root
    of the second, and a decay of the weights that no moment sees. Schedule-free AdamW takes the first beta for the
    place between its average and its own weights; Prodigy scales epsilon by the rate that it finds.
    """
    kind, own = _kind_of(settings, on_gpu=parameters[0].is_cuda)
    # Prodigy prints that weight decay is decoupled.
    with redirect_stdout(io.StringIO()):
        return kind(
            parameters,
            lr=learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            **own,
        )


def rate_at(step: int, *, peak: float, num_steps: int, settings: OptimizerSection) -> float:
    """Give the learning rate that the update after `step` updates is made with.

    Schedule-free AdamW does its own warm-up on top of it.
    """
    if settings.name == "schedule_free":
        return peak
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / (num_steps - settings.warmup_steps)
    match settings.schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * (1 + math.cos(math.pi * progress)) / 2
        case "polynomial":
            return peak * (1 - progress) ** settings.power


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """Give the rate as it stands after an update, the optimizer's own part in it included."""
    group = optimizer.param_groups[0]
    if isinstance(optimizer, AdamWScheduleFree):
        return float(group["scheduled_lr"])
    if isinstance(optimizer, Prodigy):
        return float(group["d"]) * group["lr"]
    return group["lr"]


def _kind_of(
    settings: OptimizerSection, *, on_gpu: bool
) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    """Give the class, and what only it takes."""
    match settings.name:
        case "adamw":
            return torch.optim.AdamW, {"fused": on_gpu}
        case "adamw_8bit":
            # It looks for CUDA libraries as it is imported.
            from bitsandbytes.optim import AdamW8bit  # noqa: PLC0415

            return AdamW8bit, {}
        case "schedule_free":
            # Steps of the warm-up weigh less in its average, so that it must know of them.
            return AdamWScheduleFree, {"warmup_steps": settings.warmup_steps}
        case "prodigy":
            return Prodigy, {"use_bias_correction": True, "safeguard_warmup": settings.warmup_steps > 0}
