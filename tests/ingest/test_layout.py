"""Which files make an example, which are left out and why, and which archives are refused for what they hold."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Example, LeftOut, Manifest, MediaKind, Role
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import Mode


def names_of(manifest: Manifest) -> list[str]:
    return [example.name for example in manifest.examples]


def content_of(example: Example) -> bytes:
    return example.files[Role.TARGET].path.read_bytes()


def test_media_is_paired_with_the_caption_of_the_same_path_whatever_the_order_in_the_zip(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive(
        {
            "c.txt": b"the third",
            "b.mp4": b"2",
            "a.txt": b"the first",
            "c.mp4": b"3",
            "a.mp4": b"1",
            "b.txt": b"the second",
        }
    )
    examples = ingest_archive(path, t2v, store).examples
    assert [(item.name, content_of(item), item.caption) for item in examples] == [
        ("a", b"1", "the first"),
        ("b", b"2", "the second"),
        ("c", b"3", "the third"),
    ]


def test_a_missing_caption_does_not_shift_the_others(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"a.mp4": b"1", "b.mp4": b"2", "b.txt": b"the second"})
    assert [item.caption for item in ingest_archive(path, t2v, store).examples] == [None, "the second"]


def test_a_single_wrapping_folder_is_not_part_of_the_names(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"set/": b"", "set/a.mp4": b"1", "set/more/b.mp4": b"2", "__MACOSX/set/._a.mp4": b"junk"})
    manifest = ingest_archive(path, t2v, store)
    assert names_of(manifest) == ["a", "more/b"]
    assert [item.files[Role.TARGET].name for item in manifest.examples] == ["set/a.mp4", "set/more/b.mp4"]


def test_one_base_name_in_two_folders_stays_two_examples_with_their_own_captions(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"x/a.mp4": b"1", "x/a.txt": b"one", "y/a.mp4": b"2", "y/a.txt": b"two"})
    examples = ingest_archive(path, t2v, store).examples
    assert [(item.name, content_of(item), item.caption) for item in examples] == [
        ("x/a", b"1", "one"),
        ("y/a", b"2", "two"),
    ]


@pytest.mark.parametrize(
    ("media", "caption", "name"),
    [
        ("CLIP.MP4", "CLIP.TXT", "CLIP"),
        ("-h5KF2SffqI-Scene-002.mp4", "-h5KF2SffqI-Scene-002.txt", "-h5KF2SffqI-Scene-002"),
        ("a clip of two.mov", "a clip of two.txt", "a clip of two"),
        ("Größe 猫.mkv", "Größe 猫.txt", "Größe 猫"),
        ("v1.2.final.avi", "v1.2.final.txt", "v1.2.final"),
        ("folder\\a.mp4", "folder\\a.txt", "a"),
        ("./a.mp4", "a.txt", "a"),
        ("cafe\u0301.mp4", "caf\u00e9.txt", "caf\u00e9"),
        ("x" * 230 + ".mp4", "x" * 230 + ".txt", "x" * 230),
        ("猫" * 80 + ".mp4", "猫" * 80 + ".txt", "猫" * 80),
    ],
)
def test_a_name_of_any_kind_works(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, media: str, caption: str, name: str
) -> None:
    path = make_archive({media: b"1", caption: b"words"})
    (example,) = ingest_archive(path, t2v, store).examples
    assert (example.name, example.caption, content_of(example)) == (name, "words", b"1")
    assert example.files[Role.TARGET].path.suffix == Path(media).suffix.lower()
    assert not example.files[Role.TARGET].path.name.startswith("-")


def test_names_in_utf8_that_the_archive_does_not_declare_are_read_as_such(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"gr___n.mp4": b"1"})
    path.write_bytes(path.read_bytes().replace(b"gr___n", b"gr\xc3\xbc_n"))
    assert names_of(ingest_archive(path, t2v, store)) == ["grü_n"]


def test_junk_of_operating_systems_is_ignored(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    junk = ["__MACOSX/._a.mp4", "__MACOSX/x.mp4", "._a.mp4", ".DS_Store", "sub/.DS_Store", "Thumbs.db", "empty/", "./"]
    path = make_archive({"a.mp4": b"1", **dict.fromkeys(junk, b"")})
    manifest = ingest_archive(path, t2v, store)
    assert names_of(manifest) == ["a"]
    assert manifest.left_out == ()


def test_every_other_unused_file_is_left_out_for_a_reason(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"a.mp4": b"1", "b.wmv": b"2", "c.txt": b"orphan", "LICENSE": b"text", ".mp4": b"3"})
    takes = f"not used by t2v, which takes {t2v.files}"
    assert ingest_archive(path, t2v, store).left_out == (
        LeftOut(".mp4", f"a file without an extension is {takes}"),
        LeftOut("LICENSE", f"a file without an extension is {takes}"),
        LeftOut("b.wmv", f".wmv files are {takes}"),
        LeftOut(
            "c.txt",
            "is a caption without media: no video or image of the same name lies beside it",
            is_incomplete=True,
        ),
    )


@pytest.mark.parametrize(("first", "second"), [("a.mp4", "a.mov"), ("a.mp4", "a.MP4"), ("x/a.png", "x/a.jpg")])
def test_two_media_files_of_one_base_name_are_refused_naming_both(
    t2v: Mode, make_archive: Callable[..., Path], first: str, second: str
) -> None:
    path = make_archive({first: b"1", second: b"2"})
    with pytest.raises(DatasetError, match=f"{first}.*{second}"):
        check_archive(path, t2v)


def test_two_captions_of_one_example_are_refused_naming_both(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": b"2", "a.TXT": b"3"})
    with pytest.raises(DatasetError, match=r"'a\.txt' and 'a\.TXT' claim the same place"):
        check_archive(path, t2v)


def test_images_and_videos_together_are_refused_with_both_counts(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.mp4": b"1", "b.png": b"2", "c.jpeg": b"3"})
    with pytest.raises(
        DatasetError, match=r"holds 2 images and 1 videos; a run takes one of the two.*data\.mixed: true"
    ):
        check_archive(path, t2v)


def test_images_and_videos_together_are_taken_if_the_settings_mix_them(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"a.mp4": b"1", "b.png": b"2", "c.jpeg": b"3"})
    manifest = ingest_archive(path, t2v, store, mixed=True)
    kinds = [item.files[Role.TARGET].kind for item in manifest.examples]
    assert kinds == [MediaKind.VIDEO, MediaKind.IMAGE, MediaKind.IMAGE]
    check_archive(path, t2v, mixed=True)


def test_mixed_data_is_no_way_to_give_images_to_i2v(i2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.mp4": b"1", "b.png": b"2"})
    with pytest.raises(DatasetError, match="i2v trains on videos only"):
        check_archive(path, i2v, mixed=True)


@pytest.mark.parametrize("name", ["README.txt", "set/license.txt", "ReadMe.TXT", "README.md", "clips.json"])
def test_a_text_that_speaks_of_the_whole_archive_is_no_lost_caption(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, name: str
) -> None:
    (left_out,) = ingest_archive(make_archive({"a.mp4": b"1", name: b"words"}), t2v, store).left_out
    assert (left_out.name, left_out.is_incomplete) == (name, False)


def test_a_readme_beside_a_video_of_that_name_is_its_caption(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    (example,) = ingest_archive(make_archive({"readme.mp4": b"1", "readme.txt": b"words"}), t2v, store).examples
    assert example.caption == "words"


def test_an_archive_of_images_is_taken_by_t2v(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"a.png": b"1", "b.JPG": b"2", "c.jpeg": b"3"})
    kinds = {item.files[Role.TARGET].kind for item in ingest_archive(path, t2v, store).examples}
    assert kinds == {MediaKind.IMAGE}


def test_an_archive_of_images_is_refused_by_i2v(i2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.png": b"1", "b.png": b"2"})
    with pytest.raises(DatasetError, match=r"holds images only \(2\), and i2v trains on videos only"):
        check_archive(path, i2v)


def test_i2v_asks_for_the_images_among_videos_to_be_taken_out(i2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.mp4": b"1", "b.png": b"2"})
    with pytest.raises(DatasetError, match=r"1 images and 1 videos, and i2v .* Take the images out"):
        check_archive(path, i2v)


def test_nothing_usable_is_refused_with_what_was_found(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    path = make_archive({"a.wmv": b"1", "b.wmv": b"2", "a.txt": b"words", "README": b"x"})
    with pytest.raises(DatasetError, match=r"Found: 1 x \.txt, 2 x \.wmv, 1 x no extension"):
        check_archive(path, t2v)


def test_an_empty_archive_is_refused(t2v: Mode, make_archive: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match="Found: nothing, it is empty"):
        check_archive(make_archive({}), t2v)
