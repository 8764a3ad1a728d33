"""Media files out of an archive, once for each archive: whole, with their digests, or not at all."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ltx_trainer.atomic import check_space, disk_errors, whole_file, whole_folder, write_text
from ltx_trainer.errors import counted
from ltx_trainer.ingest.archive import Archive

logger = logging.getLogger(__name__)

RECORD = "extracted.json"
KEY_DIGITS = 16
MAX_STEM = 50

Opened = Callable[[Path], AbstractContextManager[Path]]
"""Gives the place to write a file to: itself, in a folder that is whole or absent, or beside it."""


@dataclass(frozen=True)
class Extracted:
    """One file as it lies in the folder of its archive.

    Attributes:
        file: Name inside that folder.
        num_bytes: Its size.
        sha256: Digest of its bytes, in hexadecimal.
    """

    file: str
    num_bytes: int
    sha256: str


def extract_media(archive: Archive, names: Sequence[str], folder: Path) -> tuple[Path, dict[str, Extracted]]:
    """Extract members to a folder named by the archive's digest, unless they are there.

    Args:
        archive: Where they come from.
        names: What to extract, in a fixed order.
        folder: Of all archives.

    Returns:
        The archive's folder, and what lies in it by the path inside the archive.

    Raises:
        DatasetError: A member is damaged.
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    place = folder / archive.sha256()[:KEY_DIGITS]
    found = _find(place)
    lacking = [name for name in names if name not in found]
    if not lacking:
        return place, found
    check_space(folder, sum(archive.members[name] for name in lacking), "The archive unpacks to")
    if place.exists():
        # Another run may be reading what is whole there.
        logger.warning(
            "%s is incomplete: extracting %s of %s.", place, counted(len(lacking), "file"), archive.path.name
        )
        extracted = found | _extract(archive, lacking, place, whole_file)
        _record(place, extracted)
    else:
        with whole_folder(place) as partial:
            extracted = _extract(archive, lacking, partial, nullcontext)
            _record(partial, extracted)
    logger.info("Extracted %d files of %s to %s.", len(lacking), archive.path.name, place)
    return place, extracted


def _find(place: Path) -> dict[str, Extracted]:
    """Give what lies there whole, by the path inside the archive."""
    record = place / RECORD
    if not record.is_file():
        return {}
    items = {name: Extracted(**item) for name, item in json.loads(record.read_text("utf-8")).items()}
    return {name: item for name, item in items.items() if _is_whole(place / item.file, item)}


def _is_whole(path: Path, item: Extracted) -> bool:
    return path.is_file() and path.stat().st_size == item.num_bytes


def _extract(archive: Archive, names: Sequence[str], folder: Path, opened: Opened) -> dict[str, Extracted]:
    """Extract members to a folder, each to the name that it has whatever else is extracted."""
    numbers = {name: number for number, name in enumerate(archive.members, start=1)}
    paths = {name: folder / _safe_name(name, numbers[name]) for name in names}
    digests = {name: _write(archive, name, paths[name], opened) for name in archive.in_order(names)}
    return {name: Extracted(path.name, archive.members[name], digests[name]) for name, path in paths.items()}


def _write(archive: Archive, name: str, path: Path, opened: Opened) -> str:
    """Write a member to a file; give the digest of its bytes."""
    digest = hashlib.sha256()
    with disk_errors(path), opened(path) as place, place.open("wb") as file:
        for chunk in archive.read(name):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _record(folder: Path, extracted: Mapping[str, Extracted]) -> None:
    write_text(folder / RECORD, json.dumps({name: asdict(item) for name, item in extracted.items()}, indent=1))


def _safe_name(name: str, number: int) -> str:
    """Name a file by its number, and by as much of its own name as any file system and terminal takes."""
    own = PurePosixPath(name)
    stem = re.sub(r"[^\w.-]+", "_", own.stem)[:MAX_STEM]
    return f"{number:05d}-{stem}{own.suffix.lower()}"
