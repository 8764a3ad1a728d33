"""Captions from tables: they go by path, whatever the order, and what does not fit is refused by name."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import ENDPOINT, Mode, find_mode

MakeArchive = Callable[..., Path]
Rows = list[dict[str, str]]

TEXTS = {"a": "one, with a comma", "b": "two\nlines", "c": "grün"}
MEDIA = {f"clips/{name}.mp4": name.encode() for name in TEXTS}


def rows(file: str = "file_name", text: str = "caption", *, order: str = "bca") -> Rows:
    return [{file: f"clips/{name}.mp4", text: TEXTS[name]} for name in order]


def as_list(table: Rows) -> bytes:
    return json.dumps(table).encode()


def as_lines(table: Rows) -> bytes:
    return "\n\n".join(json.dumps(row, ensure_ascii=False) for row in table).encode()


def as_cells(table: Rows, *, delimiter: str = ",") -> bytes:
    text = io.StringIO()
    written = csv.DictWriter(text, table[0], delimiter=delimiter)
    written.writeheader()
    written.writerows(table)
    return text.getvalue().encode()


def captions(path: Path, mode: Mode, store: Path) -> dict[str, str | None]:
    return {example.name: example.caption for example in ingest_archive(path, mode, store).examples}


def refuse(path: Path, mode: Mode, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        check_archive(path, mode)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset.json", as_list(rows("media_path"))),
        ("dataset.json", b"\xef\xbb\xbf" + as_list(rows("video", "prompt"))),
        ("DATASET.JSON", as_list(rows("path", "text"))),
        ("dataset.jsonl", as_lines(rows("media_path"))),
        ("metadata.jsonl", as_lines(rows(text="text"))),
        ("metadata.jsonl", as_lines(rows()).replace(b"\n", b"\r\n") + b"\r\n\r\n"),
        ("metadata.csv", as_cells(rows(text="text"))),
        ("metadata.csv", b"\xef\xbb\xbf" + as_cells(rows(text="prompt"))),
        ("metadata.csv", as_cells(rows("File_Name", "Caption")).replace(b"\r\n", b"\n") + b"\n,\n"),
        ("metadata.csv", as_cells(rows(), delimiter=";")),
        ("dataset.csv", as_cells(rows("media_path"), delimiter="\t")),
    ],
)
def test_captions_go_by_path_whatever_the_table_is_written_in(
    t2v: Mode, make_archive: MakeArchive, store: Path, name: str, content: bytes
) -> None:
    path = make_archive({**MEDIA, name: content})

    assert captions(path, t2v, store) == {f"clips/{name}": text for name, text in TEXTS.items()}
    assert ingest_archive(path, t2v, store).left_out == ()


@pytest.mark.parametrize("names", [("videos.txt", "prompt.txt"), ("Video.TXT", "captions.txt")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_two_lists_go_line_by_line_and_an_empty_line_is_no_caption(
    t2v: Mode, make_archive: MakeArchive, store: Path, names: tuple[str, str], end: str
) -> None:
    files = end.join(["clips/c.mp4", "clips\\a.mp4", "./clips/b.mp4", ""])
    texts = "\ufeff" + end.join(["third", "", " second "])
    path = make_archive({**MEDIA, names[0]: files.encode(), names[1]: texts.encode()})

    assert captions(path, t2v, store) == {"clips/a": None, "clips/b": "second", "clips/c": "third"}


@pytest.mark.parametrize(
    ("files", "texts", "match"),
    [
        ("clips/a.mp4\nclips/b.mp4\nclips/c.mp4\n", "one\ntwo\n", r"names 3 files, and 'prompt\.txt' holds 2 captions"),
        ("clips/a.mp4\n", "one\n\ntwo\n", r"'videos\.txt' names 1 files, and 'prompt\.txt' holds 3 captions"),
        ("clips/a.mp4\n", "", r"names 1 files, and 'prompt\.txt' holds 0 captions"),
        ("clips/a.mp4\n\nclips/b.mp4", "one\ntwo\nthree", r"Line 2 of 'videos\.txt' is empty, and that of 'prompt"),
    ],
)
def test_lists_of_unequal_length_are_refused_with_both_numbers(
    t2v: Mode, make_archive: MakeArchive, files: str, texts: str, match: str
) -> None:
    refuse(make_archive({**MEDIA, "videos.txt": files.encode(), "prompt.txt": texts.encode()}), t2v, match)


def test_lists_named_like_a_video_are_its_caption(t2v: Mode, make_archive: MakeArchive, store: Path) -> None:
    path = make_archive({"videos.mp4": b"1", "videos.txt": b"a.mp4", "prompt.mp4": b"2", "prompt.txt": b"words"})

    assert captions(path, t2v, store) == {"videos": "a.mp4", "prompt": "words"}


def test_paths_begin_from_the_folder_of_the_table(t2v: Mode, make_archive: MakeArchive, store: Path) -> None:
    one, two = [{"file_name": "a.mp4", "text": "first"}], [{"file_name": "../x/b.mp4", "text": "second"}]
    members = {"set/x/a.mp4": b"1", "set/x/b.mp4": b"2", "set/y/a.mp4": b"3"}
    path = make_archive({**members, "set/x/metadata.csv": as_cells(one), "set/y/metadata.jsonl": as_lines(two)})

    assert captions(path, t2v, store) == {"x/a": "first", "x/b": "second", "y/a": None}


@pytest.mark.parametrize("named", ["x#scene-002", "x#scene-002.mp4", "x.mp4#scene-002"])
def test_a_table_may_name_a_scene_and_is_held_against_the_file_beside_the_video(
    t2v: Mode, make_archive: MakeArchive, store: Path, named: str
) -> None:
    members = {"set/x.mp4": b"1", "set/dataset.json": as_list([{"media_path": named, "caption": "words"}])}
    manifest = ingest_archive(make_archive(members), t2v, store)

    assert {piece: item.text for piece, item in manifest.examples[0].pieces.items()} == {"#scene-002": "words"}
    assert manifest.left_out == ()
    refuse(
        make_archive({**members, "set/x#scene-002.txt": b"other"}),
        t2v,
        r"x#scene-002 has captions that differ: 'set/x#scene-002\.txt' says 'other' and 'set/dataset\.json', row 1",
    )


@pytest.mark.parametrize("named", ["x_start.mp4", "x_end.mp4", "x_mask.png"])
def test_a_table_may_name_any_file_of_an_example(make_archive: MakeArchive, store: Path, named: str) -> None:
    path = make_archive(
        {
            **dict.fromkeys(["x_start.mp4", "x_end.mp4", "x_mask.png"], b"1"),
            "dataset.json": as_list([{"media_path": named, "caption": "words"}]),
        }
    )

    assert captions(path, find_mode(f"{ENDPOINT}v2v-masked"), store) == {"x": "words"}


@pytest.mark.parametrize(
    "members",
    [
        {"a.txt": b"other", "metadata.csv": as_cells([{"file_name": "a.mp4", "text": "words"}])},
        {"dataset.json": as_list([{"video": "a.mp4", "text": text} for text in ("words", "other")])},
        {
            "dataset.json": as_list([{"video": "a.mp4", "text": "words"}]),
            "metadata.jsonl": as_lines([{"file_name": "a.mp4", "text": "other"}]),
        },
        {"videos.txt": b"a.mp4\na.mp4", "prompt.txt": b"words\nother"},
    ],
)
def test_two_captions_that_differ_are_refused_with_the_place_of_each(
    t2v: Mode, make_archive: MakeArchive, members: Mapping[str, bytes]
) -> None:
    path = make_archive({"a.mp4": b"1", **members})

    refuse(path, t2v, r"^a has captions that differ: .*(words.* and .*other|other.* and .*words).*Take one of them out")


def test_one_caption_said_twice_is_one(t2v: Mode, make_archive: MakeArchive, store: Path) -> None:
    table = as_list([{"video": "a.mp4", "caption": "words"}])
    path = make_archive({"a.mp4": b"1", "a.txt": b"words\r\n", "dataset.json": table})

    assert captions(path, t2v, store) == {"a": "words"}


def test_a_row_without_a_caption_leaves_the_one_beside_the_media(
    t2v: Mode, make_archive: MakeArchive, store: Path
) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": b"words", "metadata.csv": b"file_name,text\na.mp4,\n"})

    assert captions(path, t2v, store) == {"a": "words"}


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", b"[]"])
@pytest.mark.parametrize("name", ["dataset.json", "metadata.jsonl", "metadata.csv"])
def test_an_empty_table_says_nothing(
    t2v: Mode, make_archive: MakeArchive, store: Path, name: str, content: bytes
) -> None:
    if content != b"[]" or name == "dataset.json":
        assert captions(make_archive({"a.mp4": b"1", name: content}), t2v, store) == {"a": None}


def test_a_file_that_is_not_there_is_an_incomplete_example_named_with_its_row_and_what_was_meant(
    t2v: Mode, make_archive: MakeArchive, store: Path
) -> None:
    table = as_cells([{"file_name": name, "text": "words"} for name in ("clip-01.mp4", "clip-2.mp4")])
    (left_out,) = ingest_archive(make_archive({"clip-01.mp4": b"1", "metadata.csv": table}), t2v, store).left_out

    assert left_out.is_incomplete
    assert (left_out.name, left_out.reason) == (
        "metadata.csv",
        "names 'clip-2.mp4' ('metadata.csv', row 3), which is not in the archive; 'clip-01.mp4' is there",
    )


@pytest.mark.parametrize("path", ["/data/a.mp4", "../a.mp4", "C:\\a.mp4", "A.MP4"])
def test_a_path_that_leads_elsewhere_is_not_there(t2v: Mode, make_archive: MakeArchive, store: Path, path: str) -> None:
    table = as_list([{"file_name": path, "text": "words"}])
    manifest = ingest_archive(make_archive({"a.mp4": b"1", "dataset.json": table}), t2v, store)

    assert (manifest.examples[0].caption, manifest.left_out[0].is_incomplete) == (None, True)


def test_the_record_of_a_run_is_no_table(t2v: Mode, make_archive: MakeArchive, store: Path) -> None:
    (left_out,) = ingest_archive(
        make_archive({"a.mp4": b"1", "dataset.json": b'{"trained_on": []}'}), t2v, store
    ).left_out

    assert (left_out.name, left_out.is_incomplete) == ("dataset.json", False)
    assert "record of a run" in left_out.reason


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("dataset.json", b"not json", r"'dataset\.json' is not JSON"),
        ("dataset.json", b"[" * 100_000, r"'dataset\.json' is not JSON"),
        ("dataset.json", b'{"a.mp4": "words"}', r"'dataset\.json' is not a list of rows"),
        ("dataset.json", b'["a.mp4"]', r"Row 1 of 'dataset\.json' is \"a\.mp4\", and no object"),
        ("dataset.json", b'[{"video": "a.mp4", "caption": 3}]', r"Row 1 of 'dataset\.json' holds 3 where a text is"),
        ("dataset.json", b'[{"video": ["a.mp4"], "caption": "x"}]', r"Row 1 .* holds \[\"a\.mp4\"\] where a text is"),
        ("metadata.jsonl", b'{"file_name": "a.mp4", "text": "x"}\n{oh', r"'metadata\.jsonl', line 2, is not JSON"),
        (
            "metadata.csv",
            b"file_name,label\na.mp4,3\n",
            r"Row 2 .* names no caption; it holds file_name, label\. A table",
        ),
        ("metadata.csv", b"id,text\n7,words\n", r"Row 2 of 'metadata\.csv' names no file; it holds id, text"),
        ("metadata.csv", b"file_name,text\na.mp4,one, two\n", r"Row 2 .* has 3 cells, and the first row names 2\. Put"),
        ("metadata.csv", b'file_name,text\na.mp4,"one\n', r"'metadata\.csv' is damaged at line 2"),
        (
            "metadata.csv",
            "file_name,text\na.mp4,grün\n".encode("cp1252"),
            r"Table 'metadata\.csv' is not UTF-8: byte 23",
        ),
        ("metadata.csv", "file_name,text\n".encode("utf-16"), r"Table 'metadata\.csv' is not UTF-8: byte 0 is 0xff"),
    ],
)
def test_a_table_that_cannot_be_read_as_one_is_refused_by_name(
    t2v: Mode, make_archive: MakeArchive, name: str, content: bytes, match: str
) -> None:
    refuse(make_archive({"a.mp4": b"1", name: content}), t2v, match)


def test_a_mode_that_needs_captions_takes_those_of_a_table(make_archive: MakeArchive) -> None:
    members = dict.fromkeys(["x_start.png", "x_audio.wav", "x_end.mp4"], b"1")
    table = as_list([{"media_path": "x_end.mp4", "caption": "words"}])
    a2v = find_mode(f"{ENDPOINT}a2v")

    check_archive(make_archive({**members, "dataset.json": table}), a2v, needs_caption=True)
    with pytest.raises(DatasetError, match=r"x: no caption, .*captions\.auto: true"):
        check_archive(make_archive(members), a2v, needs_caption=True)
