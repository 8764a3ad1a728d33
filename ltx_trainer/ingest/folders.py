"""Folders: files are read where they lie, and nothing is copied."""

import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import CHUNK_BYTES, Archive, Listing


class Folder(Archive):
    """A folder of files.

    Args:
        path: Where it lies.
        sizes: As in `Archive`.
        places: Where each file lies.
    """

    damage = (OSError,)
    remedy = "Make it readable, and leave the folder as it is while a run reads it."

    def __init__(self, path: Path, sizes: Mapping[str, int], places: Mapping[str, Path]) -> None:
        super().__init__(path, sizes)
        self.places = places

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self.places[name].open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def open_folder(path: Path, ours: Sequence[Path] = ()) -> Folder:
    """List a folder and those in it, without what is hidden.

    A link to a file is taken as the file, because data sets are put together that way; one to a folder is not.

    Args:
        path: Of the folder.
        ours: Folders that the run writes to, which may not lie in it.

    Raises:
        DatasetError: It cannot be read, it holds a folder that the run writes to, or a link that leads nowhere or to a
            folder, or what is no plain file.
    """
    for own in ours:
        if own.resolve().is_relative_to(path.resolve()):
            raise DatasetError(
                f"{path} holds {own}, which the run writes to. Give another folder with --output or under paths."
            )
    listing, places = Listing(path), {}
    for place in _files_in(path):
        facts = _facts_of(path, place)
        name = listing.add(_name_of(path, place), facts.st_size, facts.st_mode)
        if name is not None:
            places[name] = place
    return Folder(path, listing.sizes, places)


def _files_in(folder: Path) -> Iterator[Path]:
    """Walk in the order of names, and past everything hidden."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read: {error.strerror}.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_in(folder / entry.name)
        else:
            yield folder / entry.name


def _facts_of(path: Path, place: Path) -> os.stat_result:
    """Look at a file, through a link."""
    try:
        facts = place.stat()
    except OSError as error:
        if not place.is_symlink():
            raise DatasetError(f"{place} cannot be read: {error.strerror}.") from error
        raise DatasetError(
            f"{path} holds {_name_of(path, place)!r}, a link that leads to no file: {place.readlink()}. "
            "Mend it, or take it out."
        ) from error
    if stat.S_ISDIR(facts.st_mode):
        raise DatasetError(
            f"{path} holds {_name_of(path, place)!r}, a link to a folder. "
            "Only links to files are taken: put the folder itself in."
        )
    return facts


def _name_of(path: Path, place: Path) -> str:
    return unicodedata.normalize("NFC", place.relative_to(path).as_posix())
