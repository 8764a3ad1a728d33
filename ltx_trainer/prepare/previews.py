"""The validation items of a request, their inputs found and looked at."""

import hashlib
from fractions import Fraction
from pathlib import Path

from ltx_trainer import media
from ltx_trainer.artifacts import Footage, MediaKind, Preview, SourceFile
from ltx_trainer.config import Request
from ltx_trainer.errors import ConfigError
from ltx_trainer.geometry import ClipShape


def prepare_previews(request: Request, shape: ClipShape) -> tuple[Preview, ...]:
    """Say what will be rendered, in the order of the request.

    Args:
        request: Holds the validation items.
        shape: Of every preview.

    Raises:
        ConfigError: An input is not there.
        MediaError: An input is not the picture that it should be.
    """
    return tuple(
        Preview(item.prompt, shape, None if item.image_url is None else _still(Path(item.image_url), index, shape))
        for index, item in enumerate(request.validation)
    )


def _still(path: Path, index: int, shape: ClipShape) -> Footage:
    path = path.expanduser()
    if not path.is_file():
        raise ConfigError(f"input.validation.{index}.image_url: {path} is not a file. Give the path of an image.")
    media.scan_image(path)
    source = SourceFile(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest(), MediaKind.IMAGE)
    still = ClipShape(1, shape.size, shape.frame_rate)
    return Footage(source, start_seconds=Fraction(0), span_seconds=Fraction(0), shape=still)
