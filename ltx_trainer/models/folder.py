"""A base model in the layout of diffusers: one folder for each part.

Only JSON and the headers of weight files are read, so a request is checked in milliseconds.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component, Weight
from ltx_trainer.models.header import read_header

OVERRIDES_FILE = "ltx_trainer.json"
INDEX_FILE = "model_index.json"
SCHEDULER_FILE = "scheduler/scheduler_config.json"
CONFIG_FILE = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

COMPONENTS = ("transformer", "vae", "audio_vae", "vocoder", "connectors")
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"
WEIGHTS: Mapping[str, str] = dict.fromkeys(COMPONENTS, DIFFUSERS_WEIGHTS) | {"text_encoder": TRANSFORMERS_WEIGHTS}

VOCABULARIES = ("tokenizer.json", "tokenizer.model")
TOKENIZER_FILES = (TOKENIZER_CONFIG, *VOCABULARIES, "special_tokens_map.json", "added_tokens.json")

FOLDERS = (*WEIGHTS, "tokenizer", "scheduler")
WHAT_IT_HOLDS = f"An LTX-2.3 folder holds {INDEX_FILE} and the folders {', '.join(FOLDERS)}."

FIRST_FILES = (
    INDEX_FILE,
    OVERRIDES_FILE,
    SCHEDULER_FILE,
    *(f"{name}/{CONFIG_FILE}" for name in WEIGHTS),
    *(f"{name}/{weights}.index.json" for name, weights in WEIGHTS.items()),
    f"tokenizer/{TOKENIZER_CONFIG}",
)
"""Small files that show what a model is and how its weights are split."""


@dataclass(frozen=True)
class FolderModel:
    """What a folder holds.

    Attributes:
        components: The parts of the model by name: all but the text encoder and its tokenizer.
        overrides: A name and picture sizes of its own; empty without them.
    """

    components: Mapping[str, Component]
    overrides: Mapping[str, Any]


def read_folder(folder: Path) -> FolderModel:
    """Find the parts of a base model in a folder, without loading a weight.

    Args:
        folder: A model in the layout of diffusers: `model_index.json` and one folder for each component.

    Raises:
        ModelError: Files are missing or cut short, or the model is another one.
    """
    check_family(folder, str(folder))
    _check_complete(folder)
    overrides = folder / OVERRIDES_FILE
    return FolderModel(
        components={name: read_component(folder / name, name) for name in COMPONENTS},
        overrides=read_json(overrides) if overrides.is_file() else {},
    )


def check_family(folder: Path, source: str) -> None:
    """Refuse a model of another family or version, by its configs alone.

    Args:
        folder: Where `FIRST_FILES` are, as far as the model has them.
        source: What to call it.

    Raises:
        ModelError: It is none of LTX-2.3 in the layout of diffusers.
    """
    if not (folder / INDEX_FILE).is_file():
        raise ModelError(f"{source} has no {INDEX_FILE}. {WHAT_IT_HOLDS}")
    found = read_json(folder / INDEX_FILE).get("_class_name")
    if found != "LTX2Pipeline":
        raise ModelError(f"{source} holds a model of {found}; this mode trains LTX-2.3, which is an LTX2Pipeline.")
    transformer = folder / "transformer" / CONFIG_FILE
    version = _version(read_json(transformer)) if transformer.is_file() else "2.3"
    if version != "2.3":
        raise ModelError(
            f"{source} holds LTX-{version}; this mode trains LTX-2.3, whose LoRAs and prompts are its own."
        )


def read_component(folder: Path, name: str) -> Component:
    """Find the tensors of one part of a model.

    Args:
        folder: Its config and weights: one safetensors file, or an index and its shards.
        name: Such as `vae` or `text_encoder`, which decides what the files are called.

    Raises:
        ModelError: A file is missing or damaged.
    """
    files = weight_files(folder, WEIGHTS[name])
    return Component(
        name=name,
        origin=str(folder),
        config=read_json(folder / CONFIG_FILE),
        weights=_weights(path for path in files if path.suffix == ".safetensors"),
        files=tuple(sorted([folder / CONFIG_FILE, *files])),
    )


def weight_files(folder: Path, weights: str) -> list[Path]:
    """List the weight files of a part: one, or an index and its shards, whether they are there or not.

    Raises:
        ModelError: The index cannot be read.
    """
    index = folder / f"{weights}.index.json"
    if (folder / weights).is_file() or not index.is_file():
        return [folder / weights]
    return [index, *(folder / shard for shard in _shards(index))]


def files_to_fetch(folder: Path) -> list[str]:
    """Name the files that make a model whole, by what its `FIRST_FILES` in a folder say of its shards."""
    weights = [path for name, weights in WEIGHTS.items() for path in weight_files(folder / name, weights)]
    return [
        *FIRST_FILES,
        *(f"tokenizer/{name}" for name in TOKENIZER_FILES),
        *(path.relative_to(folder).as_posix() for path in weights),
    ]


def tokenizer_files(folder: Path) -> list[Path]:
    """List the files that decide how a text becomes tokens, sorted."""
    return [folder / name for name in sorted(TOKENIZER_FILES) if (folder / name).is_file()]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: The file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}. Fetch it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a JSON object. Fetch it again.")
    return content


def _version(transformer: Mapping[str, Any]) -> str:
    if transformer.get("use_keyframes_abs_pos_embedding"):
        return "2.5"
    is_first = not transformer.get("cross_attn_mod") or transformer.get("use_prompt_embeddings", True)
    return "2.0" if is_first else "2.3"


def _check_complete(folder: Path) -> None:
    missing = [str(path.relative_to(folder)) for path in _missing_files(folder)]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. {WHAT_IT_HOLDS}")


def _missing_files(folder: Path) -> Iterator[Path]:
    needed = [*(folder / name / CONFIG_FILE for name in WEIGHTS), folder / "tokenizer" / TOKENIZER_CONFIG]
    yield from (path for path in (*needed, folder / SCHEDULER_FILE) if not path.is_file())
    for name, weights in WEIGHTS.items():
        yield from (path for path in weight_files(folder / name, weights) if not path.is_file())
    if not any((folder / "tokenizer" / name).is_file() for name in VOCABULARIES):
        yield folder / "tokenizer" / VOCABULARIES[0]


def _shards(index: Path) -> list[str]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{index} names no shards under weight_map. Fetch or convert the model again.")
    return sorted(set(shards.values()))


def _weights(files: Iterable[Path]) -> dict[str, Weight]:
    weights: dict[str, Weight] = {}
    for path in files:
        _, entries = read_header(path)
        for key, entry in entries.items():
            if key in weights:
                raise ModelError(f"{key} is both in {weights[key].file} and in {path}. Fetch the model again.")
            weights[key] = Weight(path, key, entry["dtype"], tuple(entry["shape"]))
    return weights
