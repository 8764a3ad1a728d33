"""A training on real clips and the miniature that can be stopped."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ltx_trainer.artifacts import Adapter, CachedSet, Clips
from ltx_trainer.config import Settings
from ltx_trainer.continuation import run_identity
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.processes import make_accelerator
from ltx_trainer.train import Hook, StepMetrics, generator_for, train_adapter

CPU = torch.device("cpu")


class Training:
    """A training in a folder of its own, and what it told."""

    def __init__(self, family: Family, fill: Callable[[Settings], CachedSet], folder: Path) -> None:
        self._family = family
        self._fill = fill
        self.folder = folder
        self.metrics: list[StepMetrics] = []

    def run(
        self, settings: Settings, *, stop_after: int | None = None, hooks: Sequence[Callable[..., object]] = ()
    ) -> Adapter | None:
        """Train to the end, or until the process is stopped after some step."""
        cached = self._fill(settings)

        def observe(metrics: StepMetrics) -> None:
            self.metrics.append(metrics)
            if metrics.step == stop_after:
                raise KeyboardInterrupt

        accelerator, dtype = make_accelerator("fp32")
        checkpointing = settings.training.gradient_checkpointing
        with self._family.transformer(CPU, dtype, gradient_checkpointing=checkpointing) as transformer:
            modules = self._family.lora_modules(settings.lora_targets(with_audio=cached.with_audio))
            generator = generator_for(settings.training.seed, "adapter")
            dropout = settings.lora.dropout
            attach_lora(transformer, modules, rank=settings.input.rank, alpha=8, dropout=dropout, generator=generator)
            try:
                return train_adapter(
                    settings,
                    self._family,
                    transformer,
                    cached,
                    self.folder,
                    identity=run_identity(settings, Clips((), (), with_audio=cached.with_audio), 1),
                    accelerator=accelerator,
                    hooks=[Hook(1, lambda step, do=do: do(step, transformer, cached)) for do in hooks],
                    observers=[observe],
                )
            except KeyboardInterrupt:
                return None


@pytest.fixture
def training(family: Family, fill: Callable[[Settings], CachedSet], tmp_path: Path) -> Callable[[str], Training]:
    return lambda name: Training(family, fill, tmp_path / name)
