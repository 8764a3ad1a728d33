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
    return plain_caption(read_text(archive, name, what="Caption", max_bytes=MAX_BYTES))


def plain_caption(text: str) -> str | None:
    """Give a caption with lines ended by LF, stripped; None if nothing is left."""
    return _with_plain_ends(text).strip() or None


def read_text(archive: Archive, name: str, *, what: str, max_bytes: int) -> str:
    """Read a text: UTF-8 without its byte order mark, lines ended by LF.

    Args:
        archive: Where it lies.
        name: Its path inside the archive.
        what: Begins a message, such as `Caption`.
        max_bytes: The largest that is read.

    Raises:
        DatasetError: The file is damaged, too large or not UTF-8.
    """
    size = archive.members[name]
    if size > max_bytes:
        raise DatasetError(f"{what} {name!r} has {size} bytes; a {what.lower()} has at most {max_bytes}. Is it text?")
    content = b"".join(archive.read(name))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{what} {name!r} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}. Save it as UTF-8."
        ) from error
    return _with_plain_ends(text.removeprefix(BYTE_ORDER_MARK))


def _with_plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
