"""Examples of several files: which go together, what lacks one, and what stands where it may not."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from ltx_trainer.artifacts import LeftOut, MediaKind, Role
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import ENDPOINT, MODES, Mode, find_mode

MakeArchive = Callable[..., Path]
RANGES = b"[[1.0, 2.0]]"


def mode_of(name: str) -> Mode:
    return find_mode(ENDPOINT + name)


def members(*names: str) -> Mapping[str, bytes]:
    """Give each file its own name as its content, and a list of ranges to JSON."""
    return {name: RANGES if name.lower().endswith(".json") else name.encode() for name in names}


def example_of(mode: Mode) -> list[str]:
    return [f"x{part.suffix}{min(part.extensions)}" for part in mode.parts]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_each_mode_takes_its_own_files_and_nothing_is_left_over(
    mode: Mode, make_archive: MakeArchive, store: Path
) -> None:
    names = example_of(mode)

    manifest = ingest_archive(make_archive({**members(*names), "x.txt": b"words"}), mode, store)

    (example,) = manifest.examples
    assert (example.name, example.caption, manifest.left_out) == ("x", "words", ())
    found = {role: source.path.read_bytes().decode() for role, source in example.files.items()}
    by_role = {part.role: name for part, name in zip(mode.parts, names, strict=True)}
    assert found == {role: name for role, name in by_role.items() if role is not Role.RANGES}
    assert example.ranges == (((Fraction(1), Fraction(2)),) if Role.RANGES in by_role else ())


@pytest.mark.parametrize("mode", [mode for mode in MODES if len(mode.parts) > 1], ids=lambda mode: mode.name)
def test_an_example_that_lacks_a_file_is_left_out_whole_and_says_which(
    mode: Mode, make_archive: MakeArchive, store: Path
) -> None:
    whole = ["y" + name.removeprefix("x") for name in example_of(mode)]
    for part, absent in zip(mode.parts, example_of(mode), strict=True):
        rest = [name for name in example_of(mode) if name != absent]

        left_out = ingest_archive(make_archive(members(*rest, "x.txt", *whole)), mode, store).left_out

        if not part.required:
            assert left_out == ()
            continue
        assert [item.name for item in left_out] == sorted([*rest, "x.txt"])
        assert all(item.is_incomplete for item in left_out)
        lacks = f"of x, which lacks x{part.suffix} ({'/'.join(sorted(part.extensions))})"
        assert all(item.reason.endswith(lacks) for item in left_out)


@pytest.mark.parametrize(
    ("mode", "orphan", "reason"),
    [
        ("v2v", "a_start.mp4", "is the reference of a, which lacks a_end (.avi/.gif/.mkv/.mov/.mp4/.webm/.webp)"),
        ("v2v", "set/a_end.mp4", "is the target of set/a, which lacks a_start (.avi/.gif/.mkv/.mov/.mp4/.webm/.webp)"),
        ("inpaint", "a_mask.png", "is the mask of a, which lacks a (.avi/.gif/.mkv/.mov/.mp4/.webm/.webp)"),
        ("audio-inpaint", "a_mask.json", "is the list of ranges of a, which lacks a (.aac/.flac/.m4a/.mp3/.ogg/.wav)"),
        ("v2v", "a_end.txt", "is a caption without media: no video or image of the same name lies beside it"),
        ("t2a", "a.txt", "is a caption without media: no sound of the same name lies beside it"),
        ("v2v", "x_end.txt", "is not read, because the caption of x is x.txt; rename it"),
        (
            "v2v",
            "a_ref.mov",
            "is taken for the reference of a only beside a bare a and where there is no a_end; rename it a_start.mov",
        ),
    ],
)
def test_an_orphan_is_part_of_an_incomplete_example(
    make_archive: MakeArchive, store: Path, mode: str, orphan: str, reason: str
) -> None:
    whole = example_of(mode_of(mode))

    manifest = ingest_archive(make_archive(members(*whole, orphan)), mode_of(mode), store)

    assert len(manifest.examples) == 1
    assert manifest.left_out == (LeftOut(orphan, reason, is_incomplete=True),)


def test_a_bare_video_has_no_part_in_a_mode_of_pairs(make_archive: MakeArchive, store: Path) -> None:
    path = make_archive(members("x_start.mp4", "x_end.mp4", "y.mp4"))

    (left_out,) = ingest_archive(path, mode_of("v2v"), store).left_out

    assert (left_out.name, left_out.is_incomplete) == ("y.mp4", True)
    assert left_out.reason.startswith("is none of the files that v2v takes, which is x_start(")


def test_a_suffix_alone_is_no_name(make_archive: MakeArchive, store: Path) -> None:
    path = make_archive(members("x_start.mp4", "x_end.mp4", "_start.mp4", "_end.mp4"))

    manifest = ingest_archive(path, mode_of("v2v"), store)

    assert [example.name for example in manifest.examples] == ["x"]
    assert [item.name for item in manifest.left_out] == ["_end.mp4", "_start.mp4"]


def test_the_record_of_a_run_beside_sounds_is_no_lost_example(make_archive: MakeArchive, store: Path) -> None:
    path = make_archive({**members("x.wav", "x_mask.json"), "dataset.json": b'{"trained_on": []}'})

    (left_out,) = ingest_archive(path, mode_of("audio-inpaint"), store).left_out

    assert (left_out.name, left_out.is_incomplete) == ("dataset.json", False)


def test_nothing_but_halves_is_refused_with_what_each_lacks(make_archive: MakeArchive) -> None:
    with pytest.raises(DatasetError, match=r"(?s)no whole example of v2v.*a_end\.mp4: .* lacks a_start.*and 2 more"):
        check_archive(make_archive(members(*(f"{letter}_end.mp4" for letter in "abcdefg"))), mode_of("v2v"))


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("-h5K v1.2_START.MP4", "-h5K v1.2_END.MOV"),
        ("set/猫_start.mkv", "set/猫_end.avi"),
        ("_start_start.mp4", "_start_end.mp4"),
    ],
)
def test_a_pair_goes_by_name_whatever_the_name(
    make_archive: MakeArchive, store: Path, reference: str, target: str
) -> None:
    other = "others/y"
    path = make_archive(members(reference, target, f"{other}_end.mp4", f"{other}_start.mp4"))

    examples = ingest_archive(path, mode_of("v2v"), store).examples

    (pair,) = [item for item in examples if not item.name.endswith("y")]
    assert (pair.files[Role.REFERENCE].name, pair.files[Role.TARGET].name) == (reference, target)
    assert pair.name == str(PurePosixPath(target).with_suffix(""))[: -len("_end")]


def test_files_of_one_name_in_two_folders_are_two_examples(make_archive: MakeArchive, store: Path) -> None:
    path = make_archive(members("a/x_start.mp4", "a/x_end.mp4", "b/x_start.mp4", "c/x_end.mp4"))

    manifest = ingest_archive(path, mode_of("v2v"), store)

    assert [example.name for example in manifest.examples] == ["a/x"]
    assert [item.name for item in manifest.left_out] == ["b/x_start.mp4", "c/x_end.mp4"]


@pytest.mark.parametrize("suffix", ["_ref", "_reference", "_REF"])
@pytest.mark.parametrize("mode", ["v2v", "av2av-masked"])
def test_a_reference_beside_a_bare_video_makes_a_pair(
    make_archive: MakeArchive, store: Path, mode: str, suffix: str
) -> None:
    masks = ["x_mask.png"] if "masked" in mode else []
    path = make_archive(members(f"x{suffix}.mp4", "x.mov", "x.txt", *masks))

    manifest = ingest_archive(path, mode_of(mode), store)

    (example,) = manifest.examples
    assert manifest.left_out == ()
    assert (example.name, example.caption) == ("x", "x.txt")
    assert example.files[Role.REFERENCE].name == f"x{suffix}.mp4"
    assert example.files[Role.TARGET].name == "x.mov"


def test_a_reference_of_another_name_counts_for_nothing_where_there_is_an_end(
    make_archive: MakeArchive, store: Path
) -> None:
    path = make_archive(members("x_start.mp4", "x_end.mp4", "x_ref.mp4", "x.mp4"))

    manifest = ingest_archive(path, mode_of("v2v"), store)

    assert manifest.examples[0].files[Role.REFERENCE].name == "x_start.mp4"
    assert [item.name for item in manifest.left_out] == ["x.mp4", "x_ref.mp4"]


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("v2v", ["x_start.mp4", "x_start.mov", "x_end.mp4"]),
        ("v2v", ["x_ref.mp4", "x_reference.mp4", "x.mp4"]),
        ("v2v", ["x_ref.mp4", "x.mov", "x.mp4"]),
        ("inpaint", ["x.mp4", "x_mask.png", "x_mask.mp4"]),
        ("a2v", ["x_start.png", "x_start.mp4", "x_end.mp4"]),
    ],
)
def test_two_files_in_one_place_are_refused(make_archive: MakeArchive, mode: str, names: list[str]) -> None:
    with pytest.raises(DatasetError, match=r"'x.*' and 'x.*' claim the same place"):
        check_archive(make_archive(members(*names)), mode_of(mode))


@pytest.mark.parametrize("extension", [".mp4", ".webm", ".png", ".JPG", ".bmp", ".TIF"])
def test_a_mask_is_an_image_or_a_video(make_archive: MakeArchive, store: Path, extension: str) -> None:
    path = make_archive(members("x.webm", f"x_mask{extension}"))

    (example,) = ingest_archive(path, mode_of("inpaint"), store).examples

    is_video = extension in {".mp4", ".webm"}
    assert example.files[Role.MASK].kind is (MediaKind.VIDEO if is_video else MediaKind.IMAGE)
    assert example.files[Role.TARGET].kind is MediaKind.VIDEO


def animated(extension: str, *, count: int) -> bytes:
    """Give the bytes of an image of several pictures."""
    first, *others = (Image.new("RGB", (8, 8), (80 * index, 0, 0)) for index in range(count))
    content = BytesIO()
    first.save(content, extension[1:].upper(), save_all=True, append_images=others)
    return content.getvalue()


@pytest.mark.parametrize("extension", [".gif", ".webp"])
def test_an_animation_and_a_still_are_told_apart_by_content(
    make_archive: MakeArchive, store: Path, extension: str
) -> None:
    still, moving = animated(extension, count=1), animated(extension, count=3)
    masks = make_archive({f"x{extension}": moving, f"x_mask{extension}": still})

    (example,) = ingest_archive(masks, mode_of("inpaint"), store).examples

    assert example.files[Role.TARGET].kind is MediaKind.VIDEO
    assert example.files[Role.MASK].kind is MediaKind.IMAGE
    with pytest.raises(DatasetError, match=rf"i2v trains on videos only; 'b\{extension}' is an image"):
        ingest_archive(make_archive({f"a{extension}": moving, f"b{extension}": still}), mode_of("i2v"), store)
    both = make_archive({f"a{extension}": moving, f"b{extension}": still})
    with pytest.raises(DatasetError, match="1 images and 1 videos; a run takes one of the two"):
        ingest_archive(both, mode_of("t2v"), store)
    assert len(ingest_archive(both, mode_of("t2v"), store, mixed=True).examples) == 2


@pytest.mark.parametrize("extension", [".gif", ".webp"])
def test_one_damaged_animation_does_not_refuse_the_others(
    make_archive: MakeArchive, store: Path, extension: str
) -> None:
    path = make_archive({f"a{extension}": animated(extension, count=1), f"b{extension}": b"damaged"})

    kinds = [example.files[Role.TARGET].kind for example in ingest_archive(path, mode_of("t2v"), store).examples]

    assert kinds == [MediaKind.IMAGE, MediaKind.VIDEO]


@pytest.mark.parametrize(
    ("mode", "names", "match"),
    [
        (
            "v2v",
            ["a_start.png", "a_end.mp4"],
            r"'a_start\.png' is an image, and the reference .* v2v is a video \(\.avi",
        ),
        ("v2v", ["a_ref.png", "a.mp4"], r"'a_ref\.png' is an image, and the reference .* v2v is a video"),
        ("a2v", ["a_start.png", "a_end.JPG"], r"'a_end\.JPG' is an image, and the target .* a2v is a video"),
        ("inpaint", ["a.png", "a_mask.png"], r"inpaint trains on videos only; 'a\.png' is an image"),
        *(
            (
                mode,
                ["a.mp4", "b.png"],
                rf"1 images and 1 videos, and {mode} trains on videos only; 'b\.png' is an image",
            )
            for mode in ("outpaint", "interpolate", "extend-prefix", "extend-suffix", "v2a")
        ),
    ],
)
def test_an_image_in_the_place_of_a_video_is_refused_by_name(
    make_archive: MakeArchive, mode: str, names: list[str], match: str
) -> None:
    with pytest.raises(DatasetError, match=match):
        check_archive(make_archive(members(*names)), mode_of(mode), mixed=True)


@pytest.mark.parametrize("start", ["x_start.mp4", "x_start.png"])
def test_a_start_image_needs_a_sound_and_a_start_video_may_have_its_own(
    make_archive: MakeArchive, store: Path, start: str
) -> None:
    path = make_archive(members("y_start.jpg", "y_audio.mp3", "y_end.mp4", start, "x_end.mp4"))

    manifest = ingest_archive(path, mode_of("a2v"), store)

    whole = ["x", "y"] if start.endswith(".mp4") else ["y"]
    assert [example.name for example in manifest.examples] == whole
    reasons = {item.name: item.reason for item in manifest.left_out}
    assert reasons.keys() == ({"x_end.mp4", start} if len(whole) == 1 else set())
    assert all("lacks x_audio (.aac/" in why and "x_start.png has no sound" in why for why in reasons.values())


def test_a_mode_that_needs_captions_names_the_examples_without(make_archive: MakeArchive, store: Path) -> None:
    names = [f"{letter}{part}" for letter in "ab" for part in ("_start.mp4", "_end.mp4")]
    path = make_archive({**members(*names), "a.txt": b"words", "b.txt": b" \n"})

    with pytest.raises(DatasetError, match=r"^b: no caption.* Write one to b\.txt .* set input\.trigger_phrase"):
        ingest_archive(path, mode_of("a2v"), store, needs_caption=True)
    with pytest.raises(DatasetError, match=r"^b: no caption"):
        check_archive(path, mode_of("a2v"), needs_caption=True)
    assert len(ingest_archive(path, mode_of("a2v"), store).examples) == 2
