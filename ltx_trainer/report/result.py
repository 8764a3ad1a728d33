"""The machine-readable ends of a run: the hosted result, the status, and the record of the data."""

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltx_trainer.artifacts import Bundle, Clip, LeftOut, Role
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
) -> Path:
    """Write `dataset.json`: what is trained on, exactly, and everything that is not, with its reason.

    Args:
        folder: The run's own.
        clips: What was encoded.
        left_out: What was not.
        with_audio: Whether sound is trained.
        held_out: Names of the clips that are only measured on; they stand among the others, marked.
    """
    record = {
        "with_audio": with_audio,
        "trained_on": [_clip(clip, held_out=clip.name in held_out) for clip in clips],
        "left_out": [{"name": item.name, "reason": item.reason} for item in left_out],
    }
    return _write_json(folder / RECORD, record)


def _clip(clip: Clip, *, held_out: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"name": clip.name, "caption": clip.caption}
    if held_out:
        record["held_out"] = True
    if (footage := clip.footage.get(Role.TARGET)) is not None:
        record |= {
            "file": footage.source.name,
            "sha256": footage.source.sha256,
            "start_seconds": float(footage.start_seconds),
            "span_seconds": float(footage.span_seconds),
            "num_frames": footage.shape.num_frames,
            "frame_rate": str(footage.shape.frame_rate),
            "size": str(footage.shape.size),
        }
    if (soundtrack := clip.soundtrack.get(Role.TARGET)) is not None:
        record["sound_gain"] = soundtrack.gain
    return record


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
