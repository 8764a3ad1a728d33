"""A base model as Lightricks publishes it: one safetensors file with all parts but the text encoder.

Only its header is read. The config lies in the metadata, and the names of tensors are the original ones.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError, some_of
from ltx_trainer.models.component import Component, Weight
from ltx_trainer.models.header import Entry, read_header
from ltx_trainer.models.unified_section import Arguments, Rules, Section, Shapes

LORA_KEY = re.compile(r".+\.(lora_[AB]|lora_(down|up))(\..+)?")
SCALE_KEY = re.compile(r"(.+\.)?(weight_scale(_2)?|input_scale|scale_weight|scale_input|comfy_quant|scaled_fp8)")

UNSUITABLE = re.compile(
    r"(?<![a-z])(?:distilled|fp8|float8|nvfp4|nf4|int8|int4|gguf)(?!\d)|(?<!\d)[48]-?bit", re.IGNORECASE
)
"""What in a name or in metadata says that a model is distilled or quantised."""

OFF = frozenset({"false", "no", "none", "0"})
DISTILLED_STEPS = "allowed_inference_steps"
LONGEST_NAME = 80
"""Longer texts are prose, such as a licence, and may speak of other models."""


@dataclass(frozen=True)
class UnifiedModel:
    """What one file holds.

    Attributes:
        components: The parts of the model by name: all but the text encoder and its tokenizer.
        metadata: As in the file.
        config: What the metadata says of the parts.
        signs: What in the metadata says that the model is unsuitable as a training base; none of it may be said.
    """

    components: Mapping[str, Component]
    metadata: Mapping[str, str]
    config: Mapping[str, Any]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class FileKind:
    """What the unified file of a family holds.

    Attributes:
        components: The parts of a model.
        rules: Of its config.
        found: Says what a file holds, given its config, its metadata and its tensors: the family's title if it is one.
        arguments: Says how to build each component, given the config and the sizes of the tensors.
        component_of: Names the component that a tensor belongs to; None if it is left out or of no component.
        namer: Gives, for the arguments of each component, what turns a file's name of a tensor into the one that the
            component's class has for it, or into None where no such file uses the name.
        left_out: Tensors that nothing computes with.
    """

    components: tuple[str, ...]
    rules: Rules
    found: Callable[[Section, Mapping[str, str], Mapping[str, Entry]], str]
    arguments: Callable[[Section, Shapes], Mapping[str, Arguments]]
    component_of: Callable[[str], str | None]
    namer: Callable[[Mapping[str, Arguments]], Callable[[str], str | None]]
    left_out: re.Pattern[str]

    @property
    def title(self) -> str:
        """What to call the family in messages."""
        return self.rules.title


def read_unified(kind: FileKind, file: Path) -> UnifiedModel:
    """Find the parts of a base model in a unified file, without loading a weight.

    Args:
        kind: What it must hold.
        file: A `.safetensors` file in Lightricks' own layout.

    Raises:
        ModelError: The file is damaged, holds something else, or lacks a part.
    """
    metadata, entries = read_header(file)
    _check_plain(file, entries)
    config = _read_config(kind, file, metadata)
    _check_version(kind, config, metadata, entries)
    _check_complete(kind, file, entries)
    arguments = kind.arguments(config, {key: tuple(entry["shape"]) for key, entry in entries.items()})
    weights = _weights(kind, file, entries, kind.namer(arguments))
    components = {name: _component(file, name, arguments[name], weights[name]) for name in kind.components}
    return UnifiedModel(components, metadata, config.values, tuple(_signs(metadata, config)))


def _check_plain(file: Path, entries: Mapping[str, Entry]) -> None:
    """Refuse what is no model, or one whose numbers mean something only with other numbers."""
    lora = [key for key in entries if LORA_KEY.fullmatch(key)]
    if lora:
        raise ModelError(
            f"{file} is a LoRA ({_some(lora)}), not a base model. Give a base in model.base; to start training from "
            "this LoRA, name it in model.lora."
        )
    scales = [key for key in entries if SCALE_KEY.fullmatch(key)]
    if scales:
        raise ModelError(
            f"{file} is quantised, with scales of its own ({_some(scales)}), which no class here computes with. "
            "Give the full (dev) checkpoint in bfloat16."
        )


def _some(keys: list[str]) -> str:
    return f"{len(keys)} tensor{'s' * (len(keys) > 1)}: {some_of(keys)}"


def _read_config(kind: FileKind, file: Path, metadata: Mapping[str, str]) -> Section:
    if "config" not in metadata:
        found = f"its metadata has {', '.join(metadata)}" if metadata else "it has no metadata"
        raise ModelError(
            f"{file} does not say what it holds: {found}, where Lightricks' own file has config. A file that was split "
            f"or packed again loses it. {kind.rules.what_works}"
        )
    config = _parsed(metadata["config"])
    if not isinstance(config, dict):
        raise ModelError(f"the config in the metadata of {file} is not a JSON object. {kind.rules.what_works}")
    return Section(file, "", config, kind.rules)


def _parsed(text: str) -> object:
    """Read a metadata value, which is JSON or plain text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_version(kind: FileKind, config: Section, metadata: Mapping[str, str], entries: Mapping[str, Entry]) -> None:
    found = kind.found(config, metadata, entries)
    if found != kind.title:
        raise ModelError(
            f"{config.file} holds {found}; this mode trains {kind.title}, whose LoRAs and prompts are its own. "
            f"{kind.rules.what_works}"
        )


