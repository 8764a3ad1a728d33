"""Which frames of a source become a clip, and what is left out."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.artifacts import Clips, Example, Footage, LeftOut, PieceCaption, Role
from ltx_trainer.config import DataSection
from ltx_trainer.errors import DatasetError
from ltx_trainer.geometry import ClipShape, FrameSize, midpoint_times
from ltx_trainer.media import decode_frames
from tests.media.conftest import Pictures, Studio
from tests.prepare.conftest import read_numbers

Prepare = Callable[..., Clips]
Make = Callable[..., Path]
AsExample = Callable[..., Example]

SPREAD = DataSection(windows="spread")
SHAPE = ClipShape(9, FrameSize(32, 32), Fraction(24))


def footage_of(clips: Clips) -> dict[str, Footage]:
    return {clip.name: clip.footage[Role.TARGET] for clip in clips.clips}


def pixels_of(footage: Footage) -> np.ndarray:
    times = midpoint_times(footage.start_seconds, footage.span_seconds, footage.shape.num_frames)
    return decode_frames(footage.source.path, times, footage.shape.size)


def test_the_first_frames_of_a_longer_video_are_taken(prepare: Prepare, make_video: Make) -> None:
    footage = footage_of(prepare(make_video("a", 20)))["a"]
    assert (footage.start_seconds, footage.span_seconds, footage.shape) == (0, Fraction(9, 24), SHAPE)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(24000, 1001), Fraction(30000, 1001)])
def test_exactly_enough_frames_at_the_same_rate_are_enough(prepare: Prepare, make_video: Make, rate: Fraction) -> None:
    footage = footage_of(prepare(make_video("a", 9, rate=rate), frame_rate=rate))["a"]
    assert footage.span_seconds == 9 / rate


def test_one_frame_too_few_is_left_out_with_the_numbers_and_what_would_keep_it(
    prepare: Prepare, make_video: Make
) -> None:
    clips = prepare(make_video("long", 17), make_video("short", 16), num_frames=17)
    assert list(footage_of(clips)) == ["long"]
    reason = "has 16 frames at 24 fps, 17 are needed; number_of_frames 9 or auto_scale_input would keep it"
    assert clips.left_out == (LeftOut("short", reason),)


def test_frames_are_counted_at_the_rate_of_the_run_not_of_the_file(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 20), make_video("b", 20, rate=Fraction(60)))
    assert list(footage_of(clips)) == ["a"]
    (left_out,) = clips.left_out
    assert left_out == LeftOut("b", "has 8 frames at 24 fps, 9 are needed; auto_scale_input would keep it")


def test_auto_scale_stretches_and_squeezes_the_whole_span_to_the_frame_count(
    prepare: Prepare, make_video: Make
) -> None:
    found = footage_of(prepare(make_video("long", 48), make_video("short", 3), auto_scale_input=True))
    assert {name: item.span_seconds for name, item in found.items()} == {"long": 2, "short": Fraction(3, 24)}
    assert {item.shape for item in found.values()} == {SHAPE}


def test_auto_scale_leaves_out_a_single_frame(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("still", 1), make_video("two", 2), auto_scale_input=True)
    assert list(footage_of(clips)) == ["two"]
    assert clips.left_out == (LeftOut("still", "has 1 frame of its own, 2 are needed to scale it in time"),)


def test_a_long_video_is_split_at_its_cuts_and_no_scene_shows_another(prepare: Prepare, make_video: Make) -> None:
    path = make_video("a", 24, 30, 24)
    found = footage_of(prepare(path, split_input_duration_threshold=1))
    assert {name: item.start_seconds for name, item in found.items()} == {
        "a#scene-001": 0,
        "a#scene-002": 1,
        "a#scene-003": Fraction(54, 24),
    }
    for item in found.values():
        pixels = pixels_of(item).astype(int)
        assert np.abs(pixels - pixels[0]).max() < 16


def test_the_caption_of_a_split_video_applies_to_every_scene(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 24, 24), split_input_duration_threshold=1)
    assert [clip.caption for clip in clips.clips] == ["a caption", "a caption"]


def test_a_scene_has_its_own_caption_and_the_video_s_where_it_has_none(
    prepare: Prepare, make_video: Make, as_example: AsExample
) -> None:
    said = {"#scene-002": "two", "#scene-003": "three", "#scene-003#window-002": "its end", "#scene-001": None}
    example = replace(
        as_example(make_video("a", 24, 24, 24)),
        pieces={piece: PieceCaption(text, "a table") for piece, text in said.items()},
    )
    clips = prepare(example, split_input_duration_threshold=1, data=SPREAD, trigger_phrase="TOK")

    assert {clip.name: clip.caption for clip in clips.clips} == {
        "a#scene-001#window-001": "TOK a caption",
        "a#scene-001#window-002": "TOK a caption",
        "a#scene-002#window-001": "TOK two",
        "a#scene-002#window-002": "TOK two",
        "a#scene-003#window-001": "TOK three",
        "a#scene-003#window-002": "TOK its end",
    }
    assert clips.left_out == ()


def test_a_caption_of_a_scene_that_there_is_not_is_told_as_an_incomplete_example(
    prepare: Prepare, make_video: Make, as_example: AsExample
) -> None:
    pieces = {piece: PieceCaption("words", f"'a{piece}.txt'") for piece in ("#scene-002", "#scene-003", "#window-001")}
    example = replace(as_example(make_video("a", 40, 20)), pieces=pieces)
    short, *missing = prepare(example, num_frames=25, split_input_duration_threshold=1).left_out

    assert (short.name, short.is_incomplete) == ("a#scene-002", False)
    assert missing == [
        LeftOut(
            f"a{piece}",
            f"has a caption ('a{piece}.txt') and is no clip: a.mp4 gives a#scene-001, a#scene-002",
            is_incomplete=True,
        )
        for piece in ("#scene-003", "#window-001")
    ]


@pytest.mark.parametrize("scaled", [False, True])
def test_every_scene_of_ltx_video_has_the_caption_of_its_video_after_the_trigger_phrase(
    prepare: Prepare, make_video: Make, scaled: bool
) -> None:
    clips = prepare(
        *(make_video("a", 24, 24, 30), make_video("b", 12)),
        mode="ltx-video-trainer",
        audio_rate_hz=None,
        split_input_duration_threshold=1,
        trigger_phrase="TOK",
        auto_scale_input=scaled,
    )

    assert [clip.name for clip in clips.clips] == ["a#scene-001", "a#scene-002", "a#scene-003", "b"]
    assert {clip.caption for clip in clips.clips} == {"TOK a caption"}


def test_a_scene_that_is_too_short_is_left_out_alone(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 40, 20), num_frames=25, split_input_duration_threshold=1)
    assert list(footage_of(clips)) == ["a#scene-001"]
    (left_out,) = clips.left_out
    assert (left_out.name, left_out.reason[:38]) == ("a#scene-002", "has 20 frames at 24 fps, 25 are needed")


def test_scenes_are_scaled_each_by_itself(prepare: Prepare, make_video: Make) -> None:
    found = footage_of(prepare(make_video("a", 24, 30), split_input_duration_threshold=1, auto_scale_input=True))
    assert [item.span_seconds for item in found.values()] == [1, Fraction(30, 24)]


def test_the_cuts_of_a_video_that_is_not_split_are_known_where_videos_are(prepare: Prepare, make_video: Make) -> None:
    path = make_video("a", 24, 24)
    looked, unlooked = (prepare(path, split_input_into_scenes=flag) for flag in (True, False))
    found = [
        source.pictures.cuts for clips in (looked, unlooked) for source in clips.sources.values() if source.pictures
    ]

    assert found == [((1, 1),), ()]


@pytest.mark.parametrize("fields", [{"split_input_into_scenes": False}, {"split_input_duration_threshold": 2}])
def test_a_video_is_one_clip_if_splitting_is_off_or_it_is_not_longer_than_the_threshold(
    prepare: Prepare, make_video: Make, fields: dict[str, object]
) -> None:
    path = make_video("a", 24, 24)
    assert list(footage_of(prepare(path, **{"split_input_duration_threshold": 1, **fields}))) == ["a"]


def test_a_long_video_without_cuts_keeps_its_name(prepare: Prepare, make_video: Make) -> None:
    assert list(footage_of(prepare(make_video("a", 48), split_input_duration_threshold=1))) == ["a"]


def test_an_image_is_one_frame_at_the_rate_of_the_run(prepare: Prepare, make_image: Make) -> None:
    footage = footage_of(prepare(make_image("a")))["a"]
    assert footage.shape == ClipShape(1, FrameSize(32, 32), Fraction(24))
    assert (footage.start_seconds, footage.span_seconds) == (0, 0)


def test_clips_are_in_the_order_of_their_names(prepare: Prepare, make_video: Make) -> None:
    paths = [make_video(name, 9) for name in ("b", "c", "a", "B")]
    assert list(footage_of(prepare(*paths))) == ["B", "a", "b", "c"]


@pytest.mark.parametrize("content", [b"", b"this is text"])
def test_a_file_that_cannot_be_read_is_left_out_and_the_others_stay(
    prepare: Prepare, make_video: Make, content: bytes
) -> None:
    good, bad = make_video("good", 9), make_video("bad", 9)
    bad.write_bytes(content)
    clips = prepare(bad, good)
    assert list(footage_of(clips)) == ["good"]
    (left_out,) = clips.left_out
    assert left_out.name == "bad"
    assert "bad.mp4" in left_out.reason


def test_an_image_that_cannot_be_read_is_left_out(prepare: Prepare, make_image: Make) -> None:
    good, bad = make_image("good"), make_image("bad")
    bad.write_bytes(b"this is text")
    clips = prepare(bad, good)
    assert list(footage_of(clips)) == ["good"]
    assert [item.name for item in clips.left_out] == ["bad"]


def test_a_run_without_a_clip_is_refused_with_a_reason_for_each(prepare: Prepare, make_video: Make) -> None:
    paths = [make_video("a", 4), make_video("b", 5)]
    with pytest.raises(DatasetError, match=r"No clip is left to train t2v on; all 2 .*:\n  a: has 4 .*\n  b: has 5 "):
        prepare(*paths)


def test_a_long_list_of_reasons_ends_in_a_count(prepare: Prepare, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02d}.mp4" for number in range(23)]
    for path in paths:
        path.write_bytes(path.name.encode())
    with pytest.raises(DatasetError, match=r"all 23 were left out:(\n  \d\d: .*){20}\n  \.\.\. and 3 more\Z"):
        prepare(*paths)


def test_a_file_that_is_named_like_a_scene_of_another_is_refused(prepare: Prepare, make_video: Make) -> None:
    paths = make_video("a", 24, 24), make_video("a#scene-002", 9)
    with pytest.raises(DatasetError, match="2 clips are named 'a#scene-002'"):
        prepare(*paths, split_input_duration_threshold=1)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """Draw 5 scenes of a moving pattern in one colour each; a cut, a dissolve, a fade and a blended cut join them."""
    generator = np.random.default_rng(0)
    scenes = []
    for colour in (0, 1, 2, 0, 1):
        coarse = generator.integers(40, 220, (4, 4))
        pattern = np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1)
        pixels = np.zeros((48, 64, 64, 3))
        for index in range(48):
            pixels[index, :, :, colour] = np.roll(pattern, -index // 2, axis=1)
        scenes.append(pixels)
    twelfths, thirteenths = (np.arange(1, 13) / size for size in (12, 13))
    down = scenes[2][-12:] * (1 - twelfths)[:, None, None, None]
    up = scenes[3][:12] * twelfths[:, None, None, None]
    mix = scenes[1][-12:] * (1 - thirteenths)[:, None, None, None] + scenes[2][:12] * thirteenths[:, None, None, None]
    blend = (scenes[3][-1:] + scenes[4][:1]) / 2
    joined = (scenes[0], scenes[1][:-12], mix, scenes[2][12:-12], down, up, scenes[3][12:-1], blend, scenes[4][1:])
    return np.rint(np.concatenate(joined)).astype(np.uint8)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30), None], ids=["23.976", "30", "variable"])
def test_no_window_shows_a_frame_of_another_scene_or_of_the_way_to_it(
    prepare: Prepare, as_example: AsExample, tmp_path: Path, film: np.ndarray, rate: Fraction | None
) -> None:
    if rate is None:
        steps = np.random.default_rng(1).integers(25, 60, len(film))
        ticks = [0, *(int(tick) for tick in np.cumsum(steps)[:-1])]
        pictures = Pictures(film, rate=Fraction(25), ticks=ticks, time_base=Fraction(1, 1000))
    else:
        pictures = Pictures(film, rate=rate)
    example = as_example(Studio(tmp_path).write("a.mkv", pictures))

    found = footage_of(prepare(example, split_input_duration_threshold=1, data=SPREAD))

    middles = (24, 66, 108, 160, 204)
    scenes = {f"a#scene-{number:03d}": film[at].mean(axis=(0, 1)) for number, at in enumerate(middles, start=1)}
    assert {name.partition("#window")[0] for name in found} == set(scenes)
    for name, footage in found.items():
        # The frames of the dissolve and of the fade differ by 8 at least, and the blended one by 50.
        expected = scenes[name.partition("#window")[0]]
        assert np.abs(pixels_of(footage).mean(axis=(1, 2)) - expected).max() < 4, name


def test_windows_are_spread_over_a_video_without_overlap(prepare: Prepare, make_numbered: Make) -> None:
    found = footage_of(prepare(make_numbered("a", 31), data=SPREAD))
    numbers = {name: read_numbers(pixels_of(footage)) for name, footage in found.items()}
    assert numbers == {
        "a#window-001": list(range(9)),
        "a#window-002": list(range(11, 20)),
        "a#window-003": list(range(22, 31)),
    }
    assert {footage.shape for footage in found.values()} == {SHAPE}


def test_windows_take_whole_frames_of_a_source_of_the_same_rate(prepare: Prepare, make_numbered: Make) -> None:
    rate = Fraction(24000, 1001)
    found = footage_of(prepare(make_numbered("a", 40, rate=rate), frame_rate=rate, data=SPREAD))
    numbers = [number for footage in found.values() for number in read_numbers(pixels_of(footage))]
    assert numbers == [*range(9), *range(10, 19), *range(20, 29), *range(31, 40)]


def test_where_one_window_fits_it_is_the_first_of_its_own_name(prepare: Prepare, make_video: Make) -> None:
    path = make_video("a", 17)
    assert prepare(path, data=SPREAD) == prepare(path)


def test_windows_are_spread_over_each_scene(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 20, 30), split_input_duration_threshold=1, data=SPREAD)
    assert {name: item.start_seconds * 24 for name, item in footage_of(clips).items()} == {
        "a#scene-001#window-001": 0,
        "a#scene-001#window-002": 11,
        "a#scene-002#window-001": 20,
        "a#scene-002#window-002": 30,
        "a#scene-002#window-003": 41,
    }


def test_a_pair_has_the_same_windows(prepare: Prepare, make_numbered: Make, as_example: AsExample) -> None:
    pair = as_example(make_numbered("end", 30), reference=make_numbered("start", 25, rate=Fraction(24)))
    clips = prepare(pair, mode="v2v", data=SPREAD)
    for clip in clips.clips:
        target, reference = (read_numbers(pixels_of(clip.footage[role])) for role in (Role.TARGET, Role.REFERENCE))
        assert target == reference
    assert [clip.name for clip in clips.clips] == ["end#window-001", "end#window-002"]
    (left_out,) = clips.left_out
    assert left_out.name == "end#window-003"
    assert "its reference start.mp4" in left_out.reason


def test_a_video_that_is_cut_faster_than_scenes_last_is_left_out(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", *[8] * 6), make_video("b", 30), split_input_duration_threshold=1)
    reason = "has no 0.6 s between its cuts and fades; split_input_into_scenes: false would take it as it is"
    assert clips.left_out == (LeftOut("a", reason),)
