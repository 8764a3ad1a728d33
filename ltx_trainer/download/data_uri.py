"""Data URIs: a file written out as text."""

import base64
import binascii
import hashlib
import mimetypes
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ltx_trainer.atomic import check_space, write_bytes
from ltx_trainer.download.rules import Limits
from ltx_trainer.errors import DatasetError

BYTES_IN_A_GIGABYTE = 10**9
LETTERS_OF_A_QUANTUM = 4
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
        DatasetError: It is not base64, or does not decode, or is empty or too large.
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
    path = folder / f"{hashlib.sha256(content).hexdigest()}{mimetypes.guess_extension(media_type) or ''}"
    if not path.is_file() or path.stat().st_size != len(content):
        check_space(folder, len(content), f"{what} brings")
        write_bytes(path, content)
    return path


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
