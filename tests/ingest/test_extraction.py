"""Extraction is whole, safe, done once, and leaves nothing when it fails."""

import hashlib
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltx_trainer.artifacts import Role
from ltx_trainer.atomic import check_space
from ltx_trainer.errors import DatasetError, OutOfResources
from ltx_trainer.ingest import check_archive, ingest_archive, manifest
from ltx_trainer.modes import MODES, Mode

MODE_OF = {mode.name: mode for mode in MODES}


def files_in(folder: Path) -> dict[Path, tuple[int, int]]:
    """Give inode and time of change of every file."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_media_lies_in_a_folder_named_by_the_archives_digest_with_the_digests_of_its_bytes(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"a.mp4": b"first", "b.mp4": b"second"})
    sources = [item.files[Role.TARGET] for item in ingest_archive(path, t2v, store).examples]
    place = store / "archives" / hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert {source.path.parent for source in sources} == {place}
    assert [source.sha256 for source in sources] == [
        hashlib.sha256(content).hexdigest() for content in (b"first", b"second")
    ]


def test_a_second_run_uses_what_is_there_and_gives_the_same_manifest(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": b"words", "b.wmv": b"2"})
    first = ingest_archive(path, t2v, store)
    before = files_in(store)
    assert ingest_archive(path, t2v, store) == first
    assert files_in(store) == before


def test_another_archive_goes_to_another_folder(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    ingest_archive(make_archive({"a.mp4": b"1"}), t2v, store)
    ingest_archive(make_archive({"a.mp4": b"2"}), t2v, store)
    assert len(list((store / "archives").iterdir())) == 2


@pytest.mark.parametrize("content", [None, b"cut"])
def test_an_extracted_file_that_is_gone_or_cut_is_extracted_again(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_archive({"x/a.mp4": b"other file", "y/a.mp4": b"whole file"})
    first = ingest_archive(path, t2v, store)
    extracted = first.examples[1].files[Role.TARGET].path
    extracted.unlink() if content is None else extracted.write_bytes(content)
    assert ingest_archive(path, t2v, store) == first
    assert extracted.read_bytes() == b"whole file"
    assert "is incomplete: extracting 1 file of data.zip" in caplog.text


def test_what_another_mode_needs_beside_it_is_added_and_what_is_read_by_others_is_left_alone(
    make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"a_start.mp4": b"1", "a_mask.png": b"2", "a_end.mp4": b"3"})
    pairs = ingest_archive(path, MODE_OF["v2v"], store)
    before = {file: facts for file, facts in files_in(store).items() if file.suffix == ".mp4"}

    masked = ingest_archive(path, MODE_OF["v2v-masked"], store)

    assert before.items() <= files_in(store).items()
    assert pairs.examples[0].files.items() < masked.examples[0].files.items()
    assert masked.examples[0].files[Role.MASK].path.read_bytes() == b"2"
    assert ingest_archive(path, MODE_OF["v2v"], store) == pairs


def test_an_archive_that_vanishes_while_it_is_read_is_named(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_archive({"a.mp4": b"1"})
    find = manifest.find_groups

    def find_and_lose(*arguments: Any, **options: Any) -> Any:
        path.unlink()
        return find(*arguments, **options)

    monkeypatch.setattr(manifest, "find_groups", find_and_lose)

    with pytest.raises(DatasetError, match=r"data\.zip cannot be read: No such file or directory"):
        ingest_archive(path, t2v, store)


def test_an_extraction_that_fails_half_way_leaves_nothing(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"a.mp4": b"fine", "b.mp4": b"sound bytes"})
    path.write_bytes(path.read_bytes().replace(b"sound bytes", b"wrong bytes"))
    check_archive(path, t2v)
    with pytest.raises(DatasetError, match=r"'b\.mp4' in data\.zip is damaged: Bad CRC"):
        ingest_archive(path, t2v, store)
    assert list((store / "archives").iterdir()) == []


def test_what_a_killed_extraction_left_is_replaced(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"a.mp4": b"1"})
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    left = store / "archives" / f".{key}.partial"
    left.mkdir(parents=True)
    (left / "00002-b.mp4").write_bytes(b"half")
    (example,) = ingest_archive(path, t2v, store).examples
    assert example.files[Role.TARGET].path.read_bytes() == b"1"
    assert [folder.name for folder in (store / "archives").iterdir()] == [key]
    assert {file.name for file in (store / "archives" / key).iterdir()} == {"00001-a.mp4", "extracted.json"}


def test_more_than_the_disk_has_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutOfResources, match=r"unpacks to 10{18} bytes, and the disk of .* has \d+ free"):
        check_space(tmp_path / "not" / "there", 10**18, "The archive unpacks to")


def test_fewer_than_ten_examples_are_warned_of_once(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ingest_archive(make_archive({f"{number}.mp4": b"1" for number in range(9)}), t2v, store)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{store.parent / 'data.zip'} holds 9 examples; at least 10 are advised."
    ]


def test_ten_examples_are_not_warned_of(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ingest_archive(make_archive({f"{number}.mp4": b"1" for number in range(10)}), t2v, store)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_checking_a_large_archive_takes_a_fraction_of_a_second(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    members = {f"{number}.mp4": bytes(10_000) for number in range(500)}
    path = make_archive({**members, **{f"{number}.txt": b"words" for number in range(500)}})
    start = time.process_time()
    check_archive(path, t2v)
    assert time.process_time() - start < 0.3


def test_the_room_reaches_neither_torch_nor_av() -> None:
    code = "import sys, ltx_trainer.ingest; print({'torch', 'av', 'numpy'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == "set()"
