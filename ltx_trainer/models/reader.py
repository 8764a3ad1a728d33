"""How a family's base models are read from folders and files, without torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.facts import AudioFacts, Resolutions
from ltx_trainer.models.folder import Layout
from ltx_trainer.models.names import ModuleGroups
from ltx_trainer.models.suitable import check_suitable, name_signs, weight_signs
from ltx_trainer.models.text_encoder import TextEncoderKind
from ltx_trainer.models.unified import FileKind, read_unified

Value = TypeVar("Value", int, list)


@dataclass(frozen=True)
class Parts:
    """What was found at a place, before it is held to anything.

    Attributes:
        components: The parts of the model, with the text encoder once it is known.
        names: What the model is called: folder, file and repository.
        signs: What it says of itself by which it is unsuitable as a training base.
        config: What a unified file says of itself; empty for a folder.
        overrides: What a folder says of itself beside the library's own files: a name, picture sizes, a version.
    """

    components: Mapping[str, Component]
    names: tuple[str, ...]
    signs: tuple[str, ...]
    config: Mapping[str, Any]
    overrides: Mapping[str, Any]

    @property
    def all_signs(self) -> list[str]:
        """List what says, anywhere, that it is unsuitable: names, what it says of itself, and headers of weights."""
        return list(dict.fromkeys([*name_signs(self.names), *self.signs, *weight_signs(self.components.values())]))


class Reader(ABC):
    """What tells one family's models from another's, and what is read of them.

    Attributes:
        family: As a row of the table of modes names it.
        layout: What a folder holds.
        file: What a unified file holds.
        encoder: Which text encoder it reads.
        default_encoder: Id on the hub of the text encoder that a unified file is used with.
        modules: What a LoRA may train.
        max_text_tokens: The longest prompt; the tokenizer's own limit may be shorter.
        resolutions: Picture sizes of a model that says nothing of them.
    """

    family: str
    layout: Layout
    file: FileKind
    encoder: TextEncoderKind
    default_encoder: str
    modules: ModuleGroups
    max_text_tokens: int
    resolutions: Resolutions

    def read_file(self, file: Path) -> Parts:
        """Find the parts in a unified file, without loading a weight.

        Raises:
            ModelError: The file is damaged, holds something else, or lacks a part.
        """
        model = read_unified(self.file, file)
        return Parts(model.components, (file.name, file.resolve().name), model.signs, model.config, overrides={})

    def settle(self, source: str, parts: Parts, asked: str | None, *, allowed: bool) -> str | None:
        """Refuse parts of an unsuitable or another model, and say which version they are of.

        Args:
            source: What to call the model.
            parts: What was found.
            asked: `model.version` of the settings.
            allowed: Take an unsuitable model too.

        Raises:
            ModelError: It is one that the family does not train, or another one than was asked for.
        """
        check_suitable(source, parts.all_signs, allowed=allowed)
        return self.version(source, parts, asked)

    @abstractmethod
    def check_configs(self, folder: Path, source: str, asked: str | None) -> None:
        """Refuse a model of another version, by its configs alone.

        Args:
            folder: Where the layout's `first_files` are, as far as the model has them.
            source: What to call it.
            asked: `model.version` of the settings.

        Raises:
            ModelError: It is one that the family does not train, or another one than was asked for.
        """

    def config_signs(self, folder: Path) -> Sequence[str]:
        """Find what a folder's configs say against it as a training base, beside names."""
        del folder
        return ()

    @abstractmethod
    def version(self, source: str, parts: Parts, asked: str | None) -> str | None:
        """Say which version a model is, as the family's table names it.

        Args:
            source: What to call it.
            parts: What was found.
            asked: `model.version` of the settings.

        Raises:
            ModelError: It is none of the family's, or another one than was asked for.
        """

    @abstractmethod
    def is_told(self, parts: Parts, version: str | None) -> bool:
        """Tell whether a model says what it is; without signs against it, it is then the full one."""

    def audio(self, components: Mapping[str, Component]) -> AudioFacts | None:
        """Read how a model hears; None for a family without sound."""
        del components
        return None

    def compression(self, vae: Component) -> tuple[int, int]:
        """Give the frames and the rows (and columns) of one latent cell."""
        return config_fact(vae, "temporal_compression_ratio", int), config_fact(vae, "spatial_compression_ratio", int)


def config_fact(component: Component, key: str, kind: type[Value]) -> Value:
    """Read a value of a component's config.

    Raises:
        ModelError: It is missing or of another type.
    """
    value = component.config.get(key)
    if not isinstance(value, kind):
        raise ModelError(
            f"the config of {component.origin} says {value!r} for {key}, which is of type {kind.__name__}. Fetch or "
            "convert the model again."
        )
    return value
