"""What tensors are named by, and the digests of files."""

import os
from fractions import Fraction
from pathlib import Path

import pytest

from ltx_trainer.cache import key
from ltx_trainer.cache.key import prompt_key, tensor_key
from ltx_trainer.digests import FileDigests


def test_equal_facts_give_equal_keys_in_any_order() -> None:
    found = tensor_key("video", start=Fraction(1, 3), num_frames=9, still_crf=None)

    assert found == tensor_key("video", still_crf=None, num_frames=9, start=Fraction(2, 6))
    assert len(found) == 64


@pytest.mark.parametrize(
    "facts",
    [
        {"start": Fraction(1, 3), "num_frames": 17},
        {"start": Fraction(1, 4), "num_frames": 9},
        {"begin": Fraction(1, 3), "num_frames": 9},
        {"start": Fraction(1, 3)},
        {"start": Fraction(1, 3), "num_frames": None},
    ],
)
def test_every_fact_counts(facts: dict[str, Fraction | int | None]) -> None:
    assert tensor_key("video", **facts) != tensor_key("video", start=Fraction(1, 3), num_frames=9)


def test_the_kind_of_content_counts() -> None:
    assert tensor_key("video", source="0") != tensor_key("audio", source="0")


def test_the_version_of_the_encoding_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_key("a bell", "weights")

    monkeypatch.setattr(key, "ENCODING", key.ENCODING + 1)

    assert prompt_key("a bell", "weights") != before


def test_a_digest_changes_with_the_bytes(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    first = digests.of_file(path)

    path.write_bytes(b"longer")
    longer = digests.of_file(path)
    path.write_bytes(b"first")
    os.utime(path, ns=(0, 0))

    assert longer != first
    assert digests.of_file(path) == first


def test_bytes_of_the_same_length_count_once_the_time_of_change_differs(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    one = digests.of_file(path)

    path.write_bytes(b"two")
    os.utime(path, ns=(1, 2))

    assert digests.of_file(path) != one


def test_a_file_is_read_once_and_the_note_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    os.utime(path, ns=(1, 1))
    first = FileDigests(tmp_path / "digests").of_file(path)
    path.write_bytes(b"fir5t")
    os.utime(path, ns=(1, 1))

    assert FileDigests(tmp_path / "digests").of_file(path) == first
    assert FileDigests(tmp_path / "elsewhere").of_file(path) != first


def test_a_link_has_the_digest_of_what_it_leads_to(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    path, link = tmp_path / "weights", tmp_path / "link"
    path.write_bytes(b"first")
    link.symlink_to(path)

    assert digests.of([link]) == digests.of([path])
    assert len(list((tmp_path / "digests").iterdir())) == 1


def test_the_order_of_files_counts(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"one")
    two.write_bytes(b"two")

    assert digests.of([one, two]) != digests.of([two, one])
