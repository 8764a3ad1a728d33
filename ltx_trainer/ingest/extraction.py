"""Media files out of an archive, once for each archive: whole, with their digests, or not at all."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ltx_trainer.atomic import check_space, disk_errors, flush, make_folder, write_text
from ltx_trainer.ingest.archive import Archive

logger = logging.getLogger(__name__)

RECORD = "extracted.json"
KEY_DIGITS = 16
MAX_STEM = 50


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
    if found.keys() >= set(names):
        return place, found
    check_space(folder, sum(archive.members[name] for name in names), "The archive unpacks to")
    # One name for each archive, so that what a killed run left is found and replaced.
    partial = folder / f".{place.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    try:
        numbers = {name: number for number, name in enumerate(names, start=1)}
        done = {name: _extract(archive, name, partial, numbers[name]) for name in archive.in_order(names)}
        extracted = {name: done[name] for name in names}
        write_text(partial / RECORD, json.dumps({name: asdict(item) for name, item in extracted.items()}, indent=1))
        if place.exists():
            logger.warning("%s is incomplete; %s is extracted again.", place, archive.path.name)
            shutil.rmtree(place)
        partial.rename(place)
        flush(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("Extracted %d files of %s to %s.", len(extracted), archive.path.name, place)
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


def _extract(archive: Archive, name: str, partial: Path, number: int) -> Extracted:
    path = partial / _safe_name(name, number)
    digest = hashlib.sha256()
    # Not each file is whole or absent: the folder is, which takes its name when all of them are on the disk.
    with disk_errors(path), path.open("wb") as file:
        for chunk in archive.read(name):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return Extracted(path.name, archive.members[name], digest.hexdigest())


def _safe_name(name: str, number: int) -> str:
    """Name a file by its number, and by as much of its own name as any file system and terminal takes."""
    own = PurePosixPath(name)
    stem = re.sub(r"[^\w.-]+", "_", own.stem)[:MAX_STEM]
    return f"{number:05d}-{stem}{own.suffix.lower()}"
