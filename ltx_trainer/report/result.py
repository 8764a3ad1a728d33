"""The machine-readable ends of a run: the hosted result, the status, and the record of the data."""

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltx_trainer.artifacts import Bundle, Finding, Footage, Role, Soundtrack
from ltx_trainer.atomic import write_bytes
from ltx_trainer.survey import Survey, SurveyedClip, silent_share

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


def write_record(folder: Path, survey: Survey) -> Path:
    """Write `dataset.json`: what is trained on, exactly, what is not, with its reason, and what was found in it.

    Args:
        folder: The run's own.
        survey: Of the data; clips that are only measured on stand among the others, marked.
    """
    record = {
        "with_audio": survey.with_audio,
        **_if_any("conditions", survey.conditions),
        "trained_on": [_clip(each) for each in survey.clips],
        "left_out": [{"name": item.name, "reason": item.reason} for item in survey.left_out],
        "advice": [
            {"kind": advice.kind, "sentence": advice.sentence, **_if_any("clips", advice.clips)}
            for advice in survey.advice
        ],
        **_if_any("found", [_finding(finding) for finding in survey.findings]),
        **_if_any(
            "near_duplicates",
            [
                {"clips": pair.clips, "bits_apart": pair.distance, "same_bytes": pair.same_bytes}
                for pair in survey.look_alikes
            ],
        ),
        **_if_any(
            "validation_in_training",
            [
                {
                    "item": overlap.item,
                    "role": overlap.role,
                    "file": overlap.file,
                    "clips": overlap.clips,
                    "same_bytes": overlap.same_bytes,
                }
                for overlap in survey.overlaps
            ],
        ),
    }
    return _write_json(folder / RECORD, record)


def _if_any(name: str, found: Sequence[Any]) -> dict[str, Any]:
    return {name: found} if found else {}


def _clip(each: SurveyedClip) -> dict[str, Any]:
    clip = each.clip
    record: dict[str, Any] = {"name": clip.name, "caption": clip.caption}
    if each.held_out:
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
    return record | _source(each) | _seen(each)


def _source(each: SurveyedClip) -> dict[str, Any]:
    """Say what the clip's files are, before anything is cut from them."""
    facts: dict[str, Any] = {}
    if (pictures := each.source.pictures) is not None:
        facts |= {
            "size": str(pictures.size),
            "num_frames": pictures.num_frames,
            "duration_seconds": float(pictures.duration_seconds),
        }
        if pictures.frame_rate is not None:
            facts["frame_rate"] = round(float(pictures.frame_rate), 3)
    if (sound := each.heard.sound) is not None:
        facts |= {
            "sound_seconds": float(sound.duration_seconds),
            "sound_rate_hz": sound.rate_hz,
            "channels": sound.channels,
            "loudness_lufs": sound.loudness_lufs,
        }
    return {"source": facts} if facts else {}


def _seen(each: SurveyedClip) -> dict[str, Any]:
    """Say what a glance at the clip told."""
    facts: dict[str, Any] = {}
    if (glance := each.glance) is not None:
        facts["cut_off"] = glance.cut_off
        if glance.moving is not None:
            facts |= {"moving": glance.moving, "motion_cut_off": glance.lost}
    if (waveform := each.waveform) is not None:
        facts["silent"] = round(silent_share(waveform), 4)
    if each.glimpse.problem is not None:
        facts["problem"] = each.glimpse.problem
    return {"seen": facts} if facts else {}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "file": finding.file,
        "sentence": finding.sentence,
        **finding.numbers,
        **_if_any("clips", finding.clips),
        **_if_any("ranges", [[float(begin), float(end)] for begin, end in finding.ranges]),
    }


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
    # A file name may hold what is no text; its replacement is the escape that JSON has for it.
    write_bytes(path, json.dumps(data, indent=2, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
    return path
