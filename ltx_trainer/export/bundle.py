"""The published LoRA and its config file.

The layout is that of the model's original code: `diffusion_model.<module>.lora_A.weight` and `.lora_B.weight` in bf16,
with alpha / rank folded into B, so that scale 1 is right in every loader.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltx_trainer import __version__
from ltx_trainer.artifacts import Adapter, Bundle, Render
from ltx_trainer.atomic import whole_file, write_text
from ltx_trainer.conditions import Terms, describe_conditions
from ltx_trainer.config import Settings
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import CheckpointError, ConfigError
from ltx_trainer.export.check import check_lora
from ltx_trainer.geometry import ClipShape
from ltx_trainer.models.family import Family
from ltx_trainer.modes import Condition
from ltx_trainer.tensorfile import tensor_bytes


def write_bundle(
    settings: Settings,
    family: Family,
    adapter: Adapter,
    render: Render | None,
    folder: Path,
    *,
    shape: ClipShape | None,
    terms: Terms,
    preview_terms: Terms,
    with_audio: bool,
    inference: Mapping[str, Any],
    debug_dataset: Path | None = None,
) -> Bundle:
    """Write `lora.safetensors` and `config.json`, and check the first by reading it back.

    Args:
        settings: Of the run.
        family: The base model's family.
        adapter: The trained adapter.
        render: The last preview; None in a run without validation items.
        folder: The run's output.
        shape: What a training clip was; None in a mode without video.
        terms: What was given of it.
        preview_terms: What was given of a preview.
        with_audio: Whether sound was trained.
        inference: Recommended sampling settings, written into the config file.
        debug_dataset: The archive of what training saw, if there is one.

    Raises:
        CheckpointError: The checkpoint cannot be read, or the file that was written does not hold a working LoRA.
        ConfigError: The folder cannot be written to, or the file of the warm start is gone.
        OutOfResources: The disk is full.
    """
    lora, config = folder / "lora.safetensors", folder / "config.json"
    scale = settings.lora_alpha / settings.input.rank
    modules = family.lora_modules(settings.lora_targets(with_audio=with_audio), frozen=terms.frozen)
    expected = [f"diffusion_model.{family.published_name(module)}.lora_{m}.weight" for module in modules for m in "AB"]
    weights = _adapter_weights(adapter)
    published = {
        _published_key(family, name): _published_tensor(name, weight, scale) for name, weight in weights.items()
    }
    facts = _config(settings, family, adapter, with_audio=with_audio) | {
        "conditions": describe_conditions(settings.mode, settings.input, terms, family.facts.factors),
        "training": _geometry(shape, terms),
        "inference": {
            **_geometry(preview_terms.shape, preview_terms),
            **inference,
            "lora_scale": 1.0,
            "negative_prompt": settings.input.validation_negative_prompt,
            "reverse": settings.input.validation_reverse,
        },
    }
    metadata = _metadata(settings, family, adapter, with_audio=with_audio) | _reference_factors(settings, terms)
    content = tensor_bytes(published, metadata)
    # The file takes its name only after the check: a LoRA that lies there is one that works.
    with whole_file(lora) as unchecked:
        unchecked.write_bytes(content)
        check_lora(unchecked, expected)
    write_text(config, json.dumps({**facts, "lora_sha256": hashlib.sha256(content).hexdigest()}, indent=2) + "\n")
    joined, makes_pictures = None if render is None else render.joined, settings.mode.generates_video
    video, audio = (joined, None) if makes_pictures else (None, joined)
    return Bundle(lora, config, video, audio, debug_dataset)


def _adapter_weights(adapter: Adapter) -> dict[str, Tensor]:
    """Read what is published of a checkpoint, and nothing of the optimizer's."""
    try:
        with safe_open(adapter.checkpoint, "pt") as file:
            names = [name for name in file.keys() if name.startswith(adapter.prefix)]  # noqa: SIM118 - not a mapping
            return {name.removeprefix(adapter.prefix): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{adapter.checkpoint} cannot be read: {error}. Remove it and run again.") from error


def _published_key(family: Family, name: str) -> str:
    module, _, matrix = name.partition(".lora_")
    return f"diffusion_model.{family.published_name(module)}.lora_{matrix}"


def _published_tensor(name: str, weight: Tensor, scale: float) -> Tensor:
    return (weight * scale if ".lora_B." in name else weight).to(torch.bfloat16).contiguous()


def _metadata(settings: Settings, family: Family, adapter: Adapter, *, with_audio: bool) -> dict[str, str]:
    return {
        "format": "pt",
        "trained_with": f"ltx-trainer {__version__}",
        "endpoint": settings.endpoint,
        "mode": settings.mode.name,
        "family": family.facts.family,
        "base_model": family.facts.name,
        "rank": str(settings.input.rank),
        "steps": str(adapter.step),
        "trigger_phrase": settings.input.trigger_phrase,
        "with_audio": str(with_audio).lower(),
    }


def _reference_factors(settings: Settings, terms: Terms) -> dict[str, str]:
    """Say how much smaller and slower than its output an inference endpoint makes a reference."""
    if terms.shape is None or Condition.REFERENCE not in settings.mode.conditions:
        return {}
    return {
        "reference_downscale_factor": str(terms.reference_space),
        "reference_temporal_scale_factor": str(terms.reference_time),
    }


def _geometry(shape: ClipShape | None, terms: Terms) -> dict[str, Any]:
    if shape is None:
        return {"duration_seconds": float(terms.duration_seconds)}
    return {
        "num_frames": shape.num_frames,
        "frame_rate": float(shape.frame_rate),
        "width": shape.size.width,
        "height": shape.size.height,
    }


def _config(settings: Settings, family: Family, adapter: Adapter, *, with_audio: bool) -> dict[str, Any]:
    request = settings.input
    return {
        "endpoint": settings.endpoint,
        "mode": settings.mode.name,
        "family": family.facts.family,
        "base_model": family.facts.name,
        "base_model_revision": family.facts.revision,
        "base_model_version": family.facts.version,
        "warm_start": _warm_start(settings),
        "rank": request.rank,
        "steps": adapter.step,
        "trigger_phrase": request.trigger_phrase,
        "with_audio": with_audio,
    }


def _warm_start(settings: Settings) -> dict[str, str] | None:
    """Name the LoRA that training started from; None if it started from nothing."""
    path = settings.model.lora
    if path is None:
        return None
    try:
        return {"file_name": path.name, "sha256": file_sha256(path.expanduser())}
    except OSError as error:
        raise ConfigError(
            f"model.lora {path} cannot be read any more: {error.strerror}. Put it back and run again; training goes on "
            "from its last checkpoint."
        ) from error
