"""Files that are whole or absent: written beside, flushed, renamed."""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ltx_trainer.errors import ConfigError, OutOfResources

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL_TEXTS = ("no space left on device", f"os error {errno.ENOSPC})", f"os error {errno.EDQUOT})")
"""What libraries that turn system errors into their own say, in lower case."""

LOCK = ".lock"
"""What the lock of a scratch folder is named by, after the folder's own name."""

NO_PLACE = (
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOLCK,
    errno.EOPNOTSUPP,
)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, with the same extension; on success it takes the name of `path`.

    The place has one name, so that the next write takes over what a killed process left. Of processes that write the
    same file at once, each waits for the one before it.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to, or is none, or `path` is one.
    """
    make_folder(path.parent)
    beside = path.with_name(f".{path.stem}.partial{path.suffix}")
    with disk_errors(path), _held(beside) as descriptor:
        try:
            yield beside
            os.fsync(descriptor)
            beside.replace(path)
            flush(path.parent)
        finally:
            if _is_named(descriptor, beside):
                beside.unlink()


@contextmanager
def _held(beside: Path) -> Iterator[int]:
    """Open an empty file that no other process has until the `with` ends."""
    descriptor = _open_locked(beside)
    try:
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_locked(beside: Path) -> int:
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it before may have renamed or removed it.
            if _is_named(descriptor, beside):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_named(descriptor: int, path: Path) -> bool:
    """Say whether an open file is the one that lies at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; on success it takes the name of `path`, which is empty or not there.

    It has one name, so that the next process takes away what a killed one left. The caller sees to it that no two write
    the same folder at once.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be made there, or there is something in it.
    """
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with disk_errors(path):
            beside.mkdir()
            yield beside
            for inside in beside.rglob("*"):
                flush(inside)
            beside.replace(path)
            flush(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder, without what a killed process left in it, and take it away in the end.

    One process at a time has it; the next one waits.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: It cannot be made there.
    """
    with locked(_lock_of(path)):
        try:
            shutil.rmtree(path, ignore_errors=True)
            make_folder(path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def clear_scratch(folder: Path) -> None:
    """Take away the scratch folders below `folder` that killed processes left; what a process has, it keeps."""
    # os.walk goes on where another process has taken a folder away meanwhile.
    for parent, folders, files in os.walk(folder):
        for name in folders:
            if f"{name}{LOCK}" in files:
                with suppress(Timeout), FileLock(Path(parent, f"{name}{LOCK}")).acquire(timeout=0):
                    shutil.rmtree(Path(parent, name), ignore_errors=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{LOCK}")


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: It cannot be made there.
    """
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(path: Path, *, waiting: str | None = None) -> Iterator[None]:
    """Keep other processes that lock the same file out for the length of the `with`; wait for one that has it.

    Args:
        path: The lock's own file, which stays.
        waiting: What to say where that takes waiting.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    make_folder(path.parent)
    lock = FileLock(path)
    with disk_errors(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is not None:
                logger.info("%s", waiting)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, num_bytes: int, what: str) -> None:
    """Refuse to begin what the disk of `folder` cannot hold.

    Args:
        folder: Where it would lie; it need not be there yet.
        num_bytes: Its size.
        what: Begins the message, such as `The archive unpacks to`.

    Raises:
        OutOfResources: With what is needed and what is free, in bytes.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if num_bytes > free:
        raise OutOfResources(
            f"{what} {num_bytes} bytes, and the disk of {folder} has {free} free. "
            "Make room, or give another folder as paths.cache."
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Give what the disk refuses its own error.

    Args:
        path: What is written in the `with`; the error names it.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: `path` cannot be written there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise _full(path) from error
        if error.errno in NO_PLACE:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}. Give another folder under paths."
            ) from error
        raise
    except (RuntimeError, SafetensorError) as error:
        if any(text in str(error).lower() for text in DISK_FULL_TEXTS):
            raise _full(path) from error
        raise


def _full(path: Path) -> OutOfResources:
    try:
        free = f" ({shutil.disk_usage(path.parent).free} bytes are free)"
    except OSError:
        free = ""
    return OutOfResources(
        f"No space left on the disk of {path.parent} while writing {path.name}{free}. Make room, or give another "
        "folder under paths, and run again: what is whole is kept."
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with whole_file(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8."""
    write_bytes(path, text.encode())
