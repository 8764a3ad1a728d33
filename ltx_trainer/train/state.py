"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file that is whole or absent.

A file holds the adapter in fp32, the optimizer's state, each process's draws and torch's global random state, and in
its metadata the step and what run it belongs to. The position in the data follows from the step.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltx_trainer.artifacts import ADAPTER_PREFIX
from ltx_trainer.continuation import Identity, checkpoints_in, damaged, refuse_other_run
from ltx_trainer.tensorfile import write_tensors


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds.

    Attributes:
        step: Optimizer updates done.
        adapter: LoRA weights by name, fp32.
        optimizer: As `Optimizer.state_dict()` gives it.
        random: Random states of each process, by name.
    """

    step: int
    adapter: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    random: tuple[Mapping[str, Tensor], ...]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Name the checkpoint of a step."""
    return folder / f"step-{step:06d}.safetensors"


def write_checkpoint(folder: Path, state: TrainingState, identity: Identity) -> Path:
    """Write a checkpoint whole.

    Raises:
        OutOfResources: The disk is full; the checkpoints before it are untouched.
    """
    tensors = {f"{ADAPTER_PREFIX}{name}": tensor for name, tensor in state.adapter.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state.optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    for rank, values in enumerate(state.random):
        tensors.update({f"random/{rank}/{name}": value for name, value in values.items()})
    metadata = {
        "step": str(state.step),
        "identity": json.dumps(identity, sort_keys=True),
        "param_groups": json.dumps(state.optimizer["param_groups"]),
        "optimizer_scalars": json.dumps(scalars),
    }
    path = checkpoint_path(folder, state.step)
    write_tensors(path, tensors, metadata)
    return path


def read_checkpoint(path: Path, identity: Identity) -> TrainingState:
    """Read a checkpoint of this very run.

    Raises:
        CheckpointError: The file is damaged, or belongs to a run that differs; the message says in what.
    """
    metadata, tensors = _read(path)
    refuse_other_run(path, json.loads(metadata["identity"]), identity)
    parts = _split(tensors)
    state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in json.loads(metadata["optimizer_scalars"]).items()}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    random: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["random"].items():
        rank, _, key = name.partition("/")
        random.setdefault(int(rank), {})[key] = tensor
    return TrainingState(
        step=int(metadata["step"]),
        adapter=parts["adapter"],
        optimizer={"state": state, "param_groups": json.loads(metadata["param_groups"])},
        random=tuple(random[rank] for rank in sorted(random)),
    )


def remove_old_checkpoints(folder: Path, keep: int | None) -> None:
    """Keep the newest `keep` checkpoints; None keeps all."""
    if keep is not None:
        for path in checkpoints_in(folder)[:-keep]:
            path.unlink()


def random_state(draws: torch.Generator) -> dict[str, Tensor]:
    """Take down the state of this process's draws and of torch's global generators."""
    state = {"draws": draws.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor], draws: torch.Generator) -> None:
    """Put back what `random_state` took down."""
    draws.set_state(state["draws"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def _split(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "optimizer": {}, "random": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    return parts
