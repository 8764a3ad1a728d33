"""Captions from text files."""

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import Archive

MAX_BYTES = 1 << 20
"""Size of a caption file; the longest prompt a model reads is a few thousand bytes."""

BYTE_ORDER_MARK = "\ufeff"


def read_caption(archive: Archive, name: str) -> str | None:
    """Read a caption: UTF-8 with or without a byte order mark, lines ended by LF, stripped; None if nothing is left.

    Raises:
        DatasetError: The file is damaged, too large or not UTF-8.
    """
    size = archive.members[name]
    if size > MAX_BYTES:
        raise DatasetError(f"Caption {name!r} has {size} bytes; a caption has at most {MAX_BYTES}. Is it text?")
    return _text_of(name, b"".join(archive.read(name)))


def _text_of(name: str, content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"Caption {name!r} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}. Save it as UTF-8."
        ) from error
    return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n").strip() or None
