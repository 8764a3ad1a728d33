"""The unified file of LTX-2.3: how it is told from others, and what it holds."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ltx_trainer.models.header import Entry
from ltx_trainer.models.unified import FileKind
from ltx_trainer.models.unified_ltx2_config import RULES, component_arguments
from ltx_trainer.models.unified_ltx2_names import LEFT_OUT, component_of, library_key
from ltx_trainer.models.unified_names import AUDIO_INPUT, VIDEO_INPUT
from ltx_trainer.models.unified_section import Arguments, Section

LATER = {"use_keyframes_abs_pos_embedding": True, "ff_bias": False, "use_prompt_adaln_single": False}
DECLARED_VERSION = re.compile(r"[0-9]+\.[0-9]+")


def _found(config: Section, metadata: Mapping[str, str], entries: Mapping[str, Entry]) -> str:
    """Tell versions apart by what they compute with, and by the number that a file gives itself."""
    transformer, vae = _part(config, "transformer"), _part(config, "vae")
    if VIDEO_INPUT in entries and AUDIO_INPUT not in entries:
        return "LTX-Video"
    declared = DECLARED_VERSION.match(metadata.get("model_version", ""))
    if declared and f"LTX-{declared[0]}" != RULES.title:
        return f"LTX-{declared[0]}"
    if vae.get("_class_name") == "CausalDiffusionVAE" or any(transformer.get(key) == on for key, on in LATER.items()):
        return "LTX-2.5"
    is_first = not (transformer.get("cross_attention_adaln") and transformer.get("caption_proj_before_connector"))
    return "LTX-2.0" if transformer and is_first else RULES.title


def _part(config: Section, name: str) -> Mapping[str, Any]:
    part = config.values.get(name)
    return part if isinstance(part, dict) else {}


def _namer(arguments: Mapping[str, Arguments]) -> Callable[[str], str | None]:
    return partial(library_key, num_stages=len(arguments["vae"]["block_out_channels"]))


LTX2_FILE = FileKind(
    components=("transformer", "vae", "audio_vae", "vocoder", "connectors"),
    rules=RULES,
    found=_found,
    arguments=component_arguments,
    component_of=component_of,
    namer=_namer,
    left_out=LEFT_OUT,
)
