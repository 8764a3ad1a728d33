"""Preparing data where the disk is full, cannot be written to, or loses what is read: the status, and what is left."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import pytest
import yaml

from ltx_trainer.cli import main

DISK_KIB = 4096

Prepare = Callable[..., tuple[int, str]]
Before = Callable[[str, Callable[[], object]], None]


class Moment(NamedTuple):
    """When the disk comes to be full.

    Attributes:
        before: The function that finds it full.
        stage: Of the command.
        says: Where the message tells that room lacks, and how much there is.
    """

    before: str
    stage: str
    says: str


MOMENTS = {
    "at once": Moment(
        "ltx_trainer.ingest.manifest.extract_media", "inspect", r"unpacks to \d+ bytes, and the disk of .* has 0 free"
    ),
    "in the extraction": Moment(
        "ltx_trainer.ingest.extraction.whole_folder", "inspect", r"/archives\b.* while writing \S+ \(\d+ bytes are free"
    ),
    "in the look": Moment(
        "ltx_trainer.pipeline.prepare_clips", "inspect", r"/(scans|spool)\b.* while writing \S+ \(\d+ bytes"
    ),
    "in the survey": Moment("ltx_trainer.pipeline.survey_data", "inspect", r"/glimpses\b.* while writing \S+ \(\d+"),
    "in the record": Moment(
        "ltx_trainer.report.write_record", "inspect", r"/output while writing dataset\.json \(\d+ "
    ),
    "in the page": Moment(
        "ltx_trainer.report.write_page", "inspect", r"/output while writing dataset\.html \(\d+ bytes"
    ),
    "in the encoding": Moment(
        "ltx_trainer.cache.fill.fill_cache", "prepare", r"/cache/.* while writing \S+ \(\d+ bytes"
    ),
}


@pytest.fixture
def prepare(
    tmp_path: Path, miniature_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Prepare:
    """Give a function that prepares data in this process, and gives the exit status and the messages."""
    monkeypatch.setattr("ltx_trainer.cli.handle_signals", lambda: None)

    def run(data: Path, *, stage: str = "prepare", folders: Mapping[str, Path] = {}) -> tuple[int, str]:
        body = {"training_data_url": str(data), "number_of_frames": 9, "resolution": "low", "number_of_steps": 1}
        paths = {name: str(folders.get(name, tmp_path / name)) for name in ("output", "cache")}
        settings = {"endpoint": "fal-ai/ltx23-trainer-v2/t2v", "input": body, "paths": paths}
        config = tmp_path / "run.yaml"
        config.write_text(yaml.safe_dump({**settings, "model": {"base": str(miniature_folder)}}))
        status = main([stage, str(config)])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return status, said

    return run


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Give a function that has something happen before a function is called for the first time."""

    def watch(name: str, happen: Callable[[], object]) -> None:
        owner, _, attribute = name.rpartition(".")
        waiting = [happen]

        def happening(*arguments: Any, **options: Any) -> Any:
            if waiting:
                waiting.pop()()
            return called(*arguments, **options)

        called = resolve_name(name)
        monkeypatch.setattr(resolve_name(owner), attribute, happening)

    return watch


def is_running(output: Path) -> bool:
    """Say whether a status tells of a command that has not ended."""
    status = output / "status.json"
    return status.is_file() and json.loads(status.read_text())["code"] is None


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (2**16, 2**12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_full_disk_ends_with_4_leaves_nothing_half_written_and_the_same_command_goes_on(
    prepare: Prepare,
    before: Before,
    clip_archive: Path,
    small_disk: Callable[[int], Path],
    moment: Moment,
) -> None:
    disk = small_disk(DISK_KIB)
    before(moment.before, lambda: fill(disk))

    status, said = prepare(
        clip_archive, stage=moment.stage, folders={name: disk / name for name in ("output", "cache")}
    )

    assert status == 4, said
    *_, message = said.split("error: ")
    assert re.search(moment.says, message)
    assert not is_running(disk / "output")
    assert [path for path in disk.rglob(".*") if path.name != ".lock"] == []
    (disk / "ballast").unlink()
    status, said = prepare(
        clip_archive, stage=moment.stage, folders={name: disk / name for name in ("output", "cache")}
    )
    assert status == 0, said


@pytest.mark.parametrize("name", ["output", "cache"])
def test_a_folder_that_cannot_be_written_is_named(
    prepare: Prepare,
    clip_archive: Path,
    read_only_disk: Path,
    tmp_path: Path,
    name: str,
) -> None:
    status, said = prepare(clip_archive, folders={name: read_only_disk / name})
    assert status == 2
    assert f"{read_only_disk / name}" in said
    assert "Read-only file system. Give another folder under paths" in said
    (tmp_path / "file").touch()
    status, said = prepare(clip_archive, folders={name: tmp_path / "file"})
    assert status == 2
    assert "file cannot be written: File exists" in said


@pytest.fixture
def unpacked(clip_archive: Path, tmp_path: Path) -> Path:
    """The clips as files of a folder."""
    shutil.unpack_archive(clip_archive, tmp_path / "clips")
    return tmp_path / "clips"


@pytest.mark.parametrize(
    ("moment", "says"),
    [("prepare_clips", "clip-3.mp4 does not exist"), ("survey_data", "cannot be read any more: No such file")],
)
def test_training_data_that_vanishes_while_it_is_prepared_is_refused_by_name(
    prepare: Prepare, before: Before, unpacked: Path, moment: str, says: str
) -> None:
    before(f"ltx_trainer.pipeline.{moment}", lambda: shutil.rmtree(unpacked))

    status, said = prepare(unpacked)

    assert status == 2
    assert says in said


@pytest.mark.parametrize("disturb", ["vanish", "change"])
def test_a_clip_that_is_not_what_was_looked_at_ends_the_run(
    prepare: Prepare, before: Before, unpacked: Path, disturb: str
) -> None:
    clip = unpacked / "clip-0.mp4"
    change: Callable[[], object] = {
        "vanish": clip.unlink,
        "change": lambda: shutil.copy(unpacked / "clip-2.mp4", clip),
    }[disturb]
    before("ltx_trainer.pipeline.survey_data", change)

    status, said = prepare(unpacked)

    assert status == 2
    assert re.search(r"clip-0\.mp4 (has changed|cannot be read).* What is encoded stays; run again\.", said)
