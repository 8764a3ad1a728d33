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

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"
TRANSFORMERS_PARTS = frozenset({"text_encoder", "captioner"})

TOKENIZER_EXTRAS = ("special_tokens_map.json", "added_tokens.json")
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model")
TOKENIZER_FILES = (TOKENIZER_CONFIG, *VOCABULARIES, *TOKENIZER_EXTRAS)


@dataclass(frozen=True)
class Layout:
    """What the folder of a family's model holds.

    Attributes:
        title: What to call the family in messages.
        pipelines: Classes that the index of such a folder may name, the usual one first.
        components: The parts with weights of diffusers; a text encoder and a tokenizer are there too.
        vocabularies: Files that its tokenizer may lie in; one is enough.
    """

    title: str
    pipelines: tuple[str, ...]
    components: tuple[str, ...]
    vocabularies: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Name the folders with weights."""
        return (*self.components, "text_encoder")

    @property
    def what_it_holds(self) -> str:
        """Say what a whole folder holds."""
        folders = (*self.parts, "tokenizer", "scheduler")
        return f"An {self.title} folder holds {INDEX_FILE} and the folders {', '.join(folders)}."

    @property
    def first_files(self) -> tuple[str, ...]:
        """Name the small files that show what a model is and how its weights are split."""
        return (
            INDEX_FILE,
            OVERRIDES_FILE,
            SCHEDULER_FILE,
            *(f"{name}/{CONFIG_FILE}" for name in self.parts),
            *(f"{name}/{weights_name(name)}.index.json" for name in self.parts),
            f"tokenizer/{TOKENIZER_CONFIG}",
        )

    def files_to_fetch(self, folder: Path) -> list[str]:
        """Name the files that make a model whole, by what its `first_files` in a folder say of its shards."""
        weights = [path for name in self.parts for path in weight_files(folder / name, weights_name(name))]
        return [
            *self.first_files,
            *(f"tokenizer/{name}" for name in tokenizer_names(self.vocabularies)),
            *(path.relative_to(folder).as_posix() for path in weights),
        ]


def weights_name(part: str) -> str:
    """Say what the library calls the weights of a part."""
    return TRANSFORMERS_WEIGHTS if part in TRANSFORMERS_PARTS else DIFFUSERS_WEIGHTS


def tokenizer_names(vocabularies: tuple[str, ...]) -> tuple[str, ...]:
    """Name the files that a tokenizer may consist of."""
    return (TOKENIZER_CONFIG, *vocabularies, *TOKENIZER_EXTRAS)


@dataclass(frozen=True)
class FolderModel:
    """What a folder holds.

    Attributes:
        components: The parts of the model by name: all but the text encoder and its tokenizer.
        overrides: A name and picture sizes of its own; empty without them.
    """

    components: Mapping[str, Component]
    overrides: Mapping[str, Any]


def read_folder(layout: Layout, folder: Path) -> FolderModel:
    """Find the parts of a base model in a folder, without loading a weight.

    Args:
        layout: What it must hold.
        folder: A model in the layout of diffusers: `model_index.json` and one folder for each component.

    Raises:
        ModelError: Files are missing or cut short.
    """
    _check_complete(layout, folder)
    return FolderModel(
        components={name: read_component(folder / name, name) for name in layout.components},
        overrides=read_overrides(folder),
    )


def read_overrides(folder: Path) -> Mapping[str, Any]:
    """Read what a folder says of itself beside the library's own files: a name, picture sizes, a version."""
    overrides = folder / OVERRIDES_FILE
    return read_json(overrides) if overrides.is_file() else {}


def check_pipeline(layout: Layout, folder: Path, source: str) -> None:
    """Refuse a model of another family, by its index alone.

    Args:
        layout: What it must hold.
        folder: Where its index is.
        source: What to call it.

    Raises:
        ModelError: It names no pipeline of the family.
    """
    if not (folder / INDEX_FILE).is_file():
        raise ModelError(f"{source} has no {INDEX_FILE}. {layout.what_it_holds}")
    found = read_json(folder / INDEX_FILE).get("_class_name")
    if found not in layout.pipelines:
        raise ModelError(
            f"{source} holds a model of {found}; this mode trains {layout.title}, which is an {layout.pipelines[0]}. "
            f"Give a folder of {layout.title}, or an endpoint that trains what is in this one."
        )


def read_component(folder: Path, name: str) -> Component:
    """Find the tensors of one part of a model.

    Args:
        folder: Its config and weights: one safetensors file, or an index and its shards.
        name: Such as `vae` or `text_encoder`, which decides what the files are called.

    Raises:
        ModelError: A file is missing or damaged.
    """
    files = weight_files(folder, weights_name(name))
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


def _check_complete(layout: Layout, folder: Path) -> None:
    missing = [str(path.relative_to(folder)) for path in _missing_files(layout, folder)]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. {layout.what_it_holds}")


def _missing_files(layout: Layout, folder: Path) -> Iterator[Path]:
    needed = [*(folder / name / CONFIG_FILE for name in layout.parts), folder / "tokenizer" / TOKENIZER_CONFIG]
    yield from (path for path in (*needed, folder / SCHEDULER_FILE) if not path.is_file())
    for name in layout.parts:
        yield from (path for path in weight_files(folder / name, weights_name(name)) if not path.is_file())
    if not any((folder / "tokenizer" / name).is_file() for name in layout.vocabularies):
        yield folder / "tokenizer" / layout.vocabularies[0]


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
