"""Whether a base model is one to train on: full, and in the type that it was trained in."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.folder import CONFIG_FILE, INDEX_FILE, read_json
from ltx_trainer.models.unified import SCALE_KEY, UNSUITABLE

logger = logging.getLogger(__name__)

FULL_NAME = re.compile(r"(^|[^a-z])dev([^a-z]|$)", re.IGNORECASE)
EIGHT_BIT = re.compile(r"F8_.*|F4|F6_.*|I8|U8")

WHAT_WORKS = "Train on the full (dev) checkpoint in bfloat16"


def check_suitable(source: str, signs: Sequence[str], *, allowed: bool) -> None:
    """Refuse a base on which LoRAs come out with little or no effect: distilled, or in 8 bits.

    Args:
        source: What to call it.
        signs: What says so; none of it may.
        allowed: Take it all the same.

    Raises:
        ModelError: There are signs, and they are not allowed.
    """
    if signs and not allowed:
        raise ModelError(
            f"{source} is unsuitable as a training base: {'; '.join(signs)}. {WHAT_WORKS}, or set "
            "model.allow_unsuitable_base: true."
        )


def warn_if_unknown(source: str, names: Iterable[str], signs: Sequence[str]) -> None:
    """Say so where nothing tells whether a model is the full one."""
    if not signs and not any(FULL_NAME.search(name) for name in names):
        logger.warning(
            "%s does not say whether it is the full (dev) or a distilled model. LoRAs trained on a distilled one come "
            "out with little effect.",
            source,
        )


def name_signs(names: Iterable[str]) -> list[str]:
    """Find what a model's names say against it, each word once."""
    words = {found.lower(): None for name in names for found in UNSUITABLE.findall(name)}
    return [f"its name says {word}" for word in words]


def config_names(folder: Path) -> list[str]:
    """List what the configs of a folder in the layout of diffusers call the model."""
    configs = [path for path in (folder / INDEX_FILE, folder / "transformer" / CONFIG_FILE) if path.is_file()]
    return [str(read_json(path).get("_name_or_path", "")) for path in configs]


def weight_signs(components: Iterable[Component]) -> list[str]:
    """Find what the headers of weight files say against a model.

    Raises:
        ModelError: The weights mean something only with scales of their own, so that no setting makes them load.
    """
    dtypes: set[str] = set()
    for component in components:
        _check_plain(component)
        dtypes |= {weight.dtype for weight in component.weights.values() if EIGHT_BIT.fullmatch(weight.dtype)}
    return [f"its weights are {', '.join(sorted(dtypes))}"] if dtypes else []


def refuse_gguf(path: Path) -> None:
    """Refuse a GGUF file, or a folder that holds nothing else, whatever is allowed: nothing here reads it.

    Raises:
        ModelError: It is one.
    """
    if path.suffix.lower() == ".gguf" or (path.is_dir() and _holds_only_gguf(path)):
        raise ModelError(f"{path} is GGUF, whose weights are quantised and which nothing here reads. {WHAT_WORKS}.")


def _holds_only_gguf(folder: Path) -> bool:
    is_whole = (folder / INDEX_FILE).is_file() or any(folder.glob("*.safetensors"))
    return not is_whole and any(folder.glob("*.gguf"))


def _check_plain(component: Component) -> None:
    scales = [name for name in component.weights if SCALE_KEY.fullmatch(name)]
    if scales or "quantization_config" in component.config:
        found = f"{len(scales)} tensors of scales, first {scales[0]}" if scales else "quantization_config in its config"
        raise ModelError(
            f"{component.origin} is quantised ({found}), which no class here computes with, allowed or not. "
            f"{WHAT_WORKS}."
        )
