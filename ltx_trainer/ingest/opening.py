"""Which kind of archive a path leads to, told by its content."""

import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import Archive
from ltx_trainer.ingest.folders import open_folder
from ltx_trainer.ingest.tars import open_tar
from ltx_trainer.ingest.zips import open_zip

KINDS = "Training data is a .zip, .tar or .tar.gz file, or a folder."

HEAD_BYTES = 512
ZIP_BEGINS = b"PK"
GZIP_BEGINS = b"\x1f\x8b"
TAR_MARK, TAR_MARK_AT = b"ustar", 257
OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
}
"""What other archives begin with."""


@contextmanager
def open_archive(path: Path, ours: Sequence[Path] = ()) -> Iterator[Archive]:
    """Open an archive for reading, after it has been looked through for what is dangerous.

    Args:
        path: Of a zip, tar or tar.gz, or of a folder.
        ours: Folders that the run writes to, which may not lie in a folder of training data.

    Raises:
        DatasetError: There is no archive, or it is of another kind, cut off or damaged, or it holds what is dangerous.
    """
    if path.is_dir():
        yield open_folder(path, ours)
    elif _is_zip(path):
        with open_zip(path) as archive:
            yield archive
    else:
        with open_tar(path, packed=_head(path).startswith(GZIP_BEGINS)) as archive:
            yield archive


def _is_zip(path: Path) -> bool:
    """Tell a zip from a tar.

    Raises:
        DatasetError: It is neither.
    """
    head = _head(path)
    if head.startswith(ZIP_BEGINS):
        return True
    if head.startswith(GZIP_BEGINS) or head[TAR_MARK_AT:].startswith(TAR_MARK):
        return False
    for beginning, name in OTHERS.items():
        if head.startswith(beginning):
            raise DatasetError(f"{path} is packed by {name}, which is not unpacked here. {KINDS}")
    # A zip may stand behind a program that unpacks it, and the first tars had no mark.
    if zipfile.is_zipfile(path):
        return True
    if not tarfile.is_tarfile(path):
        raise DatasetError(
            f"{path} ({path.stat().st_size} bytes) is no archive, or one that is cut off. {KINDS} Copy it again, "
            "or make it again."
        )
    return False


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise DatasetError(f"There is no file {path}. {KINDS}")
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except PermissionError as error:
        raise DatasetError(f"{path} cannot be read: permission is denied.") from error
