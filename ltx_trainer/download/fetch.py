"""The room's verb: which kind of source it is, and the file that it stands for."""

import re
from pathlib import Path
from urllib.parse import unquote

from ltx_trainer.download.data_uri import fetch_data
from ltx_trainer.download.rules import Limits, Patience, Progress
from ltx_trainer.download.url import parse_url, without_secrets
from ltx_trainer.errors import ConfigError

KINDS = "A path, a file: URL, an http(s) URL and a base64 data URI are taken."


def fetch(
    source: str, folder: Path, limits: Limits, show: Progress, *, what: str, patience: Patience | None = None
) -> Path:
    """Give the file, or for a path the folder, that a source names. What is on this machine is used where it lies.

    Args:
        source: A path, a file: or http(s) URL, or a base64 data URI.
        folder: Of all downloads.
        limits: The user's.
        show: Shows how far a download is.
        what: Field that names the source, such as `input.training_data_url`, for messages.
        patience: With a server.

    Returns:
        Its path, which may lead to nothing if the source is a path.

    Raises:
        ConfigError: The source is of another kind, or not written as one of its kind; the folder cannot be written to.
        DatasetError: What it names cannot be had.
        OutOfResources: The disk is full.
    """
    # One letter is the drive of a path of Windows.
    scheme = re.match(r"\s*([a-z][a-z0-9+.-]+):", source, re.IGNORECASE)
    match scheme[1].lower() if scheme else "":
        case "data":
            return fetch_data(source, folder, limits, what=what)
        case "file":
            return _path_of(source.strip(), what)
        case "http" | "https":
            # Its libraries take a tenth of a second to import, and a path needs none of them.
            from ltx_trainer.download.web import fetch_url  # noqa: PLC0415

            return fetch_url(parse_url(source, what), folder, limits, show, what=what, patience=patience)
    if "://" in source:
        raise ConfigError(f"{what}: {without_secrets(source)} is of no kind that is known. {KINDS}")
    return Path(source).expanduser()


def _path_of(url: str, what: str) -> Path:
    """Give the path of a file: URL."""
    place = url.partition(":")[2]
    host, path = "", place
    if place.startswith("//"):
        host, slash, rest = place[2:].partition("/")
        path = slash + rest
    if host.lower() not in ("", "localhost") or not path.startswith("/"):
        raise ConfigError(f"{what}: {url} names no file of this machine. Such a URL is file:///folder/file.zip.")
    return Path(unquote(path))
