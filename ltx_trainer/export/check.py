"""The self-check of a published LoRA: it is reopened and read before it is called done."""

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltx_trainer.errors import CheckpointError


def check_lora(path: Path, expected_keys: Collection[str]) -> None:
    """Read a published file back as a loader would.

    Args:
        path: The file.
        expected_keys: Every key that it must have; it may have no other.

    Raises:
        CheckpointError: Keys are missing or unexpected, a value is not finite, or a module has learnt nothing.
    """
    tensors = _read(path)
    missing = sorted(set(expected_keys).difference(tensors))
    unexpected = sorted(set(tensors).difference(expected_keys))
    if missing or unexpected:
        raise CheckpointError(
            f"the LoRA in {path.parent} lacks {len(missing)} of {len(expected_keys)} keys and has {len(unexpected)} "
            f"others (first: {(missing or unexpected)[0]}). Run again; training goes on from its last checkpoint."
        )
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(
            f"the LoRA in {path.parent} holds values that are not finite in {len(broken)} of {len(tensors)} tensors "
            f"(first: {broken[0]}). Remove the last checkpoint to go on from the one before it."
        )
    dead = [key for key, tensor in tensors.items() if ".lora_B." in key and not tensor.any()]
    if dead:
        raise CheckpointError(
            f"{len(dead)} modules of the LoRA in {path.parent} learnt nothing: {dead[0]} is all zero. "
            "Train for more steps, or leave the modules out of lora.targets."
        )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"the LoRA in {path.parent} cannot be read back: {error}.") from error
