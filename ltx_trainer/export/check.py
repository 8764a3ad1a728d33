"""The self-check of a published LoRA: it is reopened and read before it is called done."""

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ltx_trainer.errors import CheckpointError


def check_lora(path: Path, expected_keys: Collection[str]) -> None:
    """Read a published file back as a loader would.

    Args:
        path: The file.
        expected_keys: Every key that it must have; it may have no other.

    Raises:
        CheckpointError: Keys are missing or unexpected, a value is not finite, or a module has learnt nothing.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read back: {error}.") from error
    missing = sorted(set(expected_keys).difference(tensors))
    unexpected = sorted(set(tensors).difference(expected_keys))
    if missing or unexpected:
        raise CheckpointError(
            f"{path} has {len(tensors)} of {len(expected_keys)} keys; missing {missing[:3]}, unexpected {unexpected[:3]}."
        )
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path} holds values that are not finite in {len(broken)} tensors, such as {broken[0]}.")
    dead = [key for key, tensor in tensors.items() if ".lora_B." in key and not tensor.any()]
    if dead:
        raise CheckpointError(f"{len(dead)} modules of {path} learnt nothing: {dead[0]} is all zero.")
