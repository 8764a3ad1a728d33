"""A LoRA on a transformer: attached, switched, and as plain tensors.

Adapter tensors are named `<module>.lora_A.weight` and `<module>.lora_B.weight`.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ltx_trainer.errors import CheckpointError, ModelError
from ltx_trainer.models.lora_file import LoraFile, Pair, check_warm_start

logger = logging.getLogger(__name__)

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


def load_warm_start(transformer: nn.Module, path: Path) -> None:
    """Set the attached adapter to what a LoRA file does at strength 1, so that training starts from there.

    Args:
        transformer: With an adapter attached, of the file's rank and modules; its alpha may differ.
        path: A LoRA file in the published layout or in that of diffusers, with or without alphas.

    Raises:
        CheckpointError: The file is no LoRA, is damaged, or does not fit the adapter; nothing was changed.
    """
    layers = dict(_lora_layers(transformer))
    rank = len(_pair(next(iter(layers.values())))[0])
    file = check_warm_start(path, layers, rank)
    load_adapter_state(transformer, _warm_state(file, layers))
    logger.info("Warm start from %s: %d modules; the optimizer begins anew.", path, len(file.pairs))


def adapter_health(transformer: nn.Module) -> tuple[list[str], list[str]]:
    """Find modules whose pair is without effect, because B is all zero, and modules with a value that is not finite.

    Returns:
        The dead, and the broken.
    """
    layers = dict(_lora_layers(transformer))
    # One number for each matrix, and one copy from the device for all: a maximum of NaNs is NaN.
    largest = torch.stack([weight.detach().abs().amax() for layer in layers.values() for weight in _pair(layer)])
    sizes = dict(zip(layers, largest.view(-1, 2).tolist(), strict=True))
    broken = [name for name, pair in sizes.items() if not all(map(math.isfinite, pair))]
    dead = [name for name, (_, up) in sizes.items() if up == 0]
    return dead, broken


def group_of(module: str) -> str:
    """Name what a module has in common with those of other blocks: `attn1.to_q`."""
    return ".".join(step for step in module.split(".")[1:] if not step.isdigit()) or module


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
    counted = Counter(map(group_of, found))
    return ", ".join(f"{group} {counted[group]} of {asked}" for group, asked in Counter(map(group_of, modules)).items())


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


def _warm_state(file: LoraFile, layers: Mapping[str, LoraLayer]) -> dict[str, Tensor]:
    """Read a LoRA file as the adapter's own tensors: B takes over what the two scales differ by."""
    state: dict[str, Tensor] = {}
    try:
        with safe_open(file.path, framework="pt") as tensors:
            for module, pair in file.pairs.items():
                down, up = (tensors.get_tensor(key).float() for key in (pair.down, pair.up))
                scale = _file_scale(tensors, file, pair) / layers[module].scaling[ADAPTER]
                state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"] = down, up * scale
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file.path} cannot be read: {error}. Fetch it again.") from error
    _check_finite(file.path, state)
    _check_sizes(file.path, state, layers)
    return state


def _file_scale(tensors: safe_open, file: LoraFile, pair: Pair) -> float:
    return file.scale if pair.alpha is None else tensors.get_tensor(pair.alpha).float().item() / pair.rank


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} holds values that are not finite in {len(broken)} of {len(state)} tensors (first: {broken[0]}). "
            "Start from another LoRA."
        )


def _check_sizes(path: Path, state: Mapping[str, Tensor], layers: Mapping[str, LoraLayer]) -> None:
    for name, layer in layers.items():
        expected = [list(weight.shape) for weight in _pair(layer)]
        found = [list(state[f"{name}.lora_{side}.weight"].shape) for side in "AB"]
        if found != expected:
            raise CheckpointError(
                f"{path} has matrices of the shapes {found} for {name} where this base takes {expected}. Start from a "
                "LoRA of this base model."
            )


def _switch(layers: Sequence[LoraLayer], states: Sequence[bool]) -> None:
    for layer, on in zip(layers, states, strict=True):
        layer.enable_adapters(enabled=on)
