"""The config in the metadata of a unified file, part by part, with the rules that a family has for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from ltx_trainer.errors import ModelError

Value = TypeVar("Value", bool, int, float, str, list[Any])
Shapes = Mapping[str, tuple[int, ...]]
"""Sizes of each tensor, by its name in the file."""

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """What the config of a family's files may say.

    Attributes:
        title: What to call the family in messages.
        allowed: What a section may say, where it says anything, that the library's classes compute.
        required: What no tensor's size would give away if it were guessed wrong, by section.
        what_works: A sentence for messages.
    """

    title: str
    allowed: Mapping[str, Mapping[str, tuple[Any, ...]]]
    required: Mapping[str, tuple[str, ...]]
    what_works: str


@dataclass(frozen=True)
class Section:
    """A part of the config, with its place for messages.

    Attributes:
        file: Where it was read.
        name: Path of the part, with dots.
        values: What it says.
        rules: Of the family.
    """

    file: Path
    name: str
    values: Mapping[str, Any]
    rules: Rules

    def inner(self, key: str) -> "Section":
        """Give a part of this part.

        Raises:
            ModelError: There is none.
        """
        name = f"{self.name}.{key}" if self.name else key
        values = self.values.get(key)
        if not isinstance(values, dict):
            found = "nothing" if values is None else f"a {type(values).__name__}"
            raise ModelError(
                f"the config in {self.file} has {found} for {name}, which is a section. {self.rules.what_works}"
            )
        section = Section(self.file, name, values, self.rules)
        section.check()
        return section

    def get(self, key: str, default: Value) -> Value:
        """Read a value of the default's type.

        Raises:
            ModelError: It is of another type.
        """
        value: Any = self.values.get(key, default)
        if type(default) is float and type(value) is int:
            value = float(value)
        if type(default) is int and type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not type(default):
            raise self.error(key, f"of type {type(default).__name__}")
        return cast("Value", value)

    def size(self, key: str, default: int) -> int:
        """Read a whole number from 1.

        Raises:
            ModelError: It is something else.
        """
        value = self.get(key, default)
        if value < 1:
            raise self.error(key, "at least 1")
        return value

    def sizes(self, key: str, default: list[int]) -> list[int]:
        """Read whole numbers, as many as the default has.

        Raises:
            ModelError: It is not a list of so many.
        """
        values = self.get(key, default)
        if len(values) != len(default) or not all(type(value) is int for value in values):
            raise self.error(key, f"{len(default)} whole numbers")
        return values

    def error(self, key: str, rule: str) -> ModelError:
        """Say that a value breaks a rule."""
        return ModelError(
            f"the config in {self.file} says {self.values.get(key)!r} for {self.name}.{key}, which is {rule}. "
            f"{self.rules.what_works}"
        )

    def check(self) -> None:
        """Hold the section to what the library's classes compute.

        Raises:
            ModelError: It says something else, or nothing where nothing can be assumed.
        """
        for key, allowed in self.rules.allowed.get(self.name, {}).items():
            if self.values.get(key, allowed[0]) not in allowed:
                raise self.error(key, f"{' or '.join(map(repr, allowed))} in {self.rules.title}")
        for key in self.rules.required.get(self.name, ()):
            if key not in self.values:
                raise self.error(key, "never left out")


Block = tuple[str, Section]
"""The kind of a block of the video VAE, and what is said of it."""


def read_block(section: Section, key: str, block: object) -> Block:
    """Read one block of a list: a kind and what is said of it, or a kind and a number of layers.

    Raises:
        ModelError: It is neither.
    """
    match block:
        case [str(kind), dict(values)]:
            pass
        case [str(kind), int(num_layers)]:
            values = {"num_layers": num_layers}
        case _:
            raise section.error(key, "a list of pairs, a kind and its values")
    return kind, Section(section.file, f"{section.name}.{key}.{kind}", values, section.rules)
