"""Zips: their directory is held against the file before anything is unpacked."""

import lzma
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import CHUNK_BYTES, MAX_RATIO, RATIO_FREE_BYTES, Archive, Listing

ENCRYPTED = 0x1
NAME_IS_UTF8 = 0x800

END_BEGINS = b"PK\x05\x06"
END_BYTES = 22
NUMBER_ELSEWHERE = 0xFFFF
"""How a zip ends, but for its comment; bytes 4 and 5 are the number of its volume."""

METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})

# What zipfile and the decompressors raise on damaged bytes; bz2 raises a plain OSError.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
    OSError,
)


class Zip(Archive):
    """An open zip.

    Args:
        path: Where it lies.
        sizes: As in `Archive`.
        opened: The zip itself.
        infos: Its entries by the same names.
    """

    damage = DAMAGE

    def __init__(
        self, path: Path, sizes: Mapping[str, int], opened: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]
    ) -> None:
        super().__init__(path, sizes)
        self._opened = opened
        self._infos = infos

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._opened.open(self._infos[name]) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


@contextmanager
def open_zip(path: Path) -> Iterator[Zip]:
    """Open a zip for reading, after its directory has been checked.

    Raises:
        DatasetError: It is cut off or one of several volumes, or it holds a member that leads out of it, that is no
            plain file, that is encrypted or packed by an unknown method, that is there twice, or that unpacks to far
            more than it is.
    """
    try:
        opened = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise DatasetError(
            f"{path} ({path.stat().st_size} bytes) is a zip that is cut off or damaged: {error}. "
            "Copy it again, or make it again."
        ) from error
    with opened:
        listing, infos = Listing(path), {}
        for info in opened.infolist():
            name = listing.add(_name_of(info), info.file_size, info.external_attr >> 16)
            if name is not None:
                _check_packing(path, name, info)
                infos[name] = info
        _check_expansion(path, opened.infolist())
        _check_volumes(path, len(opened.comment))
        yield Zip(path, listing.sizes, opened, infos)


def _check_volumes(path: Path, comment_bytes: int) -> None:
    """Refuse the last of several volumes, which has the directory of them all."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END_BYTES - comment_bytes))
        end = file.read(END_BYTES)
    volume = int.from_bytes(end[4:6], "little")
    # The highest number stands for one that a larger header has.
    if end.startswith(END_BEGINS) and 0 < volume < NUMBER_ELSEWHERE:
        raise DatasetError(
            f"{path} is the last of {volume + 1} volumes of a zip. Join them to one file, as "
            f"`zip -s 0 {path.name} --out whole.zip` does."
        )


def _check_expansion(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    packed = path.stat().st_size
    # Members may share their packed bytes, so the whole is looked at as well as its parts.
    sizes = [(path.name, sum(info.file_size for info in infos), packed)]
    sizes += [(f"{_name_of(info)!r} in {path.name}", info.file_size, info.compress_size) for info in infos]
    for name, size, packed_size in sizes:
        if size > RATIO_FREE_BYTES and size > MAX_RATIO * packed_size:
            raise DatasetError(
                f"{name} would unpack from {packed_size} to {size} bytes, as a zip bomb does; "
                f"up to {MAX_RATIO} times its size is taken. Media is not like that: look at the file."
            )


def _name_of(info: zipfile.ZipInfo) -> str:
    """Give a member's path with `/` between folders, in NFC, so that media and captions from two systems meet."""
    name = info.filename
    if not info.flag_bits & NAME_IS_UTF8:
        # The archiver of macOS writes UTF-8 without saying so, and zipfile then reads it as code page 437.
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _check_packing(path: Path, name: str, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & ENCRYPTED:
        raise DatasetError(f"{name!r} in {path.name} is encrypted. Make the archive again without a password.")
    if info.compress_type not in METHODS:
        raise DatasetError(
            f"{name!r} in {path.name} is packed by method {info.compress_type}, which is not known. "
            "Make the archive again with Store or Deflate."
        )
