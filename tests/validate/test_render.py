"""Previews as files, and when they are rendered again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ltx_trainer.artifacts import CachedSet, Render
from ltx_trainer.config import Settings
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.validate import render_previews, sampling_of

CPU = torch.device("cpu")
Load = Callable[..., Settings]


@pytest.fixture
def adapted(family: Family) -> Iterator[nn.Module]:
    with family.transformer(CPU, torch.float32) as transformer:
        generator = torch.Generator().manual_seed(0)
        attach_lora(transformer, family.lora_modules(["attn1"]), rank=8, alpha=8, dropout=0, generator=generator)
        yield transformer


@pytest.fixture
def render(
    adapted: nn.Module, family: Family, fill: Callable[[Settings], CachedSet], tmp_path: Path
) -> Callable[[Settings], Render]:
    return lambda settings, base="base": render_previews(
        family,
        adapted,
        fill(settings),
        sampling_of(settings, family),
        tmp_path / "previews",
        step=3,
        base=base,
        device=CPU,
    )


def test_what_was_rendered_before_is_found(load: Load, render: Callable[[Settings], Render]) -> None:
    first = render(load())
    written = first.joined.stat().st_mtime_ns

    again = render(load())

    assert again == first
    assert again.joined.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "change", ["input.validation=[{prompt: something else}]", "validation.seed=7", "input.stg_scale=0"]
)
def test_what_is_asked_otherwise_is_rendered_again(
    load: Load, render: Callable[[Settings], Render], change: str
) -> None:
    before = render(load()).joined.read_bytes()

    assert render(load(change)).joined.read_bytes() != before


def test_another_base_is_rendered_again(load: Load, render: Callable[..., Render]) -> None:
    written = render(load()).joined.stat().st_mtime_ns

    assert render(load(), base="another").joined.stat().st_mtime_ns != written


def test_another_adapter_is_rendered_again(
    load: Load, render: Callable[[Settings], Render], adapted: nn.Module
) -> None:
    before = render(load()).joined.read_bytes()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)

    assert render(load()).joined.read_bytes() != before


def test_what_the_settings_say_goes_before_the_familys_own(load: Load, family: Family) -> None:
    sampling = sampling_of(load("validation.audio_cfg=2", "validation.rescale=0", "input.stg_scale=0.5"), family)

    assert (sampling.scales["video"].cfg, sampling.scales["audio"].cfg) == (3, 2)
    assert {(scale.stg, scale.modality, scale.rescale) for scale in sampling.scales.values()} == {(0.5, 3, 0)}


def test_rendering_leaves_random_state_and_mode_as_they_were(
    load: Load, render: Callable[[Settings], Render], adapted: nn.Module
) -> None:
    adapted.train()
    state = torch.get_rng_state()

    render(load())

    assert torch.equal(torch.get_rng_state(), state)
    assert adapted.training
