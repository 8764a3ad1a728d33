"""A LoRA on the miniature's transformer."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.errors import CheckpointError, ModelError
from ltx_trainer.models import check_warm_start
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import (
    adapter_enabled,
    adapter_health,
    adapter_state,
    attach_lora,
    load_adapter_state,
    load_warm_start,
)
from ltx_trainer.modes import ALL_ATTENTION, VIDEO_ATTENTION

Load = Callable[..., nn.Module]


def attach(transformer: nn.Module, modules: list[str], *, rank: int = 4, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    attach_lora(transformer, modules, rank=rank, alpha=rank, dropout=0.0, generator=generator)


def velocities(family: Family, transformer: nn.Module) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    video = ModelStream(
        tokens=torch.randn(1, 8, 16, generator=generator),
        timesteps=torch.full((1, 8), 0.7),
        sigma=torch.tensor([0.7]),
        coordinates=torch.rand(1, 3, 8, 2, generator=generator),
    )
    audio = ModelStream(
        tokens=torch.randn(1, 5, 32, generator=generator),
        timesteps=torch.full((1, 5), 0.7),
        sigma=torch.tensor([0.7]),
        coordinates=torch.rand(1, 1, 5, 2, generator=generator),
    )
    prompt = {
        "video": torch.randn(1, 16, 128, generator=generator),
        "audio": torch.randn(1, 16, 64, generator=generator),
    }
    return list(family.predict(transformer, {"video": video, "audio": audio}, prompt).values())


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def train_a_little(family: Family, transformer: nn.Module) -> None:
    optimizer = torch.optim.SGD([w for w in transformer.parameters() if w.requires_grad], lr=1.0)
    torch.stack([velocity.square().mean() for velocity in velocities(family, transformer)]).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_fresh_adapter_has_no_effect(family: Family, transformer: nn.Module) -> None:
    base = velocities(family, transformer)

    attach(transformer, family.lora_modules(ALL_ATTENTION))

    assert equal(velocities(family, transformer), base)


def test_switched_off_a_trained_adapter_leaves_the_base_to_the_bit(family: Family, transformer: nn.Module) -> None:
    base = velocities(family, transformer)
    attach(transformer, family.lora_modules(ALL_ATTENTION))
    train_a_little(family, transformer)
    trained = velocities(family, transformer)
    assert not equal(trained, base)

    with adapter_enabled(transformer, False):
        assert equal(velocities(family, transformer), base)
        with adapter_enabled(transformer, True):
            assert equal(velocities(family, transformer), trained)
        assert equal(velocities(family, transformer), base)

    assert equal(velocities(family, transformer), trained)


def test_switching_off_does_not_end_the_training(family: Family, transformer: nn.Module) -> None:
    attach(transformer, family.lora_modules(["attn1"]))
    trainable = {name for name, weight in transformer.named_parameters() if weight.requires_grad}

    with pytest.raises(ZeroDivisionError, match="preview"), adapter_enabled(transformer, False):
        raise ZeroDivisionError("preview")

    assert {name for name, weight in transformer.named_parameters() if weight.requires_grad} == trainable


def test_only_the_adapter_learns_and_in_float32(family: Family, load_transformer: Load) -> None:
    transformer = load_transformer(family, torch.bfloat16).requires_grad_()
    attach(transformer, family.lora_modules(ALL_ATTENTION))
    train_a_little(family, transformer)

    learning = {name: weight.dtype for name, weight in transformer.named_parameters() if weight.requires_grad}

    assert all(".lora_A." in name or ".lora_B." in name for name in learning)
    assert set(learning.values()) == {torch.float32}
    assert transformer.get_parameter("proj_in.weight").dtype == torch.bfloat16


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_pair_receives_a_gradient(family: Family, load_transformer: Load, checkpointing: bool) -> None:
    transformer = load_transformer(family, gradient_checkpointing=checkpointing)
    modules = family.lora_modules(ALL_ATTENTION)
    attach(transformer, modules)

    torch.stack([velocity.square().mean() for velocity in velocities(family, transformer)]).sum().backward()

    moved = {name for name, weight in transformer.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved == {f"{module}.lora_B.default.weight" for module in modules}


def test_tensors_are_named_by_module_and_nothing_else(family: Family, load_transformer: Load) -> None:
    transformer = load_transformer(family, gradient_checkpointing=True)
    modules = family.lora_modules(VIDEO_ATTENTION)
    attach(transformer, modules)

    state = adapter_state(transformer)

    assert set(state) == {f"{module}.lora_{side}.weight" for module in modules for side in "AB"}
    assert state["transformer_blocks.0.attn2.to_k.lora_A.weight"].shape == (4, 128)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())


def test_the_state_is_a_copy(family: Family, transformer: nn.Module) -> None:
    attach(transformer, family.lora_modules(["attn1"]))
    state = adapter_state(transformer)
    name = "transformer_blocks.0.attn1.to_q.lora_B.weight"

    train_a_little(family, transformer)

    assert not state[name].any()
    assert adapter_state(transformer)[name].any()


def test_the_start_depends_on_the_generator_alone(
    family: Family, transformer: nn.Module, load_transformer: Load
) -> None:
    modules = family.lora_modules(["attn1"])
    attach(transformer, modules, seed=1)
    torch.manual_seed(99)
    again, other = (load_transformer(family) for _ in range(2))
    attach(again, modules, seed=1)
    attach(other, modules, seed=2)
    name = "transformer_blocks.2.attn1.to_v.lora_A.weight"

    first = adapter_state(transformer)[name]

    assert torch.equal(first, adapter_state(again)[name])
    assert not torch.equal(first, adapter_state(other)[name])
    # Uniform within one over the root of the inputs, as a fresh linear layer.
    assert 0.9 / 128**0.5 < first.abs().max() <= 1 / 128**0.5


def test_a_state_saved_can_be_loaded_into_another_transformer(
    family: Family, transformer: nn.Module, load_transformer: Load
) -> None:
    modules = family.lora_modules(ALL_ATTENTION)
    attach(transformer, modules)
    train_a_little(family, transformer)
    other = load_transformer(family)
    attach(other, modules, seed=2)

    load_adapter_state(other, adapter_state(transformer))

    assert equal(velocities(family, other), velocities(family, transformer))


def test_a_state_of_other_targets_is_refused_and_changes_nothing(
    family: Family, transformer: nn.Module, load_transformer: Load
) -> None:
    attach(transformer, family.lora_modules(["attn1"]))
    before = adapter_state(transformer)
    other = load_transformer(family)
    attach(other, family.lora_modules(["attn2"]))

    with pytest.raises(CheckpointError, match=r"32 missing, 32 unknown \(first: transformer_blocks\.0\.attn1"):
        load_adapter_state(transformer, adapter_state(other))

    assert all(torch.equal(before[name], tensor) for name, tensor in adapter_state(transformer).items())


def test_a_state_of_another_rank_is_refused(family: Family, transformer: nn.Module, load_transformer: Load) -> None:
    modules = family.lora_modules(["attn1"])
    attach(transformer, modules)
    other = load_transformer(family)
    attach(other, modules, rank=8)

    with pytest.raises(CheckpointError, match=r"has the shape \[8, 128\] where this run has \[4, 128\]"):
        load_adapter_state(transformer, adapter_state(other))


def test_layers_that_are_not_there_are_counted_by_group(transformer: nn.Module) -> None:
    modules = ["transformer_blocks.0.attn1.to_q", "transformer_blocks.9.attn1.to_q", "transformer_blocks.0.attn3.to_q"]

    with pytest.raises(ModelError, match=r"fits 1 of the 3 .*attn1.to_q 1 of 2, attn3.to_q 0 of 1"):
        attach(transformer, modules)


def test_no_layers_at_all_are_refused(transformer: nn.Module) -> None:
    with pytest.raises(ModelError, match="fits 0 of the 0 layers"):
        attach(transformer, [])


def test_a_name_given_twice_is_refused(transformer: nn.Module) -> None:
    with pytest.raises(ModelError, match="Give full names, each once"):
        attach(transformer, ["transformer_blocks.0.attn1.to_q"] * 2)


def trained(family: Family, load_transformer: Load, *, alpha: float = 4.0, rank: int = 4) -> nn.Module:
    """A transformer with an adapter that has an effect."""
    transformer = load_transformer(family)
    modules = family.lora_modules(["attn1", "audio_attn2"])
    generator = torch.Generator().manual_seed(5)
    attach_lora(transformer, modules, rank=rank, alpha=alpha, dropout=0.0, generator=generator)
    load_adapter_state(
        transformer,
        {name: torch.randn(w.shape, generator=generator) / 4 for name, w in adapter_state(transformer).items()},
    )
    return transformer


def published(family: Family, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors as an exported LoRA does."""
    return {f"diffusion_model.{family.published_name(name)}": tensor for name, tensor in state.items()}


