"""Archives made on the fly. What is inside a media file does not matter in this room."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ltx_trainer.modes import MODES, Mode

MakeArchive = Callable[..., Path]


@pytest.fixture
def t2v() -> Mode:
    return next(mode for mode in MODES if mode.name == "t2v")


@pytest.fixture
def i2v() -> Mode:
    return next(mode for mode in MODES if mode.name == "i2v")


@pytest.fixture
def make_archive(tmp_path: Path) -> MakeArchive:
    """Give a function that writes members, by their path or their ZipInfo, to a zip and gives its path."""

    def make(members: Mapping[str | zipfile.ZipInfo, bytes], *, method: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "data.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The cache, in which archives are extracted."""
    return tmp_path / "cache"
