"""A cached set of real clips on the miniature, and a training over it that can be stopped."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

from ltx_trainer.artifacts import Adapter, CachedSet
from ltx_trainer.cache import fill_cache
from ltx_trainer.config import Settings, load_settings
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.train import Hook, StepMetrics, generator_for, train_adapter

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def load(
    tmp_path_factory: pytest.TempPathFactory, clip_archive: Path, miniature_folder: Path
) -> Callable[..., Settings]:
    """Load settings of a tiny run, some of them changed."""
    config = tmp_path_factory.mktemp("config") / "run.yaml"
    body = {
        "training_data_url": str(clip_archive),
        "number_of_frames": 9,
        "resolution": "low",
        "rank": 8,
        "number_of_steps": 4,
        "learning_rate": 1e-2,
        "validation": [{"prompt": "clip number 1"}],
        "validation_number_of_frames": 9,
        "validation_resolution": "low",
    }
    endpoint = "fal-ai/ltx23-trainer-v2/t2v"
    config.write_text(yaml.safe_dump({"endpoint": endpoint, "input": body, "model": {"base": str(miniature_folder)}}))
    return lambda *overrides: load_settings(config, overrides=["validation.steps=2", *overrides])


@pytest.fixture(scope="session")
def fill(tmp_path_factory: pytest.TempPathFactory, family: Family) -> Callable[[Settings], CachedSet]:
    """Encode what a run trains on."""
    folder = tmp_path_factory.mktemp("cache")

    def run(settings: Settings) -> CachedSet:
        plan = look(settings, Space(folder / "out", folder))
        return fill_cache(family, plan.clips, plan.previews, "blurry", folder, still_crf=None, device=CPU)

    return run


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
            mode = settings.mode
            modules = self._family.lora_modules(mode.targets if cached.with_audio else mode.silent_targets)
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
                    accelerator=accelerator,
                    hooks=[Hook(1, lambda step, do=do: do(step, transformer, cached)) for do in hooks],
                    observers=[observe],
                )
            except KeyboardInterrupt:
                return None


@pytest.fixture
def training(family: Family, fill: Callable[[Settings], CachedSet], tmp_path: Path) -> Callable[[str], Training]:
    return lambda name: Training(family, fill, tmp_path / name)
