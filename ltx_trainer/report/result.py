"""The machine-readable ends of a run: the hosted result, the status, and the record of the data."""

import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltx_trainer.artifacts import Bundle, Clip, Footage, LeftOut, Role, Soundtrack
from ltx_trainer.atomic import write_text

STATUS = "status.json"
"""Name of the status in a run's folder."""

RECORD = "dataset.json"
"""Name of the record of the data in a run's folder."""


def write_result(bundle: Bundle, folder: Path) -> Path:
    """Write `result.json` in the schema of the hosted service; urls are `file:` ones."""
    files = {
        "lora_file": bundle.lora,
        "config_file": bundle.config,
        "video": bundle.video,
        "audio": bundle.audio,
        "debug_dataset": bundle.debug_dataset,
    }
    result = {name: _file(path) for name, path in files.items() if path is not None}
    return _write_json(folder / "result.json", result)


def write_status(folder: Path, *, code: int | None, message: str) -> Path:
    """Write `status.json`: the exit status and the message that the command ends with, or none while it runs."""
    return _write_json(folder / STATUS, {"code": code, "message": message})


def write_record(
    folder: Path,
    clips: Sequence[Clip],
    left_out: Sequence[LeftOut],
    *,
    with_audio: bool,
    held_out: frozenset[str] = frozenset(),
    conditions: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write `dataset.json`: what is trained on, exactly, and everything that is not, with its reason.

    Args:
        folder: The run's own.
        clips: What was encoded.
        left_out: What was not.
        with_audio: Whether sound is trained.
        held_out: Names of the clips that are only measured on; they stand among the others, marked.
        conditions: What is given of every clip, as `describe_conditions` says it.
    """
    record = {
        "with_audio": with_audio,
        **({"conditions": conditions} if conditions else {}),
        "trained_on": [_clip(clip, held_out=clip.name in held_out) for clip in clips],
        "left_out": [{"name": item.name, "reason": item.reason} for item in left_out],
    }
    return _write_json(folder / RECORD, record)


def _clip(clip: Clip, *, held_out: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"name": clip.name, "caption": clip.caption}
    if held_out:
        record["held_out"] = True
    if (footage := clip.footage.get(Role.TARGET)) is not None:
        record |= _pictures(footage)
    if (soundtrack := clip.soundtrack.get(Role.TARGET)) is not None:
        if footage is None:
            record |= _span(soundtrack)
        elif soundtrack.source != footage.source:
            record["sound"] = _span(soundtrack)
        record["sound_gain"] = soundtrack.gain
    given = {str(role): _pictures(item) for role, item in clip.footage.items() if role is not Role.TARGET}
    given |= {str(role): _sound(item) for role, item in clip.soundtrack.items() if role is not Role.TARGET}
    if given:
        record["given"] = given
    if clip.ranges:
        record["generated_seconds"] = [[float(begin), float(end)] for begin, end in clip.ranges]
    return record


def _pictures(footage: Footage) -> dict[str, Any]:
    return {
        **_span(footage),
        "num_frames": footage.shape.num_frames,
        "frame_rate": str(footage.shape.frame_rate),
        "size": str(footage.shape.size),
    }


def _sound(soundtrack: Soundtrack) -> dict[str, Any]:
    return {**_span(soundtrack), "sound_gain": soundtrack.gain}


def _span(part: Footage | Soundtrack) -> dict[str, Any]:
    return {
        "file": part.source.name,
        "sha256": part.source.sha256,
        "start_seconds": float(part.start_seconds),
        "span_seconds": float(part.span_seconds),
    }


def _file(path: Path) -> dict[str, Any]:
    kind = "application/octet-stream" if path.suffix == ".safetensors" else mimetypes.guess_type(path.name)[0]
    return {
        "url": path.resolve().as_uri(),
        "content_type": kind,
        "file_name": path.name,
        "file_size": path.stat().st_size,
    }


def _write_json(path: Path, data: object) -> Path:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    return path
