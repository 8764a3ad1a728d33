"""Which run a checkpoint belongs to, told without torch: one run continues another only where nothing differs."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ltx_trainer.artifacts import CachedSet, Clip, Clips
from ltx_trainer.config import Settings
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import CheckpointError, some_of
from ltx_trainer.modes import AUDIO_FIELDS

Identity = Mapping[str, Any]

FORMAT_KEY = "format"
FORMAT = "1"
"""Of the checkpoints that this release writes and continues."""

SEAL = "sha256"
NO_DIGEST = "0" * 64
"""What the digest is taken with in its own place."""

LENGTH_BYTES = 8
"""Of the number that a tensor file begins with: the length of its header."""

CHUNK_BYTES = 1 << 20

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
"""Of every mode."""

TOLD_BY_CLIPS = AUDIO_FIELDS
"""Fields of a mode that change nothing but the clips."""

OF_PREVIEWS = frozenset({"validation_reverse"})
"""Fields of a mode that change nothing but the previews."""


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
    own = settings.mode.fields - TOLD_BY_CLIPS - OF_PREVIEWS
    of_mode = [name for name in sorted(own) if name not in REQUEST_FIELDS]
    held_out = settings.held_out.model_dump(mode="json", exclude={"interval"}) if settings.held_out.fraction else None
    return {
        # An older name of it is the same.
        "endpoint": settings.mode.endpoint,
        "processes": num_processes,
        **{f"input.{name}": getattr(settings.input, name) for name in (*REQUEST_FIELDS, *of_mode)},
        "input.number_of_steps": steps,
        "lora.alpha": settings.lora_alpha,
        "lora.dropout": settings.lora.dropout,
        "lora.targets": settings.lora_targets(with_audio=clips.with_audio),
        **{f"optimizer.{name}": value for name, value in settings.optimizer.model_dump(mode="json").items()},
        **{f"noise.{name}": value for name, value in settings.noise.model_dump(mode="json").items()},
        **{f"training.{name}": value for name, value in training.items()},
        "held_out": held_out,
        "model.lora": None if settings.model.lora is None else _digest_of_lora(settings.model.lora),
        "clips": {clip.name: _digest(clip) for clip in clips.clips},
    }


def encoded_identity(cached: CachedSet) -> Mapping[str, str]:
    """Name what each clip became, and what stands in for a dropped caption.

    The names of cached tensors hold the media, the captions, and the weights and releases that encoded them.
    """
    files = {example.name: (*example.media.files, example.prompt) for example in cached.examples}
    named = {name: [path.stem for path in paths] for name, paths in files.items()}
    named["the empty text"] = [cached.empty_prompt.stem]
    return {name: hashlib.sha256(" ".join(stems).encode()).hexdigest()[:16] for name, stems in named.items()}


def checkpoints_in(folder: Path) -> list[Path]:
    """List the checkpoints of a folder by step; files of other names are not ours."""
    named = (path for path in folder.glob("step-*.safetensors") if re.fullmatch(r"step-\d{6,}", path.stem))
    return sorted((path for path in named if path.is_file()), key=step_of)


def step_of(path: Path) -> int:
    """Read the step in the name of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint of a folder that is whole.

    Attributes:
        path: The file; None if no checkpoint is whole.
        metadata: Of the file.
        damaged: Checkpoints of later steps, each with what is wrong with it, newest first.
    """

    path: Path | None
    metadata: Mapping[str, str]
    damaged: Mapping[Path, str]


def newest_whole(folder: Path) -> Newest:
    """Find the checkpoint of the highest step whose content has the digest that it names.

    Raises:
        CheckpointError: It was written in a form that this release does not know, or may not be read.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoints_in(folder)):
        try:
            metadata = _verified_metadata(path)
        except OSError as error:
            # The disk may give it at the next try, so it does not count as damaged.
            raise CheckpointError(f"{path} cannot be read: {error.strerror}. See to that and run again.") from error
        except (ValueError, RecursionError) as error:
            damaged[path] = str(error)
        else:
            _check_format(path, metadata)
            return Newest(path, metadata, damaged)
    return Newest(None, {}, damaged)


