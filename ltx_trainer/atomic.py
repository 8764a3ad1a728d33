"""Files that are whole or absent: written beside, flushed, renamed."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltx_trainer.errors import ConfigError, OutOfResources

NO_PLACE = (errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, with the same extension; on success it takes the name of `path`.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to, or is none, or `path` is one.
    """
    make_folder(path.parent)
    with _disk_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        beside = Path(name)
        try:
            yield beside
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            beside.chmod(0o644)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: It cannot be made there.
    """
    with _disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Give what the disk refuses its own error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfResources(f"No space left on the disk of {path.parent} while writing {path.name}.") from error
        if error.errno in NO_PLACE:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}. Give another folder under paths."
            ) from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with whole_file(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8."""
    write_bytes(path, text.encode())
