"""What every archive is to the room: files by name, and nothing dangerous among them."""

import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import DatasetError

MAX_RATIO = 1000
"""Unpacked bytes for each packed one. Media hardly shrinks; deflate ends at 1032."""

RATIO_FREE_BYTES = 10_000_000
"""Up to this unpacked size no ratio is looked at: a caption may well be all spaces."""

MAX_TOTAL_BYTES = 500_000_000_000
"""Unpacked size of a whole archive."""

MAX_MEMBERS = 1_000_000
"""Files and folders of an archive."""

CHUNK_BYTES = 1 << 20

JUNK_FOLDER = "__macosx"
JUNK_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
JUNK_PREFIX = "._"


class Archive(ABC):
    """Files by their path inside an archive.

    Args:
        path: Where it lies.
        members: Sizes of its files, without those that operating systems leave behind, by their path in Unicode NFC.
    """

    damage: tuple[type[Exception], ...]
    """What reading damaged bytes raises."""

    remedy = "Make the archive again."
    """What to do about damage."""

    def __init__(self, path: Path, members: Mapping[str, int]) -> None:
        self.path = path
        self.members = members

    def read(self, name: str) -> Iterator[bytes]:
        """Give the content of a member, piece by piece, never more than its declared size.

        Raises:
            DatasetError: The bytes are damaged or are not as many as declared.
        """
        declared = self.members[name]
        seen = 0
        try:
            for chunk in self._chunks(name):
                seen += len(chunk)
                if seen > declared:
                    break
                yield chunk
        except self.damage as error:
            raise DatasetError(f"{name!r} in {self.path.name} is damaged: {error}. {self.remedy}") from error
        if seen != declared:
            relation = "more" if seen > declared else "fewer"
            raise DatasetError(
                f"{name!r} in {self.path.name} is damaged: it has {relation} than the {declared} bytes "
                f"that the archive declares. {self.remedy}"
            )

    def in_order(self, names: Sequence[str]) -> Sequence[str]:
        """Put members in an order in which reading them goes through the archive once."""
        return names

    def sha256(self) -> str:
        """Give the digest of the whole archive, in hexadecimal.

        Raises:
            DatasetError: It cannot be read any more.
        """
        try:
            return file_sha256(self.path)
        except OSError as error:
            raise DatasetError(f"{self.path} cannot be read: {error.strerror}.") from error

    @abstractmethod
    def _chunks(self, name: str) -> Iterator[bytes]:
        """Give the content of a member as it is stored; may raise what `damage` lists."""


class Listing:
    """The files of an archive as they are listed, each looked at before it is taken.

    Args:
        path: Of the archive.
    """

    def __init__(self, path: Path) -> None:
        self.sizes: dict[str, int] = {}
        self._path = path
        self._num_seen = 0
        self._total_bytes = 0

    def add(self, name: str, size: int, mode: int) -> str | None:
        """Take a file; give the name it goes by, or None if it is a folder or junk.

        Args:
            name: Path inside the archive, `/` between folders, and at the end of a folder.
            size: Unpacked.
            mode: As in a file's status; 0 if not known.

        Raises:
            DatasetError: The member is dangerous, or there twice, or one too many.
        """
        self._count(size)
        self._check_name(name)
        self._check_type(name, mode)
        if name.endswith("/") or stat.S_ISDIR(mode) or _is_junk(name):
            return None
        name = str(PurePosixPath(name))
        if name in self.sizes:
            raise DatasetError(f"{self._path.name} holds {name!r} twice. Make the archive again with one of them.")
        self.sizes[name] = size
        return name

    def _count(self, size: int) -> None:
        self._num_seen += 1
        self._total_bytes += size
        if self._num_seen > MAX_MEMBERS:
            raise DatasetError(
                f"{self._path.name} holds more than {MAX_MEMBERS} files and folders. Split the data set."
            )
        if self._total_bytes > MAX_TOTAL_BYTES:
            raise DatasetError(
                f"{self._path.name} would unpack to {self._total_bytes} bytes or more; an archive may have "
                f"{MAX_TOTAL_BYTES}. Split the data set, or shorten its videos."
            )

    def _check_name(self, name: str) -> None:
        parts = PurePosixPath(name).parts
        if not parts and not name.endswith("/"):
            raise DatasetError(f"{self._path.name} holds a member without a name. Make the archive again.")
        if name.startswith("/") or (name[:1].isalpha() and name[1:2] == ":") or ".." in parts:
            raise DatasetError(
                f"{self._path.name} holds {name!r}, which leads out of the archive. "
                "Only relative paths without '..' are taken: make the archive again from inside the folder."
            )
        if any("\ud800" <= char <= "\udfff" for char in name):
            raise DatasetError(f"{self._path.name} holds {name!r}, a name that is not UTF-8. Rename the file.")

    def _check_type(self, name: str, mode: int) -> None:
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "a link" if stat.S_ISLNK(mode) else "a device, socket or pipe"
            raise DatasetError(
                f"{self._path.name} holds {name!r}, which is {kind}. Only files are taken: put the file itself in."
            )


def _is_junk(name: str) -> bool:
    parts = PurePosixPath(name.casefold()).parts
    return JUNK_FOLDER in parts or parts[-1] in JUNK_FILES or parts[-1].startswith(JUNK_PREFIX)