def check_newest(folder: Path, identity: Identity, num_steps: int) -> int:
    """Refuse a folder whose newest checkpoint this run could not continue. Damaged ones do not count.

    Returns:
        The step that the run goes on from; 0 without a checkpoint.

    Raises:
        CheckpointError: It belongs to another run or release, or is past the last step.
    """
    newest = newest_whole(folder)
    if newest.path is None:
        return 0
    check_checkpoint(newest.path, newest.metadata, identity, num_steps)
    return int(newest.metadata["step"])


def check_checkpoint(path: Path, metadata: Mapping[str, str], identity: Identity, num_steps: int) -> None:
    """Refuse a checkpoint that a run could not continue, by its metadata.

    Raises:
        CheckpointError: It belongs to another run, or is past the last step.
    """
    refuse_other_run(path, json.loads(metadata["identity"]), identity)
    step = int(metadata["step"])
    if step > num_steps:
        raise CheckpointError(
            f"{path} is at step {step}, and input.number_of_steps is {num_steps}. "
            f"Ask for {step} or more, or give another folder with --output."
        )


def _verified_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a file that is whole.

    Raises:
        ValueError: It is not; with what is wrong.
    """
    with path.open("rb") as file:
        head = _head_of(file, path.stat().st_size)
        metadata = _metadata_in(head)
        digest = metadata.get(SEAL)
        if digest is None:
            if FORMAT_KEY in metadata:
                raise ValueError("its digest is missing")
            return metadata
        found = hashlib.sha256(head.replace(digest.encode(), NO_DIGEST.encode(), 1))
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    if found.hexdigest() != digest:
        raise ValueError("its content does not have the digest that it names")
    return metadata


def _head_of(file: BinaryIO, size: int) -> bytes:
    """Read the length of the header, and the header."""
    length = file.read(LENGTH_BYTES)
    end = LENGTH_BYTES + int.from_bytes(length, "little")
    if len(length) < LENGTH_BYTES or end > size:
        raise ValueError(f"it has {size} bytes, fewer than its header")
    return length + file.read(end - LENGTH_BYTES)


def _metadata_in(head: bytes) -> dict[str, str]:
    header = json.loads(head[LENGTH_BYTES:])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its header has no metadata")
    return metadata


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    found = metadata.get(FORMAT_KEY)
    if found != FORMAT:
        said = "names no format" if found is None else f"has the format {found}"
        raise CheckpointError(
            f"{path} {said}; this release continues checkpoints of format {FORMAT}. "
            "Continue it with the release that wrote it, or give another folder with --output."
        )


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
        return f"{name}: " + "; ".join(f"{len(keys)} {kind} ({some_of(keys)})" for kind, keys in kinds.items() if keys)
    return f"{name}: {json.dumps(there)} there, {json.dumps(here)} here"


def _digest(clip: Clip) -> str:
    """Tell a clip from one with other pictures, sound or words; where its files lie does not matter."""
    footage = [
        (role, item.source.sha256, item.start_seconds, item.span_seconds, item.shape, *_said(item.canvas))
        for role, item in clip.footage.items()
    ]
    sound = [
        (role, item.source.sha256, item.start_seconds, item.span_seconds, item.preserve_pitch, item.gain)
        for role, item in clip.soundtrack.items()
    ]
    facts = (clip.caption, footage, sound, *_said(clip.ranges))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _said(fact: object) -> tuple[object, ...]:
    """Leave out what is not there, so that clips that never have it keep their digests."""
    return (fact,) if fact else ()


def _digest_of_lora(path: Path) -> str:
    try:
        return file_sha256(path.expanduser())
    except OSError as error:
        raise CheckpointError(
            f"model.lora {path} cannot be read: {error.strerror}. Give a LoRA file, or leave it out."
        ) from error
