"""What tests of several rooms share: a miniature model and archives of tiny clips, made once."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from ltx_trainer.media import write_video
from ltx_trainer.models import ModelFacts, read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature


class ClipWriter(Protocol):
    def __call__(self, path: Path, *, seed: int = 0, num_frames: int = 12, with_sound: bool = True) -> Path: ...


class ArchiveWriter(Protocol):
    def __call__(self, path: Path, members: dict[str, str | bytes | Path]) -> Path: ...


@pytest.fixture(scope="session")
def write_clip() -> ClipWriter:
    """Write a drifting gradient, with a tone."""

    def write(path: Path, *, seed: int = 0, num_frames: int = 12, with_sound: bool = True) -> Path:
        drift = (np.arange(64)[None, None, :, None] + 3 * np.arange(num_frames)[:, None, None, None]) % 64
        frames = np.broadcast_to(40 * seed + 20 + drift, (num_frames, 64, 64, 3)).astype(np.uint8)
        seconds = np.arange(num_frames * 2000) / 48000
        tone = np.tile(0.5 * np.sin(2 * np.pi * (300 + 100 * seed) * seconds), (2, 1)).astype(np.float32)
        audio, rate_hz = (tone, 48000) if with_sound else (None, None)
        write_video(path, frames, Fraction(24), audio=audio, audio_rate_hz=rate_hz)
        return path

    return write


@pytest.fixture(scope="session")
def write_archive() -> ArchiveWriter:
    """Write a zip of texts, bytes and files by their names in it."""

    def write(path: Path, members: dict[str, str | bytes | Path]) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
        return path

    return write


@pytest.fixture(scope="session")
def clip_archive(
    tmp_path_factory: pytest.TempPathFactory, write_clip: ClipWriter, write_archive: ArchiveWriter
) -> Path:
    """Four short clips with sound and captions."""
    folder = tmp_path_factory.mktemp("clips")
    members: dict[str, str | bytes | Path] = {}
    for index in range(4):
        members[f"clip-{index}.mp4"] = write_clip(folder / f"clip-{index}.mp4", seed=index)
        members[f"clip-{index}.txt"] = f"clip number {index}"
    return write_archive(folder / "clips.zip", members)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run `python -m ltx_trainer` as a user does."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ltx_trainer", *map(str, arguments)], capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature itself: to be read, never changed."""
    folder = tmp_path_factory.mktemp("models") / "miniature"
    write_miniature("ltx-2.3", folder)
    return folder


@pytest.fixture
def own_miniature(miniature_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(miniature_folder, tmp_path / "miniature"))


@pytest.fixture(scope="session")
def facts(miniature_folder: Path) -> ModelFacts:
    return read_model(miniature_folder, "ltx-2.3")


@pytest.fixture(scope="session")
def family(facts: ModelFacts) -> Family:
    return open_family(facts)
