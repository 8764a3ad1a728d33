"""A LoRA on a transformer: attached, switched, and as plain tensors.

Adapter tensors are named `<module>.lora_A.weight` and `<module>.lora_B.weight`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ltx_trainer.errors import CheckpointError, ModelError

ADAPTER = "default"


def attach_lora(
    transformer: nn.Module,
    modules: Sequence[str],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    generator: torch.Generator,
) -> None:
    """Attach a fresh LoRA in float32 to the named linear layers, and freeze everything else.

    It starts without effect: B is zero, A uniform as in a fresh linear layer.

    Args:
        transformer: As loaded, not wrapped.
        modules: Full names of linear layers, without repetition.
        rank: Rank of each pair.
        alpha: The pair's product is scaled by `alpha / rank`.
        dropout: Fraction of a pair's input dropped in training mode.
        generator: On the CPU; A is drawn from it in the order of `modules`, whatever the device.

    Raises:
        ModelError: Some of `modules` are not linear layers of the transformer.
    """
    _check_targets(transformer, modules)
    config = LoraConfig(r=rank, lora_dropout=dropout, target_modules=list(modules))
    config.lora_alpha = alpha  # pyright: ignore[reportAttributeAccessIssue] - declared an integer, only divided
    inject_adapter_in_model(config, transformer, ADAPTER)
    layers = dict(_lora_layers(transformer))
    _check_attached(modules, layers)
    for name in modules:
        _start_without_effect(layers[name], generator)


def adapter_state(transformer: nn.Module) -> dict[str, Tensor]:
    """Copy the adapter's tensors to the CPU, float32 and contiguous."""
    return {name: weight.detach().float().cpu().contiguous().clone() for name, weight in _adapter_weights(transformer)}


@torch.no_grad()
def load_adapter_state(transformer: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set the adapter's tensors to those of `adapter_state`.

    Raises:
        CheckpointError: Names or shapes differ from the attached adapter's; nothing was changed.
    """
    weights = dict(_adapter_weights(transformer))
    _check_state(weights, state)
    for name, weight in weights.items():
        weight.copy_(state[name])


@contextmanager
def adapter_enabled(transformer: nn.Module, on: bool) -> Iterator[None]:  # noqa: FBT001 - the name asks the question
    """Switch the adapter on or off for the length of the `with`. Off, the transformer is the base model exactly."""
    layers = [layer for _, layer in _lora_layers(transformer)]
    before = [not layer.disable_adapters for layer in layers]
    _switch(layers, [on] * len(layers))
    try:
        yield
    finally:
        _switch(layers, before)


def _check_targets(transformer: nn.Module, modules: Sequence[str]) -> None:
    linear = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    found = [name for name in modules if name in linear]
    if not modules or len(found) < len(modules):
        raise ModelError(
            f"the LoRA fits {len(found)} of the {len(modules)} layers asked for ({_by_group(modules, found)}). "
            "Choose targets that the transformer has."
        )


def _by_group(modules: Sequence[str], found: Sequence[str]) -> str:
    """Count by what two blocks have in common: `attn1.to_q 1 of 2`."""
    counted = Counter(map(_group, found))
    return ", ".join(f"{group} {counted[group]} of {asked}" for group, asked in Counter(map(_group, modules)).items())


def _group(module: str) -> str:
    return ".".join(step for step in module.split(".")[1:] if not step.isdigit()) or module


def _lora_layers(transformer: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _check_attached(modules: Sequence[str], layers: Mapping[str, LoraLayer]) -> None:
    """Hold the adapter library to full names: it also takes a name for the end of a longer one."""
    if sorted(layers) != sorted(modules):
        raise ModelError(
            f"the LoRA sits on {len(layers)} layers where {len(modules)} were asked for. Give full names, each once."
        )


@torch.no_grad()
def _start_without_effect(layer: LoraLayer, generator: torch.Generator) -> None:
    down, up = _pair(layer)
    # The library gives a pair the type of its layer; in half precision small updates would be lost.
    down.data, up.data = down.data.float(), torch.zeros_like(up.data, dtype=torch.float32)
    down.copy_(nn.init.kaiming_uniform_(torch.empty(down.shape), a=math.sqrt(5), generator=generator))


def _pair(layer: LoraLayer) -> tuple[nn.Parameter, nn.Parameter]:
    return layer.lora_A[ADAPTER].get_parameter("weight"), layer.lora_B[ADAPTER].get_parameter("weight")


def _adapter_weights(transformer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, layer in _lora_layers(transformer):
        down, up = _pair(layer)
        yield f"{name}.lora_A.weight", down
        yield f"{name}.lora_B.weight", up


def _check_state(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    absent, foreign = sorted(weights.keys() - state.keys()), sorted(state.keys() - weights.keys())
    if absent or foreign:
        raise CheckpointError(
            f"the adapter's tensors are not those of this run: {len(absent)} missing, {len(foreign)} unknown "
            f"(first: {(absent or foreign)[0]}). Resume with the LoRA targets of the checkpoint."
        )
    for name, weight in weights.items():
        if weight.shape != state[name].shape:
            raise CheckpointError(
                f"{name} has the shape {list(state[name].shape)} where this run has {list(weight.shape)}. "
                "Resume with the rank of the checkpoint."
            )


def _switch(layers: Sequence[LoraLayer], states: Sequence[bool]) -> None:
    for layer, on in zip(layers, states, strict=True):
        layer.enable_adapters(enabled=on)