def _check_complete(kind: FileKind, file: Path, entries: Mapping[str, Entry]) -> None:
    held = {kind.component_of(key) for key in entries}
    missing = [name for name in kind.components if name not in held]
    if missing:
        found = [name for name in kind.components if name in held]
        raise ModelError(
            f"{file} lacks {', '.join(missing)} and holds only {', '.join(found) or 'tensors of no part of a model'}. "
            f"{kind.rules.what_works}"
        )


def _weights(
    kind: FileKind, file: Path, entries: Mapping[str, Entry], library_key: Callable[[str], str | None]
) -> dict[str, dict[str, Weight]]:
    """Sort the file's tensors by component, under the library's names."""
    weights: dict[str, dict[str, Weight]] = {name: {} for name in kind.components}
    unexpected: list[str] = []
    for key, entry in entries.items():
        component, name = kind.component_of(key), library_key(key)
        if component and name:
            weights[component][name] = Weight(file, key, entry["dtype"], tuple(entry["shape"]))
        elif not kind.left_out.fullmatch(key):
            unexpected.append(key)
    if unexpected:
        raise ModelError(
            f"{file} holds what {kind.title} has no place for: {_some(unexpected)}. {kind.rules.what_works}"
        )
    return weights


def _component(file: Path, name: str, arguments: Arguments, weights: Mapping[str, Weight]) -> Component:
    return Component(name=name, origin=f"{name} in {file}", config=arguments, weights=weights, files=(file,))


def _signs(metadata: Mapping[str, str], config: Section) -> list[str]:
    """Find what is said of distillation or of 8-bit weights, each word once."""
    signs: dict[str, str] = {}
    for key, text in metadata.items():
        for path, value in _leaves(key, _parsed(text)):
            for word, sign in _sign(path, value):
                signs.setdefault(word, sign)
    if config.values.get(DISTILLED_STEPS):
        signs[DISTILLED_STEPS] = f"its config lists {DISTILLED_STEPS}, as a distilled model's does"
    return list(signs.values())


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Walk a parsed metadata value down to what is neither an object nor a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(path, inner)
    else:
        yield path, value


def _sign(path: str, value: object) -> Iterator[tuple[str, str]]:
    named = UNSUITABLE.search(path)
    if named and value and str(value).lower() not in OFF:
        yield named[0].lower(), f"its metadata has {path}"
    said = UNSUITABLE.search(value) if isinstance(value, str) and len(value) <= LONGEST_NAME else None
    if said:
        yield said[0].lower(), f"its metadata says {value} for {path}"
