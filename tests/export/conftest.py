"""A LoRA on the miniature, random where training would have left values, as a checkpoint and as it is published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltx_trainer.artifacts import ADAPTER_PREFIX, Adapter, Bundle, Render
from ltx_trainer.conditions import Terms, terms_of
from ltx_trainer.config import Settings
from ltx_trainer.export import write_bundle
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_state, attach_lora, load_adapter_state
from ltx_trainer.modes import find_mode
from ltx_trainer.tensorfile import write_tensors
from tests.families import ENDPOINTS, LTX23, LTX_VIDEO

CPU = torch.device("cpu")
T2V = ENDPOINTS[LTX23]
PUBLISHED = {LTX23: T2V, LTX_VIDEO: "ltx-video/v2v"}
"""The mode of each family that trains layers of every kind."""
RANK, ALPHA = 8, 12.0


@dataclass(frozen=True)
class Published:
    """A LoRA before and after.

    Attributes:
        trained: What training left, by name.
        bundle: What was published.
    """

    trained: dict[str, Tensor]
    bundle: Bundle


def attach(family: Family, transformer: nn.Module, groups: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(5)
    attach_lora(transformer, family.lora_modules(groups), rank=RANK, alpha=ALPHA, dropout=0.0, generator=generator)


def trained_state(family: Family, groups: tuple[str, ...]) -> dict[str, Tensor]:
    """Give the tensors of a LoRA whose B is random."""
    generator = torch.Generator().manual_seed(6)
    with family.transformer(CPU, torch.float32) as transformer:
        attach(family, transformer, groups)
        state = adapter_state(transformer)
    return {
        name: 0.1 * torch.randn(weight.shape, generator=generator) if ".lora_B." in name else weight
        for name, weight in state.items()
    }


def terms_for(settings: Settings, family: Family, shape: ClipShape | None) -> Terms:
    factors = family.facts.factors
    return terms_of(settings.mode, settings.input, factors, shape, trained_size=None if shape is None else shape.size)


def publish_to(
    folder: Path,
    family: Family,
    state: dict[str, Tensor],
    *,
    checkpoint: Path | None = None,
    prefix: str = ADAPTER_PREFIX,
    model: Mapping[str, Any] | None = None,
    with_audio: bool = True,
    endpoint: str = T2V,
    request: Mapping[str, Any] | None = None,
    **lora: Any,
) -> Bundle:
    settings = Settings.model_validate(
        {
            "endpoint": endpoint,
            "input": {
                **(request or {}),
                "training_data_url": "clips.zip",
                "rank": RANK,
                "trigger_phrase": "TOK",
                "validation_negative_prompt": "blurry",
            },
            "lora": {"alpha": ALPHA, **lora},
            "model": model or {},
        }
    )
    shape, preview_shape = None, None
    if settings.mode.has_video:
        shape = ClipShape(9, FrameSize(64, 64), Fraction(24))
        preview_shape = ClipShape(17, FrameSize(96, 64), Fraction(30000, 1001))
    if checkpoint is None:
        checkpoint = folder / "checkpoints/step-000007.safetensors"
        write_tensors(checkpoint, {f"{prefix}{name}": tensor for name, tensor in state.items()})
    return write_bundle(
        settings,
        family,
        Adapter(checkpoint, prefix, 7),
        Render(7, (), joined=folder / "all"),
        folder,
        shape=shape,
        terms=terms_for(settings, family, shape),
        preview_terms=terms_for(settings, family, preview_shape),
        with_audio=with_audio,
        inference={"num_steps": 30},
    )


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, family: Family) -> Published:
    """A LoRA of pictures, and of sound where the family has it: to be read, never changed."""
    endpoint, with_audio = PUBLISHED[family.facts.family], family.facts.audio is not None
    state = trained_state(family, find_mode(endpoint).targets)
    folder = tmp_path_factory.mktemp("published")
    return Published(state, publish_to(folder, family, state, endpoint=endpoint, with_audio=with_audio))


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory, family: Family) -> Published:
    """A LoRA of pictures alone: to be read, never changed."""
    endpoint = ENDPOINTS[family.facts.family]
    state = trained_state(family, find_mode(endpoint).silent_targets)
    folder = tmp_path_factory.mktemp("silent")
    return Published(state, publish_to(folder, family, state, endpoint=endpoint, with_audio=False))


@pytest.fixture
def publish(tmp_path: Path, family: Family) -> Callable[..., Bundle]:
    """Give a function that publishes tensors in the folder of this test."""
    own = ENDPOINTS[family.facts.family]
    return lambda state, folder=tmp_path, base=family, endpoint=own, **settings: publish_to(
        folder, base, state, endpoint=endpoint, **settings
    )


@pytest.fixture(scope="session")
def put_on(family: Family) -> Callable[[nn.Module, dict[str, Tensor]], None]:
    """Give a function that puts the trained tensors of `published` on a transformer."""

    def put(transformer: nn.Module, state: dict[str, Tensor]) -> None:
        attach(family, transformer, find_mode(PUBLISHED[family.facts.family]).targets)
        load_adapter_state(transformer, state)

    return put
