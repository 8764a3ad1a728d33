"""A LoRA on the miniature's transformer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.errors import CheckpointError, ModelError
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_enabled, adapter_state, attach_lora, load_adapter_state
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
        "video": torch.randn(1, 16, 64, generator=generator),
        "audio": torch.randn(1, 16, 32, generator=generator),
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
    assert state["transformer_blocks.0.attn2.to_k.lora_A.weight"].shape == (4, 64)
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
    assert 0.9 / 8 < first.abs().max() <= 1 / 8


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

    with pytest.raises(CheckpointError, match=r"has the shape \[8, 64\] where this run has \[4, 64\]"):
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
