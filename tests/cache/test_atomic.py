"""Files that are whole or absent, on disks that are well, full and read-only."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ltx_trainer.atomic import (
    clear_scratch,
    disk_errors,
    scratch_folder,
    whole_file,
    whole_folder,
    write_bytes,
    write_text,
)
from ltx_trainer.errors import ConfigError, OutOfResources


def write_half(path: Path, interruption: BaseException) -> None:
    with whole_file(path) as beside:
        beside.write_bytes(b"hal")
        raise interruption


def test_what_is_written_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.txt"

    write_text(path, "größer")

    assert path.read_bytes() == "größer".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_others_may_do_with_a_file_what_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file", b"content")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_the_place_beside_keeps_the_extension_by_which_writers_choose_a_format(tmp_path: Path) -> None:
    with whole_file(tmp_path / "clip.mp4") as beside:
        beside.write_bytes(b"")

        assert beside.suffix == ".mp4"
        assert beside.parent == tmp_path


def test_content_is_on_the_disk_before_the_file_takes_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    flush, rename = os.fsync, Path.replace

    def flush_and_note(descriptor: int) -> None:
        flush(descriptor)
        there = os.fstat(descriptor)
        is_folder = os.path.samestat(there, tmp_path.stat())
        done.append(("flushed", "the folder" if is_folder else os.pread(descriptor, there.st_size, 0).decode()))

    def rename_and_note(source: Path, target: Path) -> Path:
        done.append(("renamed", target.name))
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", flush_and_note)
    monkeypatch.setattr(Path, "replace", rename_and_note)

    write_text(tmp_path / "file", "content")

    assert done == [("flushed", "content"), ("renamed", "file"), ("flushed", "the folder")]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, interruption: type[BaseException]) -> None:
    with pytest.raises(interruption, match="halfway"):
        write_half(tmp_path / "file", interruption("halfway"))

    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_what_was_there_before(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "before")

    with pytest.raises(KeyboardInterrupt, match="halfway"):
        write_half(tmp_path / "file", KeyboardInterrupt("halfway"))

    assert (tmp_path / "file").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from ltx_trainer.atomic import whole_file
with whole_file(Path(sys.argv[1])) as beside:
    beside.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


KILLED_IN_SCRATCH = """
import os, signal, sys
from pathlib import Path
from ltx_trainer.atomic import scratch_folder
with scratch_folder(Path(sys.argv[1])) as scratch:
    (scratch / "file").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_taken_over_by_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "step-000100.safetensors"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert [left.name for left in tmp_path.iterdir()] == [".step-000100.partial.safetensors"]

    write_bytes(path, b"content")

    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"content"


def test_scratch_of_a_killed_process_is_taken_away_and_that_of_another_is_left(tmp_path: Path) -> None:
    left = tmp_path / "0/left"
    subprocess.run([sys.executable, "-c", KILLED_IN_SCRATCH, left], check=False)
    assert (left / "file").is_file()

    with scratch_folder(tmp_path / "1/used") as used:
        write_bytes(used / "file", b"content")
        clear_scratch(tmp_path)

        assert (used / "file").is_file()
    assert not left.exists()
    assert not used.exists()


def write_half_a_folder(path: Path) -> None:
    with whole_folder(path) as beside:
        write_bytes(beside / "half", b"content")
        raise KeyboardInterrupt("halfway")


def test_an_interrupted_folder_is_not_there_and_what_a_killed_one_left_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="halfway"):
        write_half_a_folder(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []
    write_bytes(tmp_path / ".folder.partial/left", b"content")

    with whole_folder(tmp_path / "folder") as beside:
        write_bytes(beside / "whole", b"content")

    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["folder", "folder/whole"]


def test_writers_of_one_file_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 2**16 for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(20):
            with whole_file(path) as beside, beside.open("wb") as file:
                for start in range(0, len(content), 2**14):
                    file.write(content[start : start + 2**14])
                    file.flush()

    with ThreadPoolExecutor(len(contents)) as writers:
        list(writers.map(write, contents))

    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_that_a_library_makes_of_a_full_disk_is_known(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(64)

    with (
        pytest.raises(OutOfResources, match=r"No space left on the disk of .* while writing big\.safetensors"),
        disk_errors(disk / "big.safetensors"),
    ):
        save_file({"zeros": torch.zeros(2**20)}, disk / "big.safetensors")


def test_a_full_disk_leaves_nothing_and_is_told_from_a_bug(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(64)

    with pytest.raises(OutOfResources, match=r"No space left on the disk of .* while writing big\.bin"):
        write_bytes(disk / "big.bin", bytes(2**20))

    assert list(disk.iterdir()) == []
    write_bytes(disk / "small.bin", bytes(2**10))


def test_a_read_only_folder_is_answered_with_what_to_change(read_only_disk: Path) -> None:
    with pytest.raises(ConfigError, match=r"Read-only file system\. Give another folder under paths"):
        write_bytes(read_only_disk / "new/file", b"content")


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"file cannot be written: File exists"):
        write_bytes(tmp_path / "file/a", b"content")
    with pytest.raises(ConfigError, match=r"file/a cannot be written: Not a directory"):
        write_bytes(tmp_path / "file/a/b", b"content")


def test_a_folder_where_the_file_should_be_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "taken/inside").mkdir(parents=True)

    with pytest.raises(ConfigError, match="taken cannot be written: Is a directory"):
        write_bytes(tmp_path / "taken", b"content")

    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
