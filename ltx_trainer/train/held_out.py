"""Clips that are never trained on, and the loss on them: the same noise every time, so that it only shows the LoRA."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from ltx_trainer.artifacts import CachedExample
from ltx_trainer.config import Settings
from ltx_trainer.held_out import PURPOSE
from ltx_trainer.interruption import noted
from ltx_trainer.models.family import Family
from ltx_trainer.train.batch import BatchMaker
from ltx_trainer.train.order import generator_for
from ltx_trainer.train.samples import Sample, mean_losses
from ltx_trainer.train.step import draw_noise, generated, losses_at, stream_weights

TURN = 3
"""Measurements above the smallest one that make a turn."""


@dataclass(frozen=True)
class Measurement:
    """Mean losses on the held-out clips.

    Attributes:
        step: Optimizer updates done.
        loss: Of all streams, weighted as in training.
        by_sigma: Of each stream at each noise level: `video 0.5`.
        not_finite: Samples whose loss is no finite number.
    """

    step: int
    loss: float
    by_sigma: Mapping[str, float]
    not_finite: tuple[Sample, ...]


class HeldOut:
    """Measures the loss on held-out clips, shared out between the processes."""

    def __init__(
        self,
        settings: Settings,
        family: Family,
        batches: BatchMaker,
        examples: Sequence[CachedExample],
        accelerator: Accelerator,
    ) -> None:
        self._settings = settings
        self._family = family
        self._batches = batches
        self._examples = examples
        self._accelerator = accelerator

    def is_due(self, step: int) -> bool:
        """Say whether it is measured at a step."""
        last = step == self._settings.input.number_of_steps
        return bool(self._examples) and (last or step % self._settings.held_out.interval == 0)

    def measure(self, transformer: nn.Module, step: int) -> Measurement | None:
        """Measure, without a trace in the training; None if a signal to stop came before the end."""
        share = range(self._accelerator.process_index, len(self._examples), self._accelerator.num_processes)
        own: list[tuple[int, Sample]] = []
        with _evaluating(transformer):
            for index in share:
                if noted():
                    break
                own.extend((index, sample) for sample in self._samples(transformer, self._examples[index]))
        rows = sorted(gather_object(own), key=lambda row: row[0])
        if len(rows) < len(self._examples) * len(self._settings.held_out.sigmas):
            return None
        samples = [sample for _, sample in rows]
        loss = mean_losses(samples, stream_weights(self._settings.training))["loss"]
        by_sigma = _by_sigma(samples, self._settings.held_out.sigmas)
        return Measurement(step, loss, by_sigma, tuple(sample for sample in samples if not sample.is_finite))

    def _samples(self, transformer: nn.Module, example: CachedExample) -> Iterator[Sample]:
        seed = self._settings.training.seed
        batch = self._batches.make_measured(example, generator_for(seed, PURPOSE, example.name, "conditions"))
        for sigma in self._settings.held_out.sigmas:
            noise = draw_noise(batch.streams, generator_for(seed, PURPOSE, example.name, str(sigma)))
            levels = {name: torch.full((1,), sigma) for name in generated(batch.streams)}
            losses = losses_at(self._family, transformer, batch, levels, noise)
            yield Sample(
                example.name, {name: float(loss) for name, loss in losses.items()}, dict.fromkeys(losses, sigma)
            )


def turn_in(history: Sequence[tuple[int, float]]) -> tuple[int, float, float] | None:
    """Tell when the loss has been above its smallest value for as long as makes a turn, and no longer.

    Args:
        history: Step and loss of each measurement.

    Returns:
        The step of the smallest loss, that loss, and the mean of those since; None if there is no turn now.
    """
    if len(history) <= TURN or not all(math.isfinite(loss) for _, loss in history):
        return None
    step, smallest = min(history, key=lambda item: item[1])
    since = history[-TURN:]
    if history[-TURN - 1][0] != step:
        return None
    return step, smallest, sum(loss for _, loss in since) / TURN


def _by_sigma(samples: Sequence[Sample], sigmas: Sequence[float]) -> dict[str, float]:
    found = {
        f"{name} {sigma:g}": [sample.loss[name] for sample in samples if sample.sigma[name] == sigma]
        for name in samples[0].loss
        for sigma in sigmas
    }
    return {name: sum(losses) / len(losses) for name, losses in found.items()}


@contextmanager
def _evaluating(transformer: nn.Module) -> Iterator[None]:
    training = transformer.training
    transformer.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        transformer.train(training)
