"""How much may be lost before a run is refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Clips, Example, LeftOut, Manifest
from ltx_trainer.config import DataSection
from ltx_trainer.errors import DatasetError
from ltx_trainer.prepare import check_complete, check_loss

Prepare = Callable[..., Clips]
Make = Callable[..., Path]
Look = Callable[..., tuple[Manifest, Clips]]


@pytest.fixture
def look(prepare: Prepare, as_example: Callable[..., Example]) -> Look:
    """Prepare files, and give the manifest that they would come from too."""

    def run(paths: Sequence[Path], *, left_out: Sequence[LeftOut] = (), **fields: object) -> tuple[Manifest, Clips]:
        return Manifest(tuple(map(as_example, paths)), tuple(left_out)), prepare(*paths, **fields)

    return run


def test_half_of_the_files_may_be_lost_and_no_more(look: Look, make_video: Make) -> None:
    good = [make_video(name, 12) for name in ("a", "b")]
    short = [make_video(name, 5) for name in ("c", "d", "e")]
    check_loss(*look([*good, *short[:2]]), DataSection())
    with pytest.raises(
        DatasetError, match=r"^3 of 5 media files would be left out:\n  c: has 5 frames at 24 fps"
    ) as refusal:
        check_loss(*look([*good, *short]), DataSection())
    assert str(refusal.value).endswith(
        "data.max_left_out takes a share of 0.5. Mend the files or take them out, "
        "or set it to 0.6 to train on the others."
    )


@pytest.mark.parametrize(("num_short", "share"), [(1, 0.34), (2, 0.67)])
def test_the_share_that_is_named_does_work(look: Look, make_video: Make, num_short: int, share: float) -> None:
    paths = [make_video(name, 5 if index < num_short else 12) for index, name in enumerate("abc")]
    with pytest.raises(DatasetError, match=f"or set it to {share} to train on the others"):
        check_loss(*look(paths), DataSection(max_left_out=0.2))
    check_loss(*look(paths), DataSection(max_left_out=share))


def test_no_file_may_be_lost_if_the_settings_say_so_and_all_but_one_if_they_do_not_care(
    look: Look, make_video: Make
) -> None:
    paths = [make_video("a", 12), *(make_video(name, 5) for name in "bcd")]
    check_loss(*look(paths), DataSection(max_left_out=1))
    with pytest.raises(DatasetError, match="1 of 2 media files"):
        check_loss(*look(paths[:2]), DataSection(max_left_out=0))
    check_loss(*look(paths[:1]), DataSection(max_left_out=0))


def test_files_are_counted_not_scenes(look: Look, make_video: Make) -> None:
    # Of two files one has a scene that is long enough and two that are not.
    paths = [make_video("a", 40, 20, 20), make_video("b", 30)]
    manifest, clips = look(paths, num_frames=25, split_input_duration_threshold=1)
    assert len(clips.left_out) == 2
    check_loss(manifest, clips, DataSection(max_left_out=0))


def test_a_file_of_which_every_scene_is_lost_is_lost_once(look: Look, make_video: Make) -> None:
    paths = [make_video("a", 20, 20, 20), make_video("b", 30)]
    manifest, clips = look(paths, num_frames=25, split_input_duration_threshold=1)
    with pytest.raises(
        DatasetError, match=r"1 of 2 media files .*\n  a#scene-001: has 20 frames .* \(and so on for 3 scenes\)\n"
    ):
        check_loss(manifest, clips, DataSection(max_left_out=0))


def test_clips_that_fail_while_encoded_are_lost_too(look: Look, make_video: Make) -> None:
    manifest, clips = look([make_video(name, 12) for name in "abc"])
    failed = [LeftOut(name, "cannot be decoded") for name in "ab"]
    check_loss(manifest, clips, DataSection(), failed[:1])
    with pytest.raises(DatasetError, match=r"2 of 3 media files .*\n  a: cannot be decoded\n  b: cannot be decoded\n"):
        check_loss(manifest, clips, DataSection(), failed)


def test_pictures_of_a_kind_that_is_not_taken_are_lost_and_notes_are_not(look: Look, make_video: Make) -> None:
    notes = [LeftOut(name, "not used") for name in ("README.md", "clips.json", "LICENSE", "b.txt", "data.csv")]
    paths = [make_video("a", 12)]
    check_loss(*look(paths, left_out=notes), DataSection(max_left_out=0))
    foreign = [LeftOut("b.WMV", ".wmv files are not used"), LeftOut("x/c.heic", ".heic files are not used")]
    with pytest.raises(DatasetError, match=r"2 of 3 media files .*\n  b\.WMV: .wmv files are not used\n"):
        check_loss(*look(paths, left_out=[*notes, *foreign]), DataSection())


def test_a_long_table_ends_in_a_count(look: Look, make_video: Make) -> None:
    lost = [LeftOut(f"{index:02d}.wmv", "not used") for index in range(25)]
    with pytest.raises(DatasetError, match=r"\n  19\.wmv: not used\n  \.\.\. and 5 more\n"):
        check_loss(*look([make_video("a", 12)], left_out=lost), DataSection())


ORPHAN = LeftOut("b.txt", "is a caption without media", is_incomplete=True)


def test_an_example_that_lacks_a_file_is_refused_by_name() -> None:
    left_out = (ORPHAN, replace(ORPHAN, name="c.txt"), LeftOut("notes.md", "not used"))
    with pytest.raises(
        DatasetError, match=r"^2 files .*:\n  b\.txt: is a caption without media\n  c\.txt: "
    ) as refusal:
        check_complete(left_out, DataSection())
    assert "notes.md" not in str(refusal.value)
    assert str(refusal.value).endswith("take them out, or set data.incomplete: skip to train without them.")


def test_an_example_that_lacks_a_file_is_skipped_if_the_settings_say_so() -> None:
    check_complete((ORPHAN,), DataSection(incomplete="skip"))


def test_a_note_is_no_incomplete_example() -> None:
    check_complete((LeftOut("notes.md", "not used"),), DataSection())
