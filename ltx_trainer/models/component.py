"""One part of a base model, wherever its weights lie: its config, and the place of every tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Weight:
    """Where one tensor lies.

    Attributes:
        file: A safetensors file.
        key: Its name in that file.
        dtype: As the file calls it, such as `BF16`.
        shape: Its sizes.
    """

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Component:
    """One part of a base model.

    Attributes:
        name: As the library's folders call it, such as `vae`.
        origin: What to call it in messages: its folder, or the file that it lies in with others.
        config: Arguments of the library's class.
        weights: Place of each tensor by the library's name of it.
        files: Everything that decides what it computes, sorted.
    """

    name: str
    origin: str
    config: Mapping[str, Any]
    weights: Mapping[str, Weight]
    files: tuple[Path, ...]
