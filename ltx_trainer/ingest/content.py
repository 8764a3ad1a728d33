"""Tells an animation from a still, where the extension does not."""

from pathlib import Path

from PIL import Image

from ltx_trainer.artifacts import MediaKind

FORMATS = ("GIF", "WEBP")


def kind_by_content(path: Path) -> MediaKind | None:
    """Say what a GIF or WebP is; None of a file that cannot be read, or is neither."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return MediaKind.VIDEO if getattr(image, "is_animated", False) else MediaKind.IMAGE
    except (EOFError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
