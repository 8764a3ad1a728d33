"""Preparing data: SIGKILL and the same command again, and commands that fill one cache at once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from prepare_kill_check import MASKED, Desk, changed, differences, make_desk, write_files

from ltx_trainer.atomic import write_bytes

KILLED_AT = ("archives", "scans/*/*.json", "tensors/video/*/*.safetensors")
"""What lies in the cache first, as each kill comes: one in the extraction, one in the look, one in the encoding."""


class Undisturbed(NamedTuple):
    """What commands leave that nothing disturbs.

    Attributes:
        desk: Where they were said; it is empty again.
        other: Settings of a run on another archive with some of the same clips.
        after_one: Content of the cache and of the run's folder.
        after_both: Content of the cache after a run with the other settings, too.
    """

    desk: Desk
    other: Path
    after_one: Mapping[str, bytes]
    after_both: Mapping[str, bytes]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, miniature_folder: Path) -> Undisturbed:
    desk = make_desk(tmp_path_factory.mktemp("desk"), MASKED, str(miniature_folder))
    other = other_settings(desk)
    desk.finish()
    after_one = desk.content()
    ended = desk.start(config=other, output=desk.folder / "other")
    ended.join()
    assert ended.exitcode == 0
    return Undisturbed(desk, other, after_one, desk.content())


def other_settings(desk: Desk) -> Path:
    """Write an archive of two of the three examples, in another order and under other names, and the settings of it."""
    parts = ("_start.mp4", "_end.mp4", ".txt")
    files = {
        f"{name}{part}": desk.folder / f"{number}{part}" for number, name in ((2, "a"), (0, "b")) for part in parts
    }
    files |= {"a_mask.png": desk.folder / "2_mask.png", "b_mask.png": desk.folder / "0_mask.png"}
    write_files(desk.folder / "other.zip", files)
    settings = json.loads(desk.config.read_text())
    settings["input"]["training_data_url"] = str(desk.folder / "other.zip")
    path = desk.folder / "other.yaml"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture
def desk(undisturbed: Undisturbed) -> Iterator[Desk]:
    undisturbed.desk.clear()
    yield undisturbed.desk
    undisturbed.desk.clear()


def test_a_damaged_clip_costs_itself(undisturbed: Undisturbed) -> None:
    record = json.loads(undisturbed.after_one["run/dataset.json"])

    assert [clip["name"] for clip in record["trained_on"]] == ["0", "1", "2"]
    assert [item["name"] for item in record["left_out"]] == ["bad"]


def test_a_preparation_killed_again_and_again_does_what_is_missing_and_leaves_the_cache_of_an_undisturbed_one(
    desk: Desk, undisturbed: Undisturbed
) -> None:
    for pattern in KILLED_AT:
        before = desk.whole()

        assert desk.kill_once(lambda found=pattern: any(desk.cache.glob(found)))

        assert changed(before, desk.whole()) == []
        assert differences(undisturbed.after_one, desk.content())
    # As a kill after the last prompt leaves it, when there is none to encode any more.
    write_bytes(desk.cache / "scratch/0/hidden-states/0.safetensors", b"left")
    before = desk.whole()
    desk.finish()
    assert changed(before, desk.whole()) == []
    assert differences(undisturbed.after_one, desk.content()) == []


def test_commands_that_fill_one_cache_at_once_leave_what_they_leave_one_after_the_other(
    desk: Desk, undisturbed: Undisturbed
) -> None:
    outputs = [desk.folder / name for name in ("run", "twin", "other")]
    configs = [desk.config, desk.config, undisturbed.other]

    commands = [desk.start(output=output, config=config) for output, config in zip(outputs, configs, strict=True)]
    for command in commands:
        command.join()

    assert [command.exitcode for command in commands] == [0, 0, 0]
    # Which copy of a clip is read, and leaves a note of that, depends on who comes first.
    different = [Path(name) for name in differences(undisturbed.after_both, desk.content())]
    assert [name for name in different if name.parts[0] == "cache" and name.parts[1] != "digests"] == []
