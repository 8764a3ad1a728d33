"""A published LoRA in the library's own pipeline: every tensor finds its place, and does what it was trained to do."""

import logging
from collections.abc import Callable, Iterator, Mapping
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTX2Pipeline, LTXPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.models.attention_values import perturb_by_values
from ltx_trainer.models.family import Family
from ltx_trainer.models.own_timesteps import modulate_by_own_timesteps
from tests.families import LTX23, LTX_VIDEO, STREAMS, both_families

CPU = torch.device("cpu")
ADAPTER = "published"
PIPELINES: Mapping[str, Any] = {LTX23: LTX2Pipeline, LTX_VIDEO: LTXPipeline}
PREPARE: Mapping[str, Callable[[nn.Module], None]] = {LTX23: modulate_by_own_timesteps, LTX_VIDEO: perturb_by_values}
"""What the trainer does to the library's transformer, which leaves its weights alone."""
TEXT_WIDTHS = {LTX23: {"video": 128, "audio": 64}, LTX_VIDEO: {"video": 32}}


@pytest.fixture
def pipeline(miniature_folder: Path, family_name: str) -> Any:
    return PIPELINES[family_name].from_pretrained(miniature_folder)


@pytest.fixture
def warnings_of_libraries() -> Iterator[list[logging.LogRecord]]:
    """Collect what the libraries warn of; their loggers keep it from those above."""
    collected = BufferingHandler(capacity=1000)
    loggers = [logging.getLogger(name) for name in ("diffusers", "peft")]
    for logger in loggers:
        logger.addHandler(collected)
    yield collected.buffer
    for logger in loggers:
        logger.removeHandler(collected)


def load(pipeline: Any, lora: Path) -> None:
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name=ADAPTER)


def velocities(family: Family, transformer: nn.Module) -> dict[str, Tensor]:
    """Predict for random tokens, text and places."""
    generator = torch.Generator().manual_seed(8)

    def stream(num_channels: int, num_tokens: int, num_axes: int) -> ModelStream:
        return ModelStream(
            tokens=torch.randn(1, num_tokens, num_channels, generator=generator),
            timesteps=torch.full((1, num_tokens), 0.7),
            sigma=torch.tensor([0.7]),
            coordinates=torch.rand(1, num_axes, num_tokens, 2, generator=generator),
        )

    own = family.facts.family
    streams = {"video": stream(16, 8, 3), "audio": stream(32, 5, 1)}
    widths = TEXT_WIDTHS[own]
    prompt = {name: torch.randn(1, 16, width, generator=generator) for name, width in widths.items()}
    if own == LTX_VIDEO:
        prompt["mask"] = torch.arange(16)[None] < 9
    with torch.no_grad():
        return family.predict(transformer, {name: streams[name] for name in STREAMS[own]}, prompt)


@both_families
def test_the_pipeline_takes_every_tensor_and_misses_none(
    published: Any, pipeline: Any, family: Family, warnings_of_libraries: list[logging.LogRecord]
) -> None:
    load(pipeline, published.bundle.lora)

    loaded = {name: weight for name, weight in pipeline.transformer.named_parameters() if ".lora_" in name}
    expected = {
        family.library_name(key.removeprefix("diffusion_model.")).replace(".weight", f".{ADAPTER}.weight"): tensor
        for key, tensor in load_file(published.bundle.lora).items()
    }
    assert warnings_of_libraries == []
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in expected.items())


@both_families
def test_a_key_without_a_place_would_have_been_warned_of(
    published: Any, pipeline: Any, warnings_of_libraries: list[logging.LogRecord], tmp_path: Path
) -> None:
    tensors = load_file(published.bundle.lora)
    stray = {key.replace("blocks.0.", "blocks.9."): tensor for key, tensor in tensors.items()}
    save_file(stray, tmp_path / "stray.safetensors")

    load(pipeline, tmp_path / "stray.safetensors")

    (warning,) = warnings_of_libraries
    assert "unexpected keys" in warning.getMessage()


@both_families
def test_in_the_pipeline_the_lora_does_what_it_did_in_training(
    published: Any, pipeline: Any, family: Family, put_on: Callable[[nn.Module, dict[str, Tensor]], None]
) -> None:
    transformer = pipeline.transformer
    PREPARE[family.facts.family](transformer)
    base = velocities(family, transformer)
    load(pipeline, published.bundle.lora)
    with_lora = velocities(family, transformer)
    pipeline.set_adapters(ADAPTER, adapter_weights=0.0)
    switched_off = velocities(family, transformer)
    with family.transformer(CPU, torch.float32) as ours:
        put_on(ours, published.trained)
        trained = velocities(family, ours)

    for name, velocity in trained.items():
        assert not torch.allclose(with_lora[name], base[name], atol=0.1)
        assert torch.equal(switched_off[name], base[name])
        torch.testing.assert_close(with_lora[name], velocity, atol=1e-2, rtol=0)


def test_a_silent_lora_loads_too(silent: Any, pipeline: Any, warnings_of_libraries: list[logging.LogRecord]) -> None:
    load(pipeline, silent.bundle.lora)

    adapted = {name for name, _ in pipeline.transformer.named_parameters() if ".lora_" in name}
    assert warnings_of_libraries == []
    assert len(adapted) == len(silent.trained)
