"""What a caption file may be, and what is made of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import Mode


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (b"a red cube", "a red cube"),
        (b"\xef\xbb\xbfa red cube", "a red cube"),
        (b"  one line\r\nanother\rand a third\n\n", "one line\nanother\nand a third"),
        ("ein grüner Würfel".encode(), "ein grüner Würfel"),
        (b"", None),
        (b" \r\n\t", None),
        (b"\xef\xbb\xbf", None),
    ],
)
def test_a_caption_is_stripped_text_with_plain_line_ends(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, content: bytes, caption: str | None
) -> None:
    (example,) = ingest_archive(make_archive({"a.mp4": b"1", "a.txt": content}), t2v, store).examples
    assert example.caption == caption


@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"caf\xe9", "byte 3 is 0xe9"),
        (b"\xef\xbb\xbfcaf\xe9", "byte 6 is 0xe9"),
        ("utf-16".encode("utf-16-le").join([b"\xff\xfe", b""]), "byte 0 is 0xff"),
    ],
)
def test_a_caption_that_is_not_utf8_is_refused_with_its_name_and_the_byte(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, content: bytes, byte: str
) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": content})
    with pytest.raises(DatasetError, match=rf"Caption 'a\.txt' is not UTF-8: {byte}"):
        check_archive(path, t2v)
    with pytest.raises(DatasetError, match=rf"Caption 'a\.txt' is not UTF-8: {byte}"):
        ingest_archive(path, t2v, store)
    assert not store.exists()


def test_captions_of_scenes_windows_and_parts_go_with_the_video_that_they_are_of(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    texts = ("#scene-002", "#scene-003#window-001", "#window-003", "#part-002", "#SCENE-1", "#scene-004")
    path = make_archive(
        {
            **dict.fromkeys(["in/x.mp4", "in/x#scene-004.mp4", "in/#scene-001.mp4"], b"1"),
            **{f"in/x{piece}.txt": piece.encode() for piece in texts},
            "in/x.txt": b"all",
            "in/y#scene-001.txt": b"of no video",
            "in/#scene-001.txt": b"a name",
        }
    )
    manifest = ingest_archive(path, t2v, store)
    named, x, own = manifest.examples

    assert {piece: item.text for piece, item in x.pieces.items()} == {piece: piece for piece in sorted(texts[:4])}
    assert (x.caption, own.name, own.caption, own.pieces) == ("all", "x#scene-004", "#scene-004", {})
    assert (named.name, named.caption) == ("#scene-001", "a name")
    assert [item.name for item in manifest.left_out if item.is_incomplete] == [
        "in/x#SCENE-1.txt",
        "in/y#scene-001.txt",
    ]


def test_a_text_file_that_is_no_caption_need_not_be_utf8(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    manifest = ingest_archive(make_archive({"a.mp4": b"1", "notes.txt": b"\xff"}), t2v, store)
    assert [item.name for item in manifest.left_out] == ["notes.txt"]


def test_a_caption_of_megabytes_is_refused_before_it_is_unpacked(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": b"word" * 300_000})
    with pytest.raises(DatasetError, match=r"Caption 'a\.txt' has 1200000 bytes; a caption has at most 1048576"):
        check_archive(path, t2v)


def test_a_caption_with_a_damaged_byte_is_refused(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": b"a red cube"})
    path.write_bytes(path.read_bytes().replace(b"a red cube", b"a red tube"))
    with pytest.raises(DatasetError, match=r"'a\.txt' in data\.zip is damaged: Bad CRC"):
        check_archive(path, t2v)
