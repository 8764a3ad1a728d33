"""A folder of training data is used where it lies, and nothing in it is followed blindly."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Role
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import Mode

Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Give a function that writes files to a folder and gives its path."""

    def write(**files: bytes) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, content in files["of"].items():  # pyright: ignore[reportAttributeAccessIssue]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return write


def test_media_stays_where_it_is(t2v: Mode, fill: Fill, store: Path) -> None:
    folder = fill(of={"a.mp4": b"first", "a.txt": b"words", "sub/b.mp4": b"second"})
    examples = ingest_archive(folder, t2v, store).examples
    assert [item.files[Role.TARGET].path for item in examples] == [folder / "a.mp4", folder / "sub" / "b.mp4"]
    assert [item.caption for item in examples] == ["words", None]
    assert not (store / "archives").exists()


def test_a_file_that_has_changed_has_another_digest(t2v: Mode, fill: Fill, store: Path) -> None:
    folder = fill(of={"a.mp4": b"first"})
    (first,) = ingest_archive(folder, t2v, store).examples
    (folder / "a.mp4").write_bytes(b"longer than before")
    (second,) = ingest_archive(folder, t2v, store).examples
    assert first.files[Role.TARGET].sha256 != second.files[Role.TARGET].sha256


def test_what_is_hidden_is_no_part_of_the_data(t2v: Mode, fill: Fill, store: Path) -> None:
    names = [".b.mp4", ".git/c.mp4", "x/.cache/y/d.mp4", "__MACOSX/e.mp4", "Thumbs.db", ".secret/link"]
    folder = fill(of={"a.mp4": b"1", **dict.fromkeys(names, b"2")})
    manifest = ingest_archive(folder, t2v, store)
    assert [item.name for item in manifest.examples] == ["a"]
    assert manifest.left_out == ()


def test_a_link_to_a_file_is_the_file(t2v: Mode, fill: Fill, store: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.mp4"
    elsewhere.write_bytes(b"linked")
    folder = fill(of={"a.txt": b"words"})
    (folder / "a.mp4").symlink_to(elsewhere)
    (example,) = ingest_archive(folder, t2v, store).examples
    assert example.files[Role.TARGET].path.read_bytes() == b"linked"
    assert example.name == "a"


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("nowhere.mp4", r"'b\.mp4', a link that leads to no file: nowhere\.mp4"),
        ("b.mp4", r"'b\.mp4', a link that leads to no file: b\.mp4"),
        ("..", r"'b\.mp4', a link to a folder"),
        ("/dev/null", r"'b\.mp4', which is a device, socket or pipe"),
    ],
)
def test_a_link_to_anything_else_is_refused_by_name(t2v: Mode, fill: Fill, target: str, match: str) -> None:
    folder = fill(of={"a.mp4": b"1"})
    (folder / "b.mp4").symlink_to(target)
    with pytest.raises(DatasetError, match=match):
        check_archive(folder, t2v)


def test_a_pipe_is_refused_and_not_waited_for(t2v: Mode, fill: Fill) -> None:
    folder = fill(of={"a.mp4": b"1"})
    os.mkfifo(folder / "b.mp4")
    with pytest.raises(DatasetError, match=r"'b\.mp4', which is a device, socket or pipe"):
        check_archive(folder, t2v)


def test_two_names_that_are_one_in_unicode_are_refused(t2v: Mode, fill: Fill) -> None:
    folder = fill(of={"caf\u00e9.mp4": b"1", "cafe\u0301.mp4": b"2"})
    with pytest.raises(DatasetError, match="twice"):
        check_archive(folder, t2v)


def test_a_name_that_is_not_utf_8_is_refused(t2v: Mode, fill: Fill) -> None:
    folder = fill(of={"a.mp4": b"1"})
    (folder / os.fsdecode(b"gr\xfcn.mp4")).write_bytes(b"2")
    with pytest.raises(DatasetError, match="a name that is not UTF-8"):
        check_archive(folder, t2v)


@pytest.mark.parametrize("own", ["cache", "output"])
def test_a_folder_that_the_run_writes_to_may_not_lie_in_the_data(
    t2v: Mode, fill: Fill, tmp_path: Path, own: str
) -> None:
    folder = fill(of={"a.mp4": b"1"})
    apart, within = tmp_path / "apart", folder / "sub" / own
    cache, output = (within, apart) if own == "cache" else (apart, within)
    with pytest.raises(DatasetError, match=rf"holds .*{own}, which the run writes to. Give another folder"):
        ingest_archive(folder, t2v, cache, ours=[output])
    assert not within.exists()


def test_data_may_lie_in_a_folder_that_the_run_writes_to(t2v: Mode, fill: Fill, tmp_path: Path, store: Path) -> None:
    assert ingest_archive(fill(of={"a.mp4": b"1"}), t2v, store, ours=[tmp_path]).examples


def test_an_empty_folder_is_refused(t2v: Mode, fill: Fill) -> None:
    with pytest.raises(DatasetError, match="Found: nothing, it is empty"):
        check_archive(fill(of={}), t2v)


def test_a_folder_that_cannot_be_listed_is_refused_by_name(
    t2v: Mode, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(of={"a.mp4": b"1", "sub/b.mp4": b"2"})
    scandir = os.scandir

    # The tests may run as root, who may list everything.
    def refuse(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match="sub cannot be read: Permission denied"):
        check_archive(folder, t2v)
