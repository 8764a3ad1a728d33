"""The validation items of a request, their inputs found and looked at."""

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from ltx_trainer import media
from ltx_trainer.artifacts import Footage, MediaKind, Preview, SourceFile
from ltx_trainer.config import Request
from ltx_trainer.errors import ConfigError, MediaError
from ltx_trainer.geometry import ClipShape


class Finder(Protocol):
    """Gives the file that a source stands for."""

    def __call__(self, source: str, *, what: str) -> Path:
        """Give its path; `what` names the field for messages."""
        ...


def prepare_previews(request: Request, shape: ClipShape, find: Finder) -> tuple[Preview, ...]:
    """Say what will be rendered, in the order of the request.

    Args:
        request: Holds the validation items.
        shape: Of every preview.
        find: Gives the file of an image.

    Raises:
        ConfigError: An input is not there.
        DatasetError: An input cannot be fetched.
        MediaError: An input is not the picture that it should be.
    """
    return tuple(
        Preview(item.prompt, shape, None if item.image_url is None else _still(item.image_url, index, shape, find))
        for index, item in enumerate(request.validation)
    )


def _still(source: str, index: int, shape: ClipShape, find: Finder) -> Footage:
    field = f"input.validation.{index}.image_url"
    path = find(source, what=field)
    if not path.is_file():
        raise ConfigError(f"{field}: {path} is not a file. Give the path of an image.")
    try:
        media.scan_image(path)
    except MediaError as error:
        raise MediaError(f"{field}: {error}") from error
    image = SourceFile(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest(), MediaKind.IMAGE)
    still = ClipShape(1, shape.size, shape.frame_rate)
    return Footage(image, start_seconds=Fraction(0), span_seconds=Fraction(0), shape=still)
