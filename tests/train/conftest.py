"""A training on real clips and the miniature that can be stopped."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltx_trainer import interruption
from ltx_trainer.artifacts import Adapter, CachedSet, Clips, Role
from ltx_trainer.conditions import Terms, terms_of
from ltx_trainer.config import Settings
from ltx_trainer.continuation import run_identity
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_state, attach_lora
from ltx_trainer.processes import make_accelerator
from ltx_trainer.train import Hook, StepMetrics, generator_for, train_adapter

CPU = torch.device("cpu")


def terms_for(settings: Settings, family: Family, cached: CachedSet) -> Terms:
    """Settle what is given of clips like those that were encoded."""
    shape = cached.examples[0].shape
    return terms_of(settings.mode, settings.input, family.facts.factors, shape, trained_size=None)


class Training:
    """A training in a folder of its own, and what it told.

    Attributes:
        fill: Gives what is trained on.
        on_step: Called after each step.
        on_event: Called after each event.
        left: Weights that the transformer has at the end.
    """

    def __init__(self, family: Family, fill: Callable[[Settings], CachedSet], folder: Path) -> None:
        self._family = family
        self.fill = fill
        self.folder = folder
        self.on_step: Callable[[int], object] = lambda _: None
        self.on_event: Callable[[Mapping[str, Any]], object] = lambda _: None
        self.left: dict[str, Tensor] = {}
        self.metrics: list[StepMetrics] = []
        self.events: list[Mapping[str, Any]] = []

    def run(
        self, settings: Settings, *, stop_after: int | None = None, hooks: Sequence[Callable[..., object]] = ()
    ) -> Adapter | None:
        """Train to the end, or until the process is stopped after some step."""
        cached = self.fill(settings)
        terms = terms_for(settings, self._family, cached)

        def observe(metrics: StepMetrics) -> None:
            self.metrics.append(metrics)
            if metrics.step == stop_after:
                raise KeyboardInterrupt
            self.on_step(metrics.step)

        def hear(event: Mapping[str, Any]) -> None:
            self.events.append(event)
            self.on_event(event)

        accelerator, dtype = make_accelerator("fp32")
        checkpointing = settings.training.gradient_checkpointing
        with self._family.transformer(CPU, dtype, gradient_checkpointing=checkpointing) as transformer:
            targets = settings.lora_targets(with_audio=cached.with_audio)
            modules = self._family.lora_modules(targets, frozen=terms.frozen)
            generator = generator_for(settings.training.seed, "adapter")
            dropout = settings.lora.dropout
            attach_lora(transformer, modules, rank=settings.input.rank, alpha=8, dropout=dropout, generator=generator)
            try:
                adapter = train_adapter(
                    settings,
                    self._family,
                    transformer,
                    cached,
                    self.folder,
                    terms=terms,
                    identity=run_identity(settings, Clips((), (), with_audio=cached.with_audio), 1),
                    accelerator=accelerator,
                    hooks=[Hook(1, lambda step, do=do: do(step, transformer, cached)) for do in hooks],
                    observers=[observe],
                    on_event=hear,
                )
            except KeyboardInterrupt:
                return None
            self.left = adapter_state(transformer)
            return adapter

    def told(self, kind: str) -> list[Mapping[str, Any]]:
        """Give the events of a kind."""
        return [event for event in self.events if event["event"] == kind]


@pytest.fixture(scope="session")
def load(load: Callable[..., Settings]) -> Callable[..., Settings]:
    """Load settings that keep activations, which is faster where there are few."""
    return lambda *overrides: load("training.gradient_checkpointing=false", *overrides)


@pytest.fixture(scope="session")
def terms(family: Family) -> Callable[[Settings, CachedSet], Terms]:
    """Settle what is given of clips like those that were encoded."""
    return lambda settings, cached: terms_for(settings, family, cached)


@pytest.fixture
def training(family: Family, fill: Callable[[Settings], CachedSet], tmp_path: Path) -> Callable[[str], Training]:
    return lambda name: Training(family, fill, tmp_path / name)


@pytest.fixture(scope="module")
def shared_training(
    family: Family, fill: Callable[[Settings], CachedSet], tmp_path_factory: pytest.TempPathFactory
) -> Training:
    """A training that several tests look at."""
    return Training(family, fill, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def handled_signals() -> Iterator[None]:
    """Let the trainer handle signals to this process."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    interruption.handle_signals()
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture
def spoil(fill: Callable[[Settings], CachedSet], tmp_path: Path) -> Callable[..., Callable[[Settings], CachedSet]]:
    """Give a `fill` whose clips of some names have latents of one value throughout."""

    def make(value: float, *names: str) -> Callable[[Settings], CachedSet]:
        def spoiled(settings: Settings) -> CachedSet:
            cached = fill(settings)
            examples = []
            for example in cached.examples:
                path = tmp_path / f"{example.name}-{value}.safetensors"
                if example.name in names:
                    clean = load_file(example.media.video[Role.TARGET])["latents"]
                    save_file({"latents": torch.full_like(clean, value)}, path)
                media = replace(example.media, video={Role.TARGET: path})
                examples.append(replace(example, media=media) if example.name in names else example)
            return replace(cached, examples=tuple(examples))

        return spoiled

    return make
