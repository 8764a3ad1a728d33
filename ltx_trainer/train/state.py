"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file that is whole or absent.

A file holds the adapter in fp32, its average if the run keeps one, the optimizer's state, each process's draws and
torch's global random state; its metadata say how far the run is, what run it belongs to, and the digest of it all.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltx_trainer.artifacts import ADAPTER_PREFIX, AVERAGE_PREFIX
from ltx_trainer.atomic import disk_errors
from ltx_trainer.continuation import (
    FORMAT,
    FORMAT_KEY,
    NO_DIGEST,
    SEAL,
    Identity,
    Newest,
    check_checkpoint,
    checkpoints_in,
    newest_whole,
    step_of,
)
from ltx_trainer.errors import CheckpointError
from ltx_trainer.tensorfile import write_sealed_tensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds.

    Attributes:
        step: Optimizer updates done.
        adapter: LoRA weights by name, fp32.
        optimizer: As `Optimizer.state_dict()` gives it.
        random: Random states of each process, by name.
        average: Average of the LoRA weights by name; empty in a run without one.
        attempts: Batches spent, those of no update included; where the run is in its data.
        skipped: Batches spent on no update, since their loss or gradient was not finite.
        in_a_row: How many of them came last, without an update since.
        held_out: Step and loss of each measurement on held-out clips.
    """

    step: int
    adapter: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    random: tuple[Mapping[str, Tensor], ...]
    average: Mapping[str, Tensor] = field(default_factory=dict)
    attempts: int = 0
    skipped: int = 0
    in_a_row: int = 0
    held_out: tuple[tuple[int, float], ...] = ()


COUNTS = ("step", "attempts", "skipped", "in_a_row")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Name the checkpoint of a step."""
    return folder / f"step-{step:06d}.safetensors"


def write_checkpoint(folder: Path, state: TrainingState, identity: Identity) -> Path:
    """Write a checkpoint whole.

    Raises:
        OutOfResources: The disk is full; the checkpoints before it are untouched.
    """
    tensors = {f"{ADAPTER_PREFIX}{name}": tensor for name, tensor in state.adapter.items()}
    tensors.update({f"{AVERAGE_PREFIX}{name}": tensor for name, tensor in state.average.items()})
    for rank, values in enumerate(state.random):
        tensors.update({f"random/{rank}/{name}": value for name, value in values.items()})
    metadata = {
        FORMAT_KEY: FORMAT,
        SEAL: NO_DIGEST,
        **{name: str(getattr(state, name)) for name in COUNTS},
        "held_out": json.dumps(state.held_out),
        "identity": json.dumps(identity, sort_keys=True),
        "param_groups": json.dumps(_pack(state.optimizer["param_groups"], "param_groups", tensors)),
        "optimizer": json.dumps(_pack(state.optimizer["state"], "optimizer", tensors)),
    }
    path = checkpoint_path(folder, state.step)
    write_sealed_tensors(path, tensors, metadata, placeholder=NO_DIGEST)
    return path


def set_damaged_aside(folder: Path) -> Newest:
    """Find the newest whole checkpoint, and rename damaged ones of later steps, so that they are not met again.

    Raises:
        CheckpointError: It was written in a form that this release does not know, or may not be read.
        ConfigError: The folder cannot be written to.
    """
    newest = newest_whole(folder)
    for path, reason in newest.damaged.items():
        aside = path.with_name(f"{path.name}.damaged")
        with disk_errors(aside):
            path.replace(aside)
        logger.warning("%s is damaged (%s) and now called %s.", path, reason, aside.name)
    if newest.damaged:
        logger.warning(
            "Training goes on from %s.", "step 0: no checkpoint is whole" if newest.path is None else newest.path
        )
    return newest


def read_checkpoint(path: Path, identity: Identity, num_steps: int) -> TrainingState:
    """Read a checkpoint of this very run.

    Args:
        path: Found by `newest_whole`.
        identity: Of the run.
        num_steps: The last step of the run.

    Raises:
        CheckpointError: It cannot be read, belongs to a run that differs, or is past the last step.
    """
    metadata, tensors = _read(path)
    check_checkpoint(path, metadata, identity, num_steps)
    return TrainingState(
        **{name: int(metadata[name]) for name in COUNTS},
        adapter=_below(ADAPTER_PREFIX, tensors),
        average=_below(AVERAGE_PREFIX, tensors),
        optimizer={
            "state": _unpack(json.loads(metadata["optimizer"]), tensors),
            "param_groups": _unpack(json.loads(metadata["param_groups"]), tensors),
        },
        random=_random_states(tensors),
        held_out=tuple((step, loss) for step, loss in json.loads(metadata["held_out"])),
    )


def remove_old_checkpoints(written: Path, keep: int | None) -> None:
    """Keep the newest `keep` checkpoints up to the one just written; None keeps all.

    Those of later steps are not this run's doing, and stay.
    """
    if keep is not None:
        older = [path for path in checkpoints_in(written.parent) if step_of(path) < step_of(written)]
        for path in older[: max(0, len(older) + 1 - keep)]:
            path.unlink()


def random_state(draws: torch.Generator) -> dict[str, Tensor]:
    """Take down the state of this process's draws and of torch's global generators."""
    state = {"draws": draws.get_state(), "torch": torch.get_rng_state()}
    # Not `is_available`, which a run on the CPU of a GPU machine would answer with yes.
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor], draws: torch.Generator) -> None:
    """Put back what `random_state` took down."""
    draws.set_state(state["draws"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Turn what an optimizer keeps into JSON; tensors go into `tensors`, named by their place in it."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"mapping": [[key, _pack(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]}
    assert value is None or isinstance(value, bool | int | float | str), f"{name} is a {type(value).__name__}"
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_pack`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "mapping":
            return {key: _unpack(item, tensors) for key, item in content}
        case "tuple":
            return tuple(_unpack(item, tensors) for item in content)
        case _:
            return [_unpack(item, tensors) for item in content]


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. The same command again finds one that can.") from error


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _random_states(tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], ...]:
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("random/", tensors).items():
        rank, _, key = name.partition("/")
        found.setdefault(int(rank), {})[key] = tensor
    return tuple(found[rank] for rank in sorted(found))
