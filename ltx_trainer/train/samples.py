"""What all passes of a step measured, sample by sample, and what that adds up to."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ltx_trainer.train.step import PassLoss

NUM_RANGES = 4
"""Ranges of noise levels whose losses are told apart, of equal width."""


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes:
        clip: Its name.
        loss: By generated stream, not weighted.
        sigma: Noise level by generated stream.
    """

    clip: str
    loss: Mapping[str, float]
    sigma: Mapping[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether every loss is a finite number."""
        return all(math.isfinite(value) for value in self.loss.values())

    def __str__(self) -> str:
        told = (f"{name} loss {value:.4g} at sigma {self.sigma[name]:.3f}" for name, value in self.loss.items())
        return f"{self.clip}: {', '.join(told)}"

    def facts(self) -> dict[str, Any]:
        """Give the sample as plain values."""
        return {"clip": self.clip, "loss": dict(self.loss), "sigma": dict(self.sigma)}


def gather_samples(accelerator: Accelerator, passes: Sequence[PassLoss], clips: Sequence[str]) -> list[Sample]:
    """Collect what every process measured, so that all of them know the same.

    Args:
        accelerator: The other processes.
        passes: Of this process, in order.
        clips: Names of all samples: process by process, pass by pass.
    """
    streams = list(passes[0].streams)
    table = torch.cat([_table(item, streams) for item in passes])
    gathered = accelerator.gather(table)
    assert isinstance(gathered, Tensor)
    rows = gathered.tolist()
    count = len(streams)
    return [
        Sample(clip, dict(zip(streams, row[:count], strict=True)), dict(zip(streams, row[count:], strict=True)))
        for clip, row in zip(clips, rows, strict=True)
    ]


def mean_losses(samples: Sequence[Sample], weights: Mapping[str, float]) -> dict[str, float]:
    """Give `loss`, what is optimised, and `loss/<stream>` for each stream, not weighted."""
    means = {name: _mean([sample.loss[name] for sample in samples]) for name in samples[0].loss}
    total = sum(weights[name] * value for name, value in means.items())
    return {"loss": total, **{f"loss/{name}": value for name, value in means.items()}}


def losses_by_sigma(samples: Sequence[Sample]) -> dict[str, float]:
    """Give the mean loss of each stream in each range of noise levels that occurred: `video 0.50-0.75`."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for sample in samples:
        for name, value in sample.loss.items():
            found[name, min(int(sample.sigma[name] * NUM_RANGES), NUM_RANGES - 1)].append(value)
    return {
        f"{name} {place / NUM_RANGES:.2f}-{(place + 1) / NUM_RANGES:.2f}": _mean(found[name, place])
        for name in samples[0].loss
        for place in range(NUM_RANGES)
        if (name, place) in found
    }


def _table(item: PassLoss, streams: Sequence[str]) -> Tensor:
    columns = [*(item.streams[name] for name in streams), *(item.sigma[name] for name in streams)]
    return torch.stack([column.float() for column in columns], dim=1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
