"""Tars, plain or by gzip: the whole is gone through once to list it, and once more for the media."""

import gzip
import io
import stat
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import CHUNK_BYTES, MAX_RATIO, MAX_TOTAL_BYTES, RATIO_FREE_BYTES, Archive, Listing
from ltx_trainer.ingest.layout import CAPTION, RANGES
from ltx_trainer.ingest.tables import CELLS, LINES

LONGEST_PIECE = 1 << 22
"""Bytes that are read at once; what a header says of its own length must not fill the memory."""

LONGEST_KEPT = 1 << 16
MAX_KEPT_BYTES = 1 << 28
"""Texts up to this size, and together up to this, are kept while a packed tar is listed."""

TEXTS = (CAPTION, RANGES, LINES, CELLS)
"""What the names of texts that are read end with."""

# What tarfile and gzip raise on damaged bytes.
DAMAGE = (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, OSError)


@dataclass
class _Index:
    """What going through a tar once tells.

    Attributes:
        offsets: Where each member's content begins, unpacked.
        kept: Contents of small texts.
        kept_bytes: Their size.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    kept_bytes: int = 0


class Tar(Archive):
    """An open tar.

    Args:
        path: Where it lies.
        sizes: As in `Archive`.
        stream: Its unpacked bytes.
        index: What lies where in them.
    """

    damage = DAMAGE

    def __init__(self, path: Path, sizes: Mapping[str, int], stream: "_Guarded", index: _Index) -> None:
        super().__init__(path, sizes)
        self._stream = stream
        self._index = index

    def in_order(self, names: Sequence[str]) -> Sequence[str]:
        """Put members in the order of the tar: going back in a packed one means to begin again."""
        return sorted(names, key=lambda name: self._index.offsets[name])

    def _chunks(self, name: str) -> Iterator[bytes]:
        if name in self._index.kept:
            yield self._index.kept[name]
            return
        self._stream.seek(self._index.offsets[name])
        left = self.members[name]
        while left and (chunk := self._stream.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


class _Guarded:
    """Unpacked bytes up to a limit, read in pieces of a limited size.

    Args:
        stream: Of the bytes.
        path: Of the tar.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._packed = path.stat().st_size
        self._limit = min(MAX_TOTAL_BYTES, max(RATIO_FREE_BYTES, MAX_RATIO * self._packed))

    def tell(self) -> int:
        """Give the position."""
        return self._stream.tell()

    def seek(self, position: int) -> int:
        """Go to a position; bytes in between count as read.

        Raises:
            DatasetError: It lies above the limit.
        """
        self._check(position)
        return self._stream.seek(position)

    def read(self, size: int) -> bytes:
        """Read a piece.

        Raises:
            DatasetError: The piece is too large, or ends above the limit.
        """
        if not 0 <= size <= LONGEST_PIECE:
            raise DatasetError(f"{self._path.name} is damaged: a header of {size} bytes. Make the archive again.")
        piece = self._stream.read(size)
        self._check(self.tell())
        return piece

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise DatasetError(
                f"{self._path.name} would unpack from {self._packed} to more than {self._limit} bytes, as a bomb does; "
                f"up to {MAX_RATIO} times its size is taken. Media is not like that: look at the file."
            )


@contextmanager
def open_tar(path: Path, *, packed: bool) -> Iterator[Tar]:
    """Open a tar for reading, after it has been gone through.

    Args:
        path: Where it lies.
        packed: Whether it is packed by gzip.

    Raises:
        DatasetError: It is cut off or damaged, or it holds a member that leads out of it, that is no plain file, that
            is there twice, or it unpacks to far more than it is.
    """
    with path.open("rb") as file:
        unpacked = io.BufferedReader(gzip.GzipFile(fileobj=file), CHUNK_BYTES) if packed else file  # pyright: ignore[reportArgumentType] - it reads like a raw file
        stream, listing = _Guarded(unpacked, path), Listing(path)
        try:
            index = _index(stream, listing, keep=packed)
        except DAMAGE as error:
            raise DatasetError(
                f"{path} ({path.stat().st_size} bytes) is a tar that is cut off or damaged: {error}. "
                "Copy it again, or make it again."
            ) from error
        yield Tar(path, listing.sizes, stream, index)


def _index(stream: _Guarded, listing: Listing, *, keep: bool) -> _Index:
    """Go through the whole tar."""
    index = _Index()
    # The library wants a whole file object and uses three of its methods.
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as opened:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for member in opened:
            if member.size < 0:
                raise tarfile.ReadError(f"{member.name!r} has {member.size} bytes")
            name = listing.add(_name_of(member), member.size, _mode_of(member))
            if name is None:
                continue
            if member.issparse():
                raise tarfile.ReadError(f"{name!r} has holes (sparse), which are not filled; make it without --sparse")
            index.offsets[name] = member.offset_data
            if keep and name.lower().endswith(TEXTS) and _is_kept(index, member.size):
                stream.seek(member.offset_data)
                index.kept[name] = stream.read(member.size)
                index.kept_bytes += member.size
    _check_end(stream, opened.offset)
    return index


def _name_of(member: tarfile.TarInfo) -> str:
    """Give a member's path as those of a zip are given."""
    name = unicodedata.normalize("NFC", member.name.replace("\\", "/"))
    return f"{name}/" if member.isdir() else name


def _mode_of(member: tarfile.TarInfo) -> int:
    if member.issym() or member.islnk():
        return stat.S_IFLNK
    if member.isdir():
        return stat.S_IFDIR
    return stat.S_IFREG if member.isreg() else stat.S_IFCHR


def _is_kept(index: _Index, size: int) -> bool:
    return size <= LONGEST_KEPT and index.kept_bytes + size <= MAX_KEPT_BYTES


def _check_end(stream: _Guarded, position: int) -> None:
    """Look for the zeros that a whole tar ends with; where the library meets anything else, it ends in silence."""
    stream.seek(position)
    num_zeros = 0
    while rest := stream.read(CHUNK_BYTES):
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"no file begins at byte {position}; were two tars joined?")
        num_zeros += len(rest)
    if num_zeros < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it does not end as a tar does, after {position} bytes")
