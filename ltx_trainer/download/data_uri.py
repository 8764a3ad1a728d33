"""Data URIs: a file written out as text."""

import base64
import binascii
import hashlib
import mimetypes
import re
import zipfile
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ltx_trainer.atomic import check_space, write_bytes
from ltx_trainer.download.page import is_page, is_page_type
from ltx_trainer.download.rules import BYTES_IN_A_GIGABYTE, Limits
from ltx_trainer.errors import DatasetError

LETTERS_OF_A_QUANTUM = 4
ZIP_BEGINS = b"PK\x03\x04"
URL_SAFE = bytes.maketrans(b"-_", b"+/")


def fetch_data(source: str, folder: Path, limits: Limits, *, what: str) -> Path:
    """Decode a base64 data URI to a file named by the digest of its bytes.

    Both alphabets of base64 are taken, with or without padding, escaped by percent signs or not.

    Args:
        source: `data:application/zip;base64,...`; the media type may be missing.
        folder: Of all downloads.
        limits: The user's.
        what: Field that holds it, for messages.

    Raises:
        DatasetError: It is not base64, or does not decode, or is empty or too large, or holds a web page or a zip that
            is cut off.
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    head, comma, text = source.strip().partition(",")
    media_type, *parameters = (part.strip().lower() for part in head.partition(":")[2].split(";"))
    if not comma or "base64" not in parameters:
        raise DatasetError(f"{what}: the data URI is not written as data:application/zip;base64,... with the data.")
    content = _decode(text, what)
    if len(content) > limits.max_gigabytes * BYTES_IN_A_GIGABYTE:
        raise DatasetError(
            f"{what}: the data URI holds {len(content)} bytes; downloads.max_gigabytes takes {limits.max_gigabytes:g}."
        )
    _check_content(content, media_type, what)
    path = folder / f"data-uri-{hashlib.sha256(content).hexdigest()}{mimetypes.guess_extension(media_type) or ''}"
    if not path.is_file() or path.stat().st_size != len(content):
        check_space(folder, len(content), f"{what} brings")
        write_bytes(path, content)
    return path


def _check_content(content: bytes, media_type: str, what: str) -> None:
    """Refuse what is surely no file that was meant, while the field that holds it is known."""
    if is_page_type(media_type) or is_page(content):
        raise DatasetError(
            f"{what}: the data URI holds a web page, not a file. Write the file itself as base64, or give its path."
        )
    if content.startswith(ZIP_BEGINS) and not zipfile.is_zipfile(BytesIO(content)):
        raise DatasetError(
            f"{what}: the data URI holds a zip that is cut off or damaged: its {len(content)} bytes have no directory "
            "at their end. Write the whole zip as base64, or give its path."
        )


def _decode(text: str, what: str) -> bytes:
    letters = re.sub(rb"\s+", b"", unquote_to_bytes(text)).translate(URL_SAFE).rstrip(b"=")
    try:
        content = base64.b64decode(letters + b"=" * (-len(letters) % LETTERS_OF_A_QUANTUM), validate=True)
    except binascii.Error as error:
        raise DatasetError(
            f"{what}: the data URI of {len(text)} characters does not decode as base64: {error}. Is it cut off?"
        ) from error
    if not content:
        raise DatasetError(f"{what}: the data URI is empty.")
    return content
