"""SHA-256 of files, noted of those that are too large to be read twice."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ltx_trainer.atomic import write_text
from ltx_trainer.errors import DatasetError


class FileDigests:
    """SHA-256 of large files, read once for each size and time of change.

    The index only saves reading a file again; what a tensor is named by is the digest of the bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, paths: Sequence[Path]) -> str:
        """Give one digest for several files, in the order given."""
        return hashlib.sha256("".join(self.of_file(path) for path in paths).encode()).hexdigest()

    def of_file(self, path: Path) -> str:
        """Give the digest of one file."""
        real = path.resolve()
        facts = real.stat()
        seen = [facts.st_size, facts.st_mtime_ns]
        note = self._folder / f"{hashlib.sha256(str(real).encode()).hexdigest()}.json"
        if note.is_file():
            *noted, digest = json.loads(note.read_text())
            if noted == seen:
                return digest
        digest = file_sha256(real)
        write_text(note, json.dumps([*seen, digest]))
        return digest

    def check(self, path: Path, sha256: str) -> None:
        """Hold a file to the digest that what is made of it is named by.

        Raises:
            DatasetError: The file is not there any more, or has other bytes.
        """
        try:
            digest = self.of_file(path)
        except OSError as error:
            raise DatasetError(
                f"{path} cannot be read any more: {error.strerror}. What is encoded stays; run again."
            ) from error
        if digest != sha256:
            raise DatasetError(f"{path} has changed since it was first read. What is encoded stays; run again.")


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal, read piece by piece.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
