"""W&B without a network: what is refused, what is recorded, and what a failure does to a run."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import wandb
from google.protobuf.json_format import MessageToDict
from wandb.proto import wandb_internal_pb2

from ltx_trainer.artifacts import Render
from ltx_trainer.config import Settings
from ltx_trainer.errors import ConfigError
from ltx_trainer.report import Measured
from ltx_trainer.report.wandb_log import check_wandb, open_wandb

WHOLE, LAST = 1, 4
PROJECT = "report.wandb_project=tests"


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B as a new process finds it."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield
    wandb.teardown()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def records(folder: Path) -> list[dict[str, Any]]:
    """Read the records that W&B keeps on the disk, after it has written the last of them."""
    wandb.teardown()
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for content in logged(path.read_bytes()):
            record = cast(Any, wandb_internal_pb2).Record()
            record.ParseFromString(content)
            found.append(MessageToDict(record))
    return found


def logged(data: bytes) -> Iterator[bytes]:
    """Give the records of a LevelDB log: in blocks of 32 KiB, chunks of checksum, length, type and content."""
    place, record = 7, b""
    while place + 7 <= len(data):
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        left = -place % 32768
        place += left if left < 7 else 0
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def histories(folder: Path) -> list[dict[str, Any]]:
    rows = [record["history"]["item"] for record in records(folder) if "history" in record]
    return [
        {".".join(item.get("nestedKey", [item.get("key")])): json.loads(item["valueJson"]) for item in row}
        for row in rows
    ]


def run_ids(folder: Path) -> list[str]:
    return [record["run"]["runId"] for record in records(folder) if "run" in record]


def test_a_run_without_a_project_needs_nothing() -> None:
    check_wandb(None)


def test_a_missing_key_is_refused_with_what_works() -> None:
    with pytest.raises(ConfigError, match=r"'tests': there is no key. Set WANDB_API_KEY, or WANDB_MODE=offline"):
        check_wandb("tests")


@pytest.mark.parametrize(("name", "value"), [("WANDB_API_KEY", "0" * 40), ("WANDB_MODE", "offline")])
def test_a_key_or_working_offline_is_enough(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    check_wandb("tests")


def test_a_missing_library_is_refused_with_how_to_install_it() -> None:
    """In a process that sees the package, and every library but that one."""
    program = """
import importlib.metadata as metadata
from ltx_trainer.report import wandb_log
real = metadata.version
def version(name):
    if name == "wandb":
        raise metadata.PackageNotFoundError(name)
    return real(name)
wandb_log.version = version
try:
    wandb_log.check_wandb("tests")
except wandb_log.ConfigError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "pip install 'ltx-trainer[wandb]'" in ended.stdout


@pytest.mark.usefixtures("offline")
def test_numbers_and_previews_are_recorded_at_their_steps(
    tmp_path: Path,
    load: Callable[..., Settings],
    make_metrics: Callable[..., Measured],
    held_out: Mapping[str, Any],
    write_clip: Any,
) -> None:
    item = write_clip(tmp_path / "item.mp4")

    with open_wandb(tmp_path / "run", load(PROJECT), start=0, enabled=True) as log:
        for step in (1, 2):
            log.add_step(make_metrics(step))
        log.add_event(held_out)
        log.add_event({"event": "checkpoint", "step": 2})
        log.add_render(Render(2, (item,), joined=item))

    first, second = histories(tmp_path / "run")
    assert (first["_step"], second["_step"]) == (1, 2)
    assert (first["loss/video"], second["loss/video"]) == (1.0, 0.5)
    assert second["held_out/loss"] == 0.75
    assert second["loss_by_sigma/video/0.50-0.75"] == 0.5
    assert second["preview/1._type"] == "video-file"
    assert len(list((tmp_path / "run").glob("wandb/offline-run-*/files/media/videos/preview/*.mp4"))) == 1


@pytest.mark.usefixtures("offline")
def test_a_continued_run_is_the_same_run_of_wandb(
    tmp_path: Path, load: Callable[..., Settings], make_metrics: Callable[..., Measured]
) -> None:
    for start in (0, 2):
        with open_wandb(tmp_path, load(PROJECT), start=start, enabled=True) as log:
            log.add_step(make_metrics(start + 1))

    first, second = run_ids(tmp_path)
    assert first == second == (tmp_path / "wandb/run-id.txt").read_text().strip()


@pytest.mark.usefixtures("offline")
def test_a_run_that_begins_anew_is_a_new_run_of_wandb(tmp_path: Path, load: Callable[..., Settings]) -> None:
    for _ in range(2):
        with open_wandb(tmp_path, load(PROJECT), start=0, enabled=True):
            pass

    first, second = run_ids(tmp_path)
    assert first != second


@pytest.mark.usefixtures("offline")
def test_where_the_data_comes_from_is_not_sent(tmp_path: Path, load: Callable[..., Settings]) -> None:
    secret = "https://me:secret@data.example/clips.zip?signature=secret"
    settings = load(PROJECT, f"input.training_data_url={secret}")

    with open_wandb(tmp_path, settings, start=0, enabled=True):
        pass

    config = next(record["run"]["config"] for record in records(tmp_path) if "run" in record)
    assert "clip number 1" in json.dumps(config)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


@pytest.mark.usefixtures("offline")
def test_a_failure_is_warned_of_once_and_ends_nothing(
    tmp_path: Path,
    load: Callable[..., Settings],
    make_metrics: Callable[..., Measured],
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing = tmp_path / "missing.mp4"

    with caplog.at_level(logging.WARNING), open_wandb(tmp_path, load(PROJECT), start=0, enabled=True) as log:
        for step in (1, 2):
            log.add_render(Render(step, (missing,), joined=missing))
            log.add_step(make_metrics(step))

    (warning,) = (record.getMessage() for record in caplog.records if record.name.startswith("ltx_trainer"))
    assert warning.startswith("W&B is not told any more: ")
    assert warning.endswith("Training goes on.")


def test_a_start_that_fails_is_warned_of_and_ends_nothing(
    tmp_path: Path,
    load: Callable[..., Settings],
    make_metrics: Callable[..., Measured],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "no such mode")

    with caplog.at_level(logging.WARNING), open_wandb(tmp_path, load(PROJECT), start=0, enabled=True) as log:
        log.add_step(make_metrics(1))

    assert "W&B is not told any more" in caplog.text


def test_other_processes_and_other_runs_send_nothing(
    tmp_path: Path, load: Callable[..., Settings], make_metrics: Callable[..., Measured]
) -> None:
    for settings, enabled in ((load(PROJECT), False), (load(), True)):
        with open_wandb(tmp_path / "run", settings, start=0, enabled=enabled) as log:
            log.add_step(make_metrics(1))

    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("offline")
def test_a_run_that_fails_is_marked_as_failed(tmp_path: Path, load: Callable[..., Settings]) -> None:
    with pytest.raises(KeyError, match="lost"), open_wandb(tmp_path, load(PROJECT), start=0, enabled=True):
        raise KeyError("lost")

    assert [record["exit"].get("exitCode") for record in records(tmp_path) if "exit" in record] == [1]
