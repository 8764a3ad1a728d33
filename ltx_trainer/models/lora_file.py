"""A LoRA file that training starts from: which pairs of matrices it holds, by its header alone.

It may be in the published layout, with the original names of modules, or in that of diffusers; with or without the
alphas of the pairs.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_trainer.errors import CheckpointError, ModelError, some_of
from ltx_trainer.models.header import Entry, read_header
from ltx_trainer.models.names import library_name

PREFIX = re.compile(r"(model\.)?diffusion_model\.|transformer\.")
MATRIX = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_down|lora_up|alpha)(\.default)?(\.weight)?")
SIDES = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up", "alpha": "alpha"}
ADAPTER_METADATA = "lora_adapter_metadata"
"""Where diffusers keeps what the adapter was made with, alpha included."""


@dataclass(frozen=True)
class Pair:
    """Two matrices of one module.

    Attributes:
        down: Key of A, which goes from the module's input to the rank.
        up: Key of B, which goes from there to the output.
        alpha: Key of the number that the product is scaled by, over the rank.
        rank: Of both.
    """

    down: str
    up: str
    alpha: str | None
    rank: int


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA file holds.

    Attributes:
        path: The file.
        pairs: By the library's name of the module.
        scale: What every product is scaled by, where no pair has an alpha of its own.
    """

    path: Path
    pairs: Mapping[str, Pair]
    scale: float


def read_lora_file(path: Path) -> LoraFile:
    """Find the pairs of a LoRA file, without loading one.

    Raises:
        CheckpointError: It is not there, is no LoRA of matrices A and B, or is cut short.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "is not there"
        raise CheckpointError(
            f"model.lora: {path} {state}. Give the path of a LoRA of the base's family in safetensors, or leave "
            "model.lora out."
        )
    try:
        metadata, entries = read_header(path)
    except ModelError as error:
        raise CheckpointError(str(error)) from error
    found: dict[str, dict[str, str]] = {}
    foreign = [key for key in entries if not _sorted_in(found, key)]
    if foreign or not found:
        raise CheckpointError(
            f"{path} is not a LoRA of the transformer: {_some(foreign)}, where modules of diffusion_model or "
            "transformer have lora_A and lora_B. model.lora takes a LoRA of the base's family in safetensors."
        )
    pairs = {module: _pair(path, module, keys, entries) for module, keys in found.items()}
    return LoraFile(path, pairs, _scale(path, metadata))


def check_warm_start(path: Path, modules: Iterable[str], rank: int) -> LoraFile:
    """Refuse a LoRA file that does not fit the adapter of a run, by its header alone.

    Args:
        path: A LoRA file, as in `model.lora`.
        modules: What the run trains, by the library's names.
        rank: Of the run.

    Raises:
        CheckpointError: It is no LoRA, or of another rank or of other modules; the message says what to set.
    """
    file, wanted = read_lora_file(path), set(modules)
    ranks = sorted({pair.rank for pair in file.pairs.values()})
    if ranks != [rank]:
        remedy = f"Set input.rank to {ranks[0]}." if len(ranks) == 1 else "A warm start takes one rank for all modules."
        raise CheckpointError(f"{path} has the rank {', '.join(map(str, ranks))} where this run has {rank}. {remedy}")
    if file.pairs.keys() != wanted:
        missing, foreign = wanted - file.pairs.keys(), file.pairs.keys() - wanted
        raise CheckpointError(
            f"{path} has other modules than this run: {_counted(missing)} are missing, {_counted(foreign)} are not "
            f"trained here. Set lora.targets to [{', '.join(_groups(file.pairs))}]."
        )
    return file


def _sorted_in(found: dict[str, dict[str, str]], key: str) -> bool:
    """Put a key where it belongs, and say whether it belongs to a LoRA."""
    prefix = PREFIX.match(key)
    matrix = MATRIX.fullmatch(key[prefix.end() :]) if prefix else None
    if prefix is None or matrix is None:
        return False
    is_published = prefix[0] != "transformer."
    module = library_name(matrix["module"]) if is_published else matrix["module"]
    return found.setdefault(module, {}).setdefault(SIDES[matrix["part"]], key) == key


def _pair(path: Path, module: str, keys: Mapping[str, str], entries: Mapping[str, Entry]) -> Pair:
    if not {"down", "up"} <= keys.keys():
        raise CheckpointError(f"{path} has only {', '.join(keys.values())} for {module}, which needs two matrices.")
    down, up = entries[keys["down"]]["shape"], entries[keys["up"]]["shape"]
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise CheckpointError(f"{path} has matrices of the shapes {down} and {up} for {module}, which are no pair.")
    return Pair(keys["down"], keys["up"], keys.get("alpha"), down[0])


def _scale(path: Path, metadata: Mapping[str, str]) -> float:
    """Give the scale that diffusers wrote in the metadata, and 1 where it wrote none."""
    if ADAPTER_METADATA not in metadata:
        return 1.0
    try:
        config = json.loads(metadata[ADAPTER_METADATA])
        config = {key.removeprefix("transformer."): value for key, value in config.items()}
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} has {ADAPTER_METADATA} without r and lora_alpha. Export it again.") from error
    _check_plain(path, config)
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _check_plain(path: Path, config: Mapping[str, Any]) -> None:
    special = [key for key in ("alpha_pattern", "rank_pattern", "use_dora", "lora_bias") if config.get(key)]
    if special:
        raise CheckpointError(
            f"{path} was made with {', '.join(special)}, which this run's adapter has not. A warm start takes a plain "
            "LoRA of one rank and one alpha."
        )


def _some(keys: Sequence[str]) -> str:
    return f"it holds {len(keys)} other tensors ({some_of(keys)})" if keys else "it is empty"


def _counted(modules: Iterable[str]) -> str:
    """Count by what two blocks have in common: `4 (attn1.to_q 4)`."""
    counts = Counter(".".join(module.split(".")[2:]) or module for module in modules)
    groups = ", ".join(f"{group} {count}" for group, count in sorted(counts.items()))
    return f"{counts.total()} ({groups})" if counts else "none"


def _groups(modules: Iterable[str]) -> list[str]:
    """Name the groups that lora.targets would have for these modules."""
    return sorted({(module.split(".") + [module] * 3)[2] for module in modules})
