"""Where the file of one URL lies: whole or not there, and beside it as much of it as has come."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from email.message import Message
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ltx_trainer.atomic import disk_errors, flush, write_text
from ltx_trainer.download.url import Url

KEY_DIGITS = 16
LONGEST_NAME = 60


@dataclass(frozen=True)
class Facts:
    """What the server said of a file.

    Attributes:
        url: Without its secrets; for a person who looks.
        name: What the file is called here.
        size: In bytes; None if it was not said.
        etag: Names the version; None without one.
        last_modified: Dates the version; None without one.
    """

    url: str
    name: str
    size: int | None
    etag: str | None
    last_modified: str | None

    @property
    def validator(self) -> str | None:
        """What a part is held to, so that it is never completed by another version: no weak tag does."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.last_modified

    def is_version_of(self, other: "Facts") -> bool:
        """Say whether both are known to be of one version."""
        if self.etag or other.etag:
            return self.etag == other.etag
        return self.last_modified is not None and self.last_modified == other.last_modified


class Place:
    """A folder for one URL. One note tells what lies there, written before the first byte.

    Args:
        folder: From `folder_of`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial = self.folder / ".partial"
        self._note = self.folder / ".facts.json"
        self.facts = self._read_facts()
        if self.facts is None:
            self.clear()
        elif self.num_bytes and self.num_bytes == self.facts.size:
            # The process was killed between the last byte and the name.
            self.finish()

    @property
    def finished(self) -> Path | None:
        """The whole file; None if it is not there."""
        if self.facts is None:
            return None
        path = self.folder / self.facts.name
        whole = path.is_file() and self.facts.size in (None, path.stat().st_size)
        return path if whole else None

    @property
    def num_bytes(self) -> int:
        """How much of an unfinished file is there."""
        return self.partial.stat().st_size if self.partial.is_file() else 0

    def begin(self, facts: Facts) -> None:
        """Make room for a version of the file from its first byte."""
        self.clear()
        self._note_down(facts)

    def finish(self) -> Path:
        """Give the part that has come the file's name."""
        assert self.facts is not None
        path = self.folder / self.facts.name
        with disk_errors(path):
            flush(self.partial)
            self.partial.replace(path)
            flush(self.folder)
        if self.facts.size is None:
            self._note_down(replace(self.facts, size=path.stat().st_size))
        return path

    def clear(self) -> None:
        """Take away what is there."""
        if not self.folder.is_dir():
            return
        with disk_errors(self.folder):
            # The part before the note: a part must never lie beside another version's note.
            for path in (self.partial, *(path for path in self.folder.iterdir() if path.name != ".lock")):
                path.unlink(missing_ok=True)
        self.facts = None

    def _note_down(self, facts: Facts) -> None:
        write_text(self._note, json.dumps(asdict(facts), indent=1))
        self.facts = facts

    def _read_facts(self) -> Facts | None:
        try:
            return Facts(**json.loads(self._note.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def folder_of(url: Url, folder: Path) -> Path:
    """Give the folder of a URL among those of all downloads; a password is neither in its name nor in its files."""
    return folder / hashlib.sha256(url.asked.encode()).hexdigest()[:KEY_DIGITS]


def facts_of(url: Url, headers: Mapping[str, str], size: int | None) -> Facts:
    """Read what a server says of a file; a name from elsewhere becomes one that any file system takes."""
    given = _name_in(headers.get("Content-Disposition", "")) or PurePosixPath(unquote(url.path)).name
    name = re.sub(r"[^\w.-]+", "_", given).lstrip(".")[-LONGEST_NAME:].lstrip(".") or "download"
    return Facts(url.shown, name, size, headers.get("ETag"), headers.get("Last-Modified"))


def _name_in(disposition: str) -> str:
    message = Message()
    message["Content-Disposition"] = disposition
    return PurePosixPath((message.get_filename() or "").replace("\\", "/")).name
