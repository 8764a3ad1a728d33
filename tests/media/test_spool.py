"""Pictures that wait on disk are those that would be decoded."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.artifacts import Footage, MediaKind, SourceFile
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import MediaError, OutOfResources
from ltx_trainer.geometry import ClipShape, FrameSize, midpoint_times
from ltx_trainer.media import Spool, Wish, opened_spool, read_pictures, scan_video

if TYPE_CHECKING:
    from tests.media.conftest import Studio

SHAPE = ClipShape(9, FrameSize(48, 32), Fraction(24))
ROOM = 1 << 30


@pytest.fixture
def as_source() -> Callable[[Path], SourceFile]:
    return lambda path: SourceFile(path.name, path, file_sha256(path), MediaKind.VIDEO)


@pytest.fixture
def film(studio: "Studio", as_source: Callable[[Path], SourceFile]) -> SourceFile:
    """30 numbered frames of another aspect than the clips that are cut from it."""
    return as_source(studio.write("film.mp4", studio.pictures(studio.numbered(30))))


def at(film: SourceFile, frame: int, shape: ClipShape = SHAPE) -> Footage:
    return Footage(film, Fraction(frame, 24), shape.duration_seconds, shape)


def kept_of(spool: Spool, film: SourceFile, wish: Wish, *parts: Footage) -> list[bool]:
    """Scan a film, and say which parts were kept on the way."""
    reel = spool.reel(wish)
    assert reel is not None
    with reel:
        scan_video(film.path, find_cuts=False, reel=reel)
        for part in parts:
            spool.keep(part, reel)
    return [spool.has(part) for part in parts]


def test_what_was_kept_while_scanning_is_what_would_be_decoded(tmp_path: Path, film: SourceFile) -> None:
    spool, parts = Spool(tmp_path / "spool", ROOM), [at(film, 0), at(film, 21), replace(at(film, 5), canvas=None)]

    assert kept_of(spool, film, Wish(SHAPE.size), *parts) == [True, True, True]

    expected = [read_pictures(part) for part in parts]
    film.path.unlink()
    for part, pictures in zip(parts, expected, strict=True):
        assert np.array_equal(read_pictures(part, spool=spool), pictures)


def test_what_was_filled_is_what_would_be_decoded(tmp_path: Path, film: SourceFile) -> None:
    spool, part = Spool(tmp_path / "spool", 0), replace(at(film, 3), canvas=FrameSize(40, 40))

    spool.fill(part)

    strip = spool.pictures(part)
    assert strip is not None
    assert (len(strip), strip.shape) == (9, (48, 48, 3))
    assert np.array_equal(read_pictures(part, spool=spool), read_pictures(part))


def test_only_the_first_pictures_of_the_wished_size_are_kept(tmp_path: Path, film: SourceFile) -> None:
    other = replace(SHAPE, size=FrameSize(32, 32))
    parts = [at(film, 0), at(film, 1), at(film, 0, other), replace(at(film, 0), canvas=FrameSize(64, 64))]

    wish = Wish(SHAPE.size, first=SHAPE)

    assert kept_of(Spool(tmp_path / "spool", ROOM), film, wish, *parts) == [True, False, False, False]


@pytest.mark.parametrize("rate", [10, 24, 30, 60])
def test_what_is_not_on_screen_in_the_first_clip_is_not_even_scaled(
    tmp_path: Path, studio: "Studio", as_source: Callable[[Path], SourceFile], rate: int
) -> None:
    film = as_source(studio.write("film.mp4", studio.pictures(studio.numbered(60), rate=Fraction(rate))))
    spool, one = Spool(tmp_path / "spool", ROOM), at(film, 0)

    assert kept_of(spool, film, Wish(SHAPE.size, first=SHAPE), one) == [True]

    assert np.array_equal(read_pictures(one, spool=spool), read_pictures(one))
    (reel,) = (tmp_path / "spool").glob("*.reel")
    shown = {int(time * rate) for time in midpoint_times(Fraction(0), SHAPE.duration_seconds, 9)}
    assert reel.stat().st_size == len(shown) * 64 * 32 * 3


@pytest.mark.parametrize(("short_seconds", "kept"), [(Fraction(1), True), (Fraction(2), False)])
def test_a_video_that_will_be_split_is_kept_to_its_end(
    tmp_path: Path, film: SourceFile, short_seconds: Fraction, kept: bool
) -> None:
    wish = Wish(SHAPE.size, first=SHAPE, short_seconds=short_seconds)

    assert kept_of(Spool(tmp_path / "spool", ROOM), film, wish, at(film, 21)) == [kept]


def test_a_video_that_finds_no_room_leaves_nothing_and_is_scanned(tmp_path: Path, film: SourceFile) -> None:
    spool, one = Spool(tmp_path / "spool", 29 * 64 * 32 * 3), at(film, 0)
    reel = spool.reel(Wish(SHAPE.size))
    assert reel is not None

    with reel:
        assert scan_video(film.path, find_cuts=False, reel=reel).num_frames == 30
        spool.keep(one, reel)

    assert not spool.has(one)
    assert list((tmp_path / "spool").iterdir()) == []
    assert Spool(tmp_path / "spool", 0).reel(Wish(SHAPE.size)) is None


def test_a_full_spool_says_so(tmp_path: Path, film: SourceFile) -> None:
    spool = Spool(tmp_path / "spool", 9 * 64 * 32 * 3)
    assert spool.has_room
    spool.fill(at(film, 0))
    assert not spool.has_room


def test_pictures_that_change_their_size_on_the_way_are_decoded_anew(
    tmp_path: Path, film: SourceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(*_: object, **__: object) -> object:
        return iter([(np.zeros((32, 48, 3), np.uint8), 4), (np.zeros((32, 50, 3), np.uint8), 5)])

    spool, part = Spool(tmp_path / "spool", ROOM), at(film, 0)
    monkeypatch.setattr("ltx_trainer.media.spool.decode_whole", changing)

    spool.fill(part)

    assert list((tmp_path / "spool").iterdir()) == []
    assert np.array_equal(read_pictures(part, spool=spool), read_pictures(part))


def test_a_damaged_source_leaves_nothing(tmp_path: Path, film: SourceFile) -> None:
    film.path.write_bytes(film.path.read_bytes()[:300])
    spool = Spool(tmp_path / "spool", ROOM)

    with pytest.raises(MediaError, match=r"film\.mp4"):
        spool.fill(at(film, 0))

    assert list((tmp_path / "spool").iterdir()) == []


def test_a_reel_stays_as_long_as_a_clip_of_it_is_kept(tmp_path: Path, film: SourceFile) -> None:
    # Room for one reel and its notes, however many clips it has.
    spool, one, other = Spool(tmp_path / "spool", 30 * 64 * 32 * 3 + 999), at(film, 0), at(film, 20)
    kept_of(spool, film, Wish(SHAPE.size), one, other)

    assert spool.has_room

    spool.drop(one)
    assert (spool.has(one), spool.has(other)) == (False, True)
    assert np.array_equal(read_pictures(other, spool=spool), read_pictures(other))
    spool.drop(other)
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_killed_run_has_left_is_taken_away_first(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "orphan.reel").write_bytes(b"0" * 99)

    with opened_spool(tmp_path / "spool", None):
        assert list((tmp_path / "spool").iterdir()) == []


def test_pictures_without_a_note_are_those_of_no_clip(tmp_path: Path, film: SourceFile) -> None:
    """A kill may come between the two; what lies there then is of another reel than the next note."""
    spool, part = Spool(tmp_path / "spool", ROOM), at(film, 5)
    kept_of(spool, film, Wish(SHAPE.size), part)
    (note,) = (tmp_path / "spool").glob("*.json")
    note.unlink()

    spool.fill(part)

    assert np.array_equal(read_pictures(part, spool=spool), read_pictures(part))


def test_reels_that_grow_at_once_share_the_room(tmp_path: Path) -> None:
    spool, picture = Spool(tmp_path / "spool", 80 * 300), np.zeros((10, 10, 3), np.uint8)
    with ExitStack() as stack:
        reels = [stack.enter_context(reel) for _ in range(2) if (reel := spool.reel(Wish(FrameSize(10, 10))))]
        for number in range(200):
            for reel in reels:
                reel.put(picture, number, number + 1)
        assert [reel.has_ended for reel in reels] == [True, True]


def test_a_full_disk_ends_only_a_reel_that_nobody_asked_for(
    tmp_path: Path, film: SourceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, wish = Spool(tmp_path / "spool", ROOM), Wish(SHAPE.size)

    @contextmanager
    def full(path: Path) -> Iterator[None]:
        yield
        raise OutOfResources(f"No space left for {path.name}.")

    reel = spool.reel(wish)
    assert reel is not None
    with monkeypatch.context() as patch, reel:
        patch.setattr("ltx_trainer.media.spool.disk_errors", full)
        reel.put(np.zeros((10, 10, 3), np.uint8), 0, 1)
        assert reel.has_ended
        with pytest.raises(OutOfResources, match="No space left"):
            spool.fill(at(film, 0))


def test_a_held_array_is_made_once(tmp_path: Path) -> None:
    spool, calls = Spool(tmp_path / "spool", 0), []

    def make(value: int) -> Callable[[], np.ndarray]:
        return lambda: calls.append(value) or np.full((2, 3), value, np.float32)

    spool.hold("sound", make(1))
    spool.hold("sound", make(2))

    held = spool.held("sound")
    assert held is not None
    assert (held.tolist(), calls) == ([[1, 1, 1], [1, 1, 1]], [1])
    spool.release("sound")
    assert spool.held("sound") is None


def test_nothing_is_left_of_a_spool_after_its_run(tmp_path: Path, film: SourceFile) -> None:
    def fail() -> None:
        with opened_spool(tmp_path / "run" / "spool", None) as spool:
            spool.fill(at(film, 0))
            assert spool.has(at(film, 0))
            raise OutOfResources("full")

    with pytest.raises(OutOfResources, match="full"):
        fail()

    assert list((tmp_path / "run").iterdir()) == []
