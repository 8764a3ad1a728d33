"""What tests of several rooms share: a miniature model and archives of tiny clips, made once."""

import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import pytest
import yaml
from forked import start_command, start_launcher
from rich.console import Console

from ltx_trainer.artifacts import CachedSet
from ltx_trainer.cache.fill import fill_cache
from ltx_trainer.config import Settings, load_settings
from ltx_trainer.digests import file_sha256
from ltx_trainer.media import write_video
from ltx_trainer.models import ModelFacts, read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.report import track
from tests.families import ENDPOINTS, LTX23


class ClipWriter(Protocol):
    def __call__(self, path: Path, *, seed: int = 0, num_frames: int = 12, with_sound: bool = True) -> Path: ...


class ArchiveWriter(Protocol):
    def __call__(self, path: Path, members: dict[str, str | bytes | Path]) -> Path: ...


LONG = (
    "tests/learning/",
    "tests/models/test_trained_miniature.py",
    "tests/test_kill.py",
    "tests/test_run.py",
    "tests/train/test_loop.py",
    "tests/train/test_processes.py",
)
"""Files that take long come first, so that no process is left with one when the others are done."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


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
    """Run `python -m ltx_trainer` in a process of its own."""

    return lambda *arguments: ended(start_command, arguments)


@pytest.fixture(scope="session")
def launch_script() -> Command:
    """Run a script in two processes of the launcher, on a CPU."""

    def run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", "1")
            patch.setenv("OMP_NUM_THREADS", "1")
            return ended(partial(start_launcher, script), arguments, timeout_seconds=120)

    return run


def ended(
    start: Callable[[Sequence[str], Path, Path], BaseProcess],
    arguments: Sequence[object],
    timeout_seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Wait for a process, and give what it said and how it ended."""
    with TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "err")]
        words = [*map(str, arguments)]
        process = start(words, *said)
        process.join(timeout_seconds)
        if process.exitcode is None:
            process.terminate()
            process.join()
            pytest.fail(f"It took more than {timeout_seconds} s and said: {said[1].read_text()}")
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text() for path in said))


@pytest.fixture(scope="session")
def family_name(request: pytest.FixtureRequest) -> str:
    """LTX-2.3, unless a test is marked with `both_families`."""
    return getattr(request, "param", LTX23)


@pytest.fixture(scope="session")
def endpoint(family_name: str) -> str:
    """Text to video in this family."""
    return ENDPOINTS[family_name]


@pytest.fixture(scope="session")
def random_miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a function that writes the random miniature of a family, once: to be read, never changed."""

    @cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp("models") / "miniature"
        write_miniature(f"{name}-random", folder)
        return folder

    return write


@pytest.fixture(scope="session")
def miniature_folder(random_miniature: Callable[[str], Path], family_name: str) -> Path:
    """The miniature with random weights, for what does not ask how well it draws: to be read, never changed."""
    return random_miniature(family_name)


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature as it comes with the package: to be read, never changed."""
    folder = tmp_path_factory.mktemp("models") / "trained"
    write_miniature("ltx-2.3", folder)
    return folder


@pytest.fixture
def own_miniature(miniature_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(miniature_folder, tmp_path / "miniature"))


@pytest.fixture(scope="session")
def facts(miniature_folder: Path, family_name: str) -> ModelFacts:
    return read_model(miniature_folder, family_name)


@pytest.fixture(scope="session")
def family(facts: ModelFacts) -> Family:
    return open_family(facts)


@pytest.fixture(scope="session")
def load(
    tmp_path_factory: pytest.TempPathFactory, clip_archive: Path, miniature_folder: Path, endpoint: str
) -> Callable[..., Settings]:
    """Load settings of a tiny run, some of them changed."""
    config = tmp_path_factory.mktemp("config") / "run.yaml"
    body = {
        "training_data_url": str(clip_archive),
        "number_of_frames": 9,
        "resolution": "low",
        "rank": 8,
        "number_of_steps": 4,
        "learning_rate": 1e-2,
        "validation": [{"prompt": "clip number 1"}],
        "validation_number_of_frames": 9,
        "validation_resolution": "low",
    }
    config.write_text(yaml.safe_dump({"endpoint": endpoint, "input": body, "model": {"base": str(miniature_folder)}}))
    return lambda *overrides: load_settings(config, overrides=["validation.steps=2", *overrides])


OF_NO_CLIP = {
    "input": {"learning_rate", "number_of_steps", "rank", "stg_scale"},
    **dict.fromkeys(("held_out", "lora", "noise", "optimizer", "training", "validation"), True),
}
"""Settings of the tests that change nothing of what is encoded."""


@pytest.fixture(scope="session")
def found() -> dict[str, CachedSet]:
    """What was encoded, by what was asked."""
    return {}


@pytest.fixture(scope="session")
def fill(
    tmp_path_factory: pytest.TempPathFactory, family: Family, found: dict[str, CachedSet]
) -> Callable[[Settings], CachedSet]:
    """Encode what a run trains on, once for all settings that ask for the same."""
    folder = tmp_path_factory.mktemp("cache")

    def run(settings: Settings) -> CachedSet:
        images = [Path(item.image_url) for item in settings.input.validation if item.image_url]
        asked = " ".join([settings.model_dump_json(exclude=OF_NO_CLIP), *map(file_sha256, images)])
        if asked not in found:
            plan = look(settings, Space(tmp_path_factory.mktemp("out"), folder))
            found[asked] = fill_cache(
                family,
                plan.clips,
                plan.previews,
                "blurry",
                folder,
                still_crf=None,
                accelerator=make_accelerator("fp32")[0],
                track=track(Console(quiet=True)),
            )
        return found[asked]

    return run


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory for the length of the `with`, or skip the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if refused.returncode:
        pytest.skip(f"mounting is not allowed: {refused.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Give a function that gives a disk of a size in KiB."""
    with ExitStack() as disks:
        yield lambda kib: disks.enter_context(mounted(tmp_path / "small-disk", f"size={kib}k"))


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "read-only-disk", "ro") as disk:
        yield disk
