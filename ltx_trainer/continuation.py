"""Which run a checkpoint belongs to, told without torch: one run continues another only where nothing differs."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ltx_trainer.artifacts import Clip, Clips
from ltx_trainer.config import Settings
from ltx_trainer.errors import CheckpointError

Identity = Mapping[str, Any]

NAMED_AT_MOST = 3
"""Clips that a message names."""

REQUEST_FIELDS = (
    "rank",
    "learning_rate",
    "number_of_frames",
    "frame_rate",
    "resolution",
    "aspect_ratio",
    "trigger_phrase",
    "auto_scale_input",
    "first_frame_conditioning_p",
)


def run_identity(settings: Settings, clips: Clips, num_processes: int) -> Identity:
    """Collect what two runs must share for one to continue the other, by name.

    The number of steps belongs to it only where the learning rate depends on it.

    Args:
        settings: Of the run.
        clips: What is trained on.
        num_processes: How many processes share the data.
    """
    training = settings.training.model_dump(
        mode="json", exclude={"precision", "checkpoint_interval", "keep_checkpoints"}
    )
    steps = settings.input.number_of_steps if settings.optimizer.schedule != "constant" else None
    return {
        "endpoint": settings.endpoint,
        "processes": num_processes,
        **{f"input.{name}": getattr(settings.input, name) for name in REQUEST_FIELDS},
        "input.number_of_steps": steps,
        "lora.alpha": settings.lora_alpha,
        "lora.dropout": settings.lora.dropout,
        "lora.targets": settings.lora_targets(with_audio=clips.with_audio),
        **{f"optimizer.{name}": value for name, value in settings.optimizer.model_dump(mode="json").items()},
        **{f"noise.{name}": value for name, value in settings.noise.model_dump(mode="json").items()},
        **{f"training.{name}": value for name, value in training.items()},
        "clips": {clip.name: _digest(clip) for clip in clips.clips},
    }


def checkpoints_in(folder: Path) -> list[Path]:
    """List the checkpoints of a folder by step; files of other names are not ours."""
    return sorted(path for path in folder.glob("step-*.safetensors") if re.fullmatch(r"step-\d{6}", path.stem))


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint of the highest step."""
    return max(checkpoints_in(folder), default=None)


def check_newest(folder: Path, identity: Identity, num_steps: int) -> int:
    """Refuse a folder whose newest checkpoint this run could not continue, by its header alone.

    Returns:
        The step that the run goes on from; 0 without a checkpoint.

    Raises:
        CheckpointError: It is damaged, belongs to another run, or is past the last step.
    """
    path = newest_checkpoint(folder)
    if path is None:
        return 0
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    refuse_other_run(path, json.loads(metadata["identity"]), identity)
    step = int(metadata["step"])
    if step > num_steps:
        raise CheckpointError(
            f"{path} is at step {step}, and input.number_of_steps is {num_steps}. "
            f"Ask for {step} or more, or give another folder with --output."
        )
    return step


def damaged(path: Path, error: Exception) -> CheckpointError:
    """Say that a checkpoint cannot be read, and what works."""
    return CheckpointError(f"{path} is damaged: {error}. Delete it to continue from the one before it.")


def refuse_other_run(path: Path, found: Identity, wanted: Identity) -> None:
    """Refuse a checkpoint that was written with another identity, in what `wanted` names.

    Raises:
        CheckpointError: With everything that differs.
    """
    wanted = json.loads(json.dumps(wanted))
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if names:
        rows = "\n".join(f"  {_difference(name, found.get(name), wanted.get(name))}" for name in names)
        raise CheckpointError(
            f"{path} belongs to another run:\n{rows}\n"
            "Go back to those settings to continue it, or give another folder with --output."
        )


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        kinds = {
            "new": sorted(here.keys() - there.keys()),
            "gone": sorted(there.keys() - here.keys()),
            "changed": sorted(key for key in here.keys() & there.keys() if here[key] != there[key]),
        }
        return f"{name}: " + "; ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds.items() if keys)
    return f"{name}: {json.dumps(there)} there, {json.dumps(here)} here"


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")


def _digest(clip: Clip) -> str:
    """Tell a clip from one with other pictures, sound or words; where its files lie does not matter."""
    footage = [
        (role, item.source.sha256, item.start_seconds, item.span_seconds, item.shape)
        for role, item in clip.footage.items()
    ]
    sound = [
        (role, item.source.sha256, item.start_seconds, item.span_seconds, item.preserve_pitch, item.gain)
        for role, item in clip.soundtrack.items()
    ]
    return hashlib.sha256(repr((clip.caption, footage, sound)).encode()).hexdigest()[:16]
