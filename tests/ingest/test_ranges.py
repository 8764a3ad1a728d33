"""Seconds that are generated, from the JSON beside a sound."""

import tarfile
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import pytest

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import ENDPOINT, Mode, find_mode


@pytest.fixture
def mode() -> Mode:
    return find_mode(f"{ENDPOINT}audio-inpaint")


def test_ranges_are_read_exactly_and_put_in_order(mode: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"a.wav": b"1", "a_mask.json": b"\xef\xbb\xbf[[3, 4.1], [0.1, 0.3], [0.3, 1e0]]"})

    (example,) = ingest_archive(path, mode, store).examples

    assert example.ranges == (
        (Fraction(1, 10), Fraction(3, 10)),
        (Fraction(3, 10), Fraction(1)),
        (Fraction(3), Fraction(41, 10)),
    )


def test_each_example_of_a_packed_tar_gets_its_own_ranges(mode: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {
            "b_mask.json": b"[[2, 3]]",
            "a.wav": b"1",
            "b.wav": b"2",
            "a_mask.json": b"[[1, 2]]",
            "a.txt": b"words",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))

    first, second = ingest_archive(path, mode, store).examples

    assert (first.ranges, first.caption) == (((Fraction(1), Fraction(2)),), "words")
    assert (second.ranges, second.caption) == (((Fraction(2), Fraction(3)),), None)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"", r"is not JSON"),
        (b"[[1.0, 2.0]", r"is not JSON.*ranges of seconds: \[\[1\.0, 2\.0\], \[3\.5, 4\.0\]\]"),
        (b"\xff\xfe", r"is not JSON"),
        (b"[" * 100_000, r"is not JSON"),
        (b'{"ranges": [[1, 2]]}', r"is no list of \[begin, end\] in seconds"),
        (b"null", r"is no list of \[begin, end\]"),
        (b"[]", r"is empty, and at least one range is needed"),
        (b"[1.0, 2.0]", r"1\.0 is not a range"),
        (b"[[1.0, 2.0, 3.0]]", r"\[1\.0, 2\.0, 3\.0\] is not a range"),
        (b'[["1", "2"]]', r"\['1', '2'\] is not a range"),
        (b"[[false, true]]", r"\[False, True\] is not a range"),
        (b"[[0, Infinity]]", r"\[0, inf\] is not a range"),
        (b"[[0, 1" + b"0" * 400 + b"]]", r"\[0, 10+\] is not a range"),
        (b"[[1.0, 2.0], [4.0, 3.5]]", r"\[4\.0, 3\.5\] ends before it begins; \[3\.5, 4\.0\] would work"),
        (b"[[1.0, 1.0]]", r"\[1\.0, 1\.0\] is empty"),
        (b"[[-0.5, 1.0]]", r"\[-0\.5, 1\.0\] begins before 0"),
        (b"[[3, 5], [1, 4]]", r"\[1\.0, 4\.0\] and \[3\.0, 5\.0\] overlap; one of them, \[1\.0, 5\.0\], would do"),
        (b"[[1, 2]]" + bytes(1 << 20), r"has 1048584 bytes; a list of ranges has at most 1048576"),
    ],
)
def test_what_holds_no_ranges_is_refused_with_the_file_and_the_rule(
    mode: Mode, make_archive: Callable[..., Path], content: bytes, answer: str
) -> None:
    path = make_archive({"a.wav": b"1", "a_mask.json": content})

    with pytest.raises(DatasetError, match=rf"^'a_mask\.json':? {answer}"):
        check_archive(path, mode)
