"""A web server of this machine's own, and how a run fetches from it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ltx_trainer.config.schema import DownloadSection
from ltx_trainer.download import Patience, fetch
from tests.download.file_server import FileServer, serving


@dataclass
class Shown:
    """What a person would have seen: each download with its name, size and bytes."""

    downloads: list[tuple[str, int | None, int]] = field(default_factory=list)

    @contextmanager
    def __call__(self, what: str, total: int | None, /) -> Iterator["_Counter"]:
        counter = _Counter()
        try:
            yield counter
        finally:
            self.downloads.append((what, total, counter.num_bytes))


class _Counter:
    num_bytes = 0

    def advance(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of all downloads."""
    return tmp_path / "downloads"


@pytest.fixture
def get(folder: Path, shown: Shown) -> Callable[..., Path]:
    """Fetch with short waits; from this machine, unless told otherwise."""

    def run(source: str, *, patience: Patience | None = None, **limits: object) -> Path:
        section = DownloadSection.model_validate({"allow_private_addresses": True, **limits})
        patience = patience or Patience(waits_seconds=(0.01,) * 5, connect_seconds=2, stall_seconds=2)
        return fetch(source, folder, section, shown, what="input.training_data_url", patience=patience)

    return run
