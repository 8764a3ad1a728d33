"""A zip opened safely: what its directory says is checked before anything is unpacked."""

import hashlib
import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ltx_trainer.errors import DatasetError

MAX_RATIO = 1000
"""Unpacked bytes for each packed one. Media hardly shrinks; deflate ends at 1032."""

RATIO_FREE_BYTES = 10_000_000
"""Up to this unpacked size no ratio is looked at: a caption may well be all spaces."""

MAX_TOTAL_BYTES = 500_000_000_000
"""Unpacked size of a whole archive."""

CHUNK_BYTES = 1 << 20

ENCRYPTED = 0x1
NAME_IS_UTF8 = 0x800

JUNK_FOLDER = "__macosx"
JUNK_FILES = frozenset({".ds_store", "thumbs.db"})
JUNK_PREFIX = "._"

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


@dataclass(frozen=True)
class Archive:
    """An open zip whose directory holds nothing dangerous.

    Attributes:
        path: Where it lies.
        members: Its files without what operating systems leave behind, by their path inside it, in Unicode NFC.
        opened: The zip itself.
    """

    path: Path
    members: Mapping[str, zipfile.ZipInfo]
    opened: zipfile.ZipFile

    def read(self, name: str) -> Iterator[bytes]:
        """Give the content of a member, piece by piece, never more than its declared size.

        Raises:
            DatasetError: The bytes are damaged or are not as many as declared.
        """
        declared = self.members[name].file_size
        seen = 0
        try:
            with self.opened.open(self.members[name]) as file:
                while chunk := file.read(CHUNK_BYTES):
                    seen += len(chunk)
                    if seen > declared:
                        break
                    yield chunk
        except DAMAGE as error:
            raise DatasetError(f"{name!r} in {self.path.name} is damaged: {error}. Make the archive again.") from error
        if seen != declared:
            relation = "more" if seen > declared else "fewer"
            raise DatasetError(
                f"{name!r} in {self.path.name} is damaged: it has {relation} than the {declared} bytes "
                "that the archive declares. Make the archive again."
            )

    def sha256(self) -> str:
        """Give the digest of the whole archive, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip for reading, after its directory has been checked.

    Raises:
        DatasetError: There is no zip, or it is cut off, or it holds a member that leads out of it, that is no plain
            file, that is encrypted or packed by an unknown method, that is there twice, or that unpacks to far more
            than it is.
    """
    with _open_zip(path) as opened:
        yield Archive(path, _safe_members(path, opened), opened)


def _open_zip(path: Path) -> zipfile.ZipFile:
    if path.is_dir():
        raise DatasetError(f"{path} is a folder. Training data is one .zip file.")
    if not path.is_file():
        raise DatasetError(f"There is no file {path}. training_data_url is the path of a .zip file on this machine.")
    try:
        return zipfile.ZipFile(path)
    except PermissionError as error:
        raise DatasetError(f"{path} cannot be read: permission is denied.") from error
    except DAMAGE as error:
        raise DatasetError(
            f"{path} ({path.stat().st_size} bytes) is no zip, or a zip that is cut off: {error}. "
            "Copy it again, or make it again."
        ) from error


def _safe_members(path: Path, opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    _check_expansion(path, opened.infolist())
    members: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        name = _name_of(info)
        mode = info.external_attr >> 16
        _check_name(path, name)
        _check_type(path, name, mode)
        if name.endswith("/") or stat.S_ISDIR(mode) or _is_junk(name):
            continue
        _check_packing(path, name, info)
        name = str(PurePosixPath(name))
        if name in members:
            raise DatasetError(f"{path.name} holds {name!r} twice. Make the archive again with one of them.")
        members[name] = info
    return members


def _check_expansion(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL_BYTES:
        raise DatasetError(
            f"{path.name} would unpack to {total} bytes; an archive may have {MAX_TOTAL_BYTES}. "
            "Split the data set, or shorten its videos."
        )
    packed = path.stat().st_size
    # Members may share their packed bytes, so the whole is looked at as well as its parts.
    sizes = [(path.name, total, packed)]
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


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts and not name.endswith("/"):
        raise DatasetError(f"{path.name} holds a member without a name. Make the archive again.")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts:
        raise DatasetError(
            f"{path.name} holds {name!r}, which leads out of the archive. "
            "Only relative paths without '..' are taken: make the archive again from inside the folder."
        )


def _check_type(path: Path, name: str, mode: int) -> None:
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "a device, socket or pipe"
        raise DatasetError(
            f"{path.name} holds {name!r}, which is {kind}. Only files are taken: put the file itself in."
        )


def _is_junk(name: str) -> bool:
    parts = PurePosixPath(name.casefold()).parts
    return JUNK_FOLDER in parts or parts[-1] in JUNK_FILES or parts[-1].startswith(JUNK_PREFIX)


def _check_packing(path: Path, name: str, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & ENCRYPTED:
        raise DatasetError(f"{name!r} in {path.name} is encrypted. Make the archive again without a password.")
    if info.compress_type not in METHODS:
        raise DatasetError(
            f"{name!r} in {path.name} is packed by method {info.compress_type}, which is not known. "
            "Make the archive again with Store or Deflate."
        )