def fresh(family: Family, load_transformer: Load, *, rank: int = 4, alpha: float = 4.0) -> nn.Module:
    transformer = load_transformer(family)
    modules = family.lora_modules(["attn1", "audio_attn2"])
    generator = torch.Generator().manual_seed(1)
    attach_lora(transformer, modules, rank=rank, alpha=alpha, dropout=0.0, generator=generator)
    return transformer


@pytest.mark.parametrize("alpha", [4.0, 1.0, 32.0])
def test_a_warm_start_begins_with_the_effect_of_the_file(
    family: Family, load_transformer: Load, tmp_path: Path, alpha: float, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = trained(family, load_transformer)
    save_file(published(family, adapter_state(teacher)), tmp_path / "lora.safetensors")
    student = fresh(family, load_transformer, alpha=alpha)

    with caplog.at_level(logging.INFO, logger="ltx_trainer"):
        load_warm_start(student, tmp_path / "lora.safetensors")

    assert equal(velocities(family, student), velocities(family, teacher))
    assert f"Warm start from {tmp_path / 'lora.safetensors'}: 32 modules; the optimizer begins anew." in caplog.messages


def kohya(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors as tools with other words for them do, with an alpha of half the rank."""
    renamed = {n.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): t for n, t in state.items()}
    alphas = {n.replace("lora_A.weight", "alpha"): torch.tensor(2.0) for n in state if "lora_A" in n}
    return {f"diffusion_model.{name}": tensor for name, tensor in {**renamed, **alphas}.items()}


def of_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"transformer.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("layout", "metadata"),
    [
        (kohya, None),
        (of_diffusers, {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 2})}),
        (
            of_diffusers,
            {"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 1, "use_rslora": True, "alpha_pattern": {}})},
        ),
    ],
)
def test_a_warm_start_hears_the_alphas_of_a_file(
    family: Family,
    load_transformer: Load,
    tmp_path: Path,
    layout: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    metadata: dict[str, str] | None,
) -> None:
    teacher = trained(family, load_transformer, alpha=2.0)
    save_file(layout(adapter_state(teacher)), tmp_path / "lora.safetensors", metadata=metadata)
    student = fresh(family, load_transformer)

    load_warm_start(student, tmp_path / "lora.safetensors")

    assert equal(velocities(family, student), velocities(family, teacher))


def test_a_file_in_half_precision_starts_an_adapter_in_full(
    family: Family, load_transformer: Load, tmp_path: Path
) -> None:
    state = {name: tensor.bfloat16() for name, tensor in adapter_state(trained(family, load_transformer)).items()}
    save_file(published(family, state), tmp_path / "lora.safetensors")
    student = fresh(family, load_transformer)

    load_warm_start(student, tmp_path / "lora.safetensors")

    assert all(torch.equal(tensor, state[name].float()) for name, tensor in adapter_state(student).items())


def without_a_matrix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if "0.attn1.to_q.lora_A" not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {n: t[:2] if "lora_A" in n else t[:, :2] for n, t in state.items()},
            r"has the rank 2 where this run has 4\. Set input\.rank to 2\.",
        ),
        (
            lambda state: {n: t[:2] if "0.attn1.to_q.lora_A" in n else t for n, t in state.items()},
            r"has matrices of the shapes \[2, 128\] and \[128, 4\] .*attn1\.to_q, which are no pair",
        ),
        (
            lambda state: {n: t for n, t in state.items() if "attn1" in n},
            r"run: 16 \(audio_attn2\.to_k 4, .*\) are missing, none are not .* Set lora\.targets to \[attn1\]",
        ),
        (
            lambda state: state | {n.replace("attn1", "attn2"): t for n, t in state.items()},
            r"none are missing, 16 \(.*\) are not trained here\. Set lora.targets to \[attn1, attn2, audio_attn2",
        ),
        (without_a_matrix, r"has only .*to_q\.lora_B\.weight for transformer_blocks\.0\.attn1\.to_q, which needs two"),
        (
            lambda state: {n: t * torch.nan if "3.attn1.to_q.lora_B" in n else t for n, t in state.items()},
            r"not finite in 1 of 64 tensors \(first: transformer_blocks\.3\.attn1\.to_q\.lora_B\.weight\)",
        ),
        (
            lambda state: {n: torch.cat([t, t], 1) if "2.attn1.to_k.lora_A" in n else t for n, t in state.items()},
            r"shapes \[\[4, 256\], \[128, 4\]\] for .*2\.attn1\.to_k where this base takes \[\[4, 128\], \[128, 4\]\]",
        ),
        (
            lambda state: state | {"transformer_blocks.0.attn1.to_q.lora_magnitude_vector": torch.ones(64)},
            r"is not a LoRA of the transformer: it holds 1 other tensors \(.*lora_magnitude_vector",
        ),
        (
            lambda state: state | {"transformer_blocks.0.attn1.to_q.lora_down.weight": torch.ones(4, 64)},
            r"is not a LoRA of the transformer: it holds 1 other tensors",
        ),
        (lambda _: {}, r"is not a LoRA of the transformer: it is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    family: Family,
    load_transformer: Load,
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    message: str,
) -> None:
    student = trained(family, load_transformer)
    before = adapter_state(student)
    changed = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in change(before).items()}
    save_file(published(family, changed), tmp_path / "lora.safetensors")

    with pytest.raises(CheckpointError, match=message):
        load_warm_start(student, tmp_path / "lora.safetensors")

    assert all(torch.equal(before[name], tensor) for name, tensor in adapter_state(student).items())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_q": 1}}, "was made with alpha_pattern, which"),
        ({"r": 4, "lora_alpha": 4, "use_dora": True}, "was made with use_dora, which"),
        ({"r": 4}, "has lora_adapter_metadata without r and lora_alpha"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    family: Family, transformer: nn.Module, tmp_path: Path, metadata: dict[str, object], message: str
) -> None:
    modules = family.lora_modules(["attn1"])
    attach(transformer, modules)
    told = {"lora_adapter_metadata": json.dumps(metadata)}
    save_file(of_diffusers(adapter_state(transformer)), tmp_path / "lora.safetensors", metadata=told)

    with pytest.raises(CheckpointError, match=message):
        check_warm_start(tmp_path / "lora.safetensors", modules, 4)


def test_a_warm_start_is_checked_without_its_weights(family: Family, transformer: nn.Module, tmp_path: Path) -> None:
    modules = family.lora_modules(["attn1"])
    attach(transformer, modules)
    save_file(published(family, adapter_state(transformer)), tmp_path / "lora.safetensors")

    assert check_warm_start(tmp_path / "lora.safetensors", modules, 4).pairs.keys() == set(modules)
    with pytest.raises(CheckpointError, match=r"has the rank 4 where this run has 16\. Set input\.rank to 4\."):
        check_warm_start(tmp_path / "lora.safetensors", modules, 16)


@pytest.mark.parametrize(
    ("prefix", "module"),
    [
        ("diffusion_model", "patchify_proj"),
        ("model.diffusion_model", "patchify_proj"),
        ("diffusion_model", "proj_in"),
        ("transformer", "proj_in"),
    ],
)
def test_a_module_is_found_by_its_original_name(tmp_path: Path, prefix: str, module: str) -> None:
    pair = {"lora_A": torch.zeros(4, 16), "lora_B": torch.zeros(64, 4)}
    named = {f"{prefix}.{module}.{matrix}.weight": tensor for matrix, tensor in pair.items()}
    save_file(named, tmp_path / "lora.safetensors")

    assert check_warm_start(tmp_path / "lora.safetensors", ["proj_in"], 4).pairs["proj_in"].rank == 4


@pytest.mark.parametrize("content", [b"", b"not a LoRA at all"])
def test_a_file_that_cannot_be_read_is_no_warm_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lora.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"lora\.safetensors is not a safetensors file"):
        check_warm_start(tmp_path / "lora.safetensors", ["transformer_blocks.0.attn1.to_q"], 4)


@pytest.mark.parametrize(("name", "found"), [("nope.safetensors", "is not there"), (".", "is a folder")])
def test_a_path_to_no_file_is_no_warm_start_and_the_message_says_so(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^model\.lora: .* {found}\. Give the path of a LoRA") as caught:
        check_warm_start(tmp_path / name, ["transformer_blocks.0.attn1.to_q"], 4)
    assert "Fetch" not in str(caught.value)


def test_a_fresh_adapter_is_dead_and_a_trained_one_is_neither_dead_nor_broken(
    family: Family, load_transformer: Load
) -> None:
    dead, broken = adapter_health(fresh(family, load_transformer))
    assert (sorted(dead), broken) == (sorted(family.lora_modules(["attn1", "audio_attn2"])), [])

    assert adapter_health(trained(family, load_transformer)) == ([], [])


@pytest.mark.parametrize(("side", "value"), [("A", torch.nan), ("B", torch.nan), ("B", -torch.inf)])
def test_a_value_that_is_not_finite_is_found_where_it_is(
    family: Family, load_transformer: Load, side: str, value: float
) -> None:
    transformer = trained(family, load_transformer)
    state = adapter_state(transformer)
    module = "transformer_blocks.2.audio_attn2.to_out.0"
    state[f"{module}.lora_{side}.weight"][1, 1] = value
    state["transformer_blocks.1.attn1.to_v.lora_B.weight"].zero_()
    load_adapter_state(transformer, state)

    assert adapter_health(transformer) == (["transformer_blocks.1.attn1.to_v"], [module])
