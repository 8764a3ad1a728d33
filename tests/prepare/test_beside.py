"""References, masks, start images and keyframes: cut to the times of their target."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_trainer.artifacts import KEYFRAMES, Clip, Clips, Example, Footage, MediaKind, Role
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import read_mask, read_pictures
from tests.prepare.conftest import read_numbers, times_of

Prepare = Callable[..., Clips]
Make = Callable[..., Path]
AsExample = Callable[..., Example]


def only(clips: Clips) -> Clip:
    (clip,) = clips.clips
    return clip


def numbers_of(footage: Footage) -> list[int]:
    return read_numbers(read_pictures(footage))


@pytest.mark.parametrize("auto_scale", [False, True])
def test_a_pair_of_other_rates_and_sizes_lands_on_equal_times(
    prepare: Prepare, make_numbered: Make, as_example: AsExample, *, auto_scale: bool
) -> None:
    pair = as_example(make_numbered("end", 48), reference=make_numbered("start", 96, rate=48, side=96))
    footage = only(prepare(pair, mode="v2v", auto_scale_input=auto_scale, side=64)).footage

    assert times_of(footage[Role.REFERENCE]) == times_of(footage[Role.TARGET])
    # Of all 48 frames, those in the middle of each ninth.
    expected = [(2 * index + 1) * 48 // 18 for index in range(9)] if auto_scale else list(range(9))
    assert numbers_of(footage[Role.TARGET]) == expected
    # The middle of frame k at 24 fps is where frame 2 k + 1 begins at 48 fps.
    assert [number // 2 for number in numbers_of(footage[Role.REFERENCE])] == numbers_of(footage[Role.TARGET])


def test_scenes_are_taken_from_the_target_and_its_reference_is_cut_at_the_same_times(
    prepare: Prepare, make_video: Make, make_numbered: Make, as_example: AsExample
) -> None:
    pair = as_example(make_video("end", 24, 24), reference=make_numbered("start", 150, rate=60))
    clips = prepare(pair, mode="v2v", split_input_duration_threshold=1)
    first, second = (clip.footage[Role.REFERENCE] for clip in clips.clips)
    assert (first.start_seconds, second.start_seconds) == (0, 1)
    assert numbers_of(second)[0] == 60 + 60 // 48


def test_a_scene_that_its_reference_does_not_reach_is_left_out_with_both_lengths(
    prepare: Prepare, make_video: Make, make_numbered: Make, as_example: AsExample
) -> None:
    pair = as_example(make_video("end", 24, 24), reference=make_numbered("start", 30))
    clips = prepare(pair, mode="v2v", split_input_duration_threshold=1)
    assert [clip.name for clip in clips.clips] == ["end#scene-001"]
    (left_out,) = clips.left_out
    assert left_out.name == "end#scene-002"
    assert left_out.reason == "needs 9 frames in 0.375 s from 1 s on, and its reference start.mp4, of 1.25 s, has 6"


@pytest.mark.parametrize("step", [2, 3, 4, 6])
def test_a_slower_reference_has_frames_0_s_2s_of_its_target(
    prepare: Prepare, make_numbered: Make, as_example: AsExample, step: int
) -> None:
    path = make_numbered("a", 97)
    factors = {"reference_temporal_scale_factor": step, "reference_downscale_factor": 2}
    clips = prepare(as_example(path, reference=path), mode="v2v", num_frames=97, side=64, **factors)
    footage = only(clips).footage
    reference = footage[Role.REFERENCE]

    assert numbers_of(reference) == list(range(0, 97, step))
    assert times_of(reference) == times_of(footage[Role.TARGET])[::step]
    assert reference.shape.size == FrameSize(32, 32)
    assert reference.shape.frame_rate == Fraction(24, step)


@pytest.mark.parametrize("auto_scale", [False, True])
@pytest.mark.parametrize("middle", [False, True])
def test_keyframes_are_the_targets_own_frames_bit_for_bit(
    prepare: Prepare, make_numbered: Make, *, auto_scale: bool, middle: bool
) -> None:
    fields = {"auto_scale_input": auto_scale, "include_middle_keyframe": middle}
    footage = only(prepare(make_numbered("a", 40), mode="interpolate", num_frames=17, **fields)).footage
    pixels = read_pictures(footage[Role.TARGET])
    expected = {Role.FIRST_KEYFRAME: 0, Role.MIDDLE_KEYFRAME: 8, Role.LAST_KEYFRAME: 16}
    if not middle:
        del expected[Role.MIDDLE_KEYFRAME]
    assert [role for role in KEYFRAMES if role in footage] == list(expected)
    for role, frame in expected.items():
        np.testing.assert_array_equal(read_pictures(footage[role]), pixels[frame : frame + 1])
        assert times_of(footage[role]) == [times_of(footage[Role.TARGET])[frame]]


def test_a_short_mask_holds_its_last_frame_and_a_long_one_is_trimmed(
    prepare: Prepare, make_numbered: Make, as_example: AsExample
) -> None:
    short = as_example(make_numbered("a", 9), mask=make_numbered("a_mask", 4))
    long = as_example(make_numbered("b", 9), mask=make_numbered("b_mask", 30))
    held, trimmed = (clip.footage[Role.MASK] for clip in prepare(short, long, mode="inpaint", side=64).clips)
    assert numbers_of(held) == [0, 1, 2, 3, 3, 3, 3, 3, 3]
    assert numbers_of(trimmed) == list(range(9))


def test_a_mask_takes_the_crop_and_the_shape_of_its_clip(
    prepare: Prepare, make_numbered: Make, as_example: AsExample, tmp_path: Path
) -> None:
    Image.fromarray(np.full((20, 70, 3), 255, np.uint8)).save(tmp_path / "m.png")
    footage = only(prepare(as_example(make_numbered("a", 9, side=48), mask=tmp_path / "m.png"), mode="inpaint")).footage
    mask = footage[Role.MASK]
    assert mask.canvas == FrameSize(48, 48)
    assert mask.shape == footage[Role.TARGET].shape
    assert read_mask(mask).all()
    assert read_mask(mask).shape == (9, 32, 32)


def test_a_start_is_one_picture_an_image_or_the_first_frame_of_a_video(
    prepare: Prepare, make_numbered: Make, make_image: Make, make_sound: Make, as_example: AsExample
) -> None:
    sound = make_sound("x", 1)
    video = as_example(make_numbered("a", 9), start=make_numbered("a_start", 5, rate=60), sound=sound)
    image = as_example(make_numbered("b", 9), start=make_image("b_start"), sound=sound)
    first, second = (clip.footage[Role.START] for clip in prepare(video, image, mode="a2v").clips)
    assert numbers_of(first) == [0]
    assert first.shape.num_frames == second.shape.num_frames == 1
    assert second.source.kind is MediaKind.IMAGE
    assert read_pictures(second).shape == (1, 32, 32, 3)


def test_the_scenes_of_a_video_have_their_own_start_and_an_image_is_that_of_the_first(
    prepare: Prepare, make_video: Make, make_numbered: Make, make_image: Make, make_sound: Make, as_example: AsExample
) -> None:
    sound = make_sound("x", 2)
    video = as_example(make_video("a", 24, 24), start=make_numbered("a_start", 48), sound=sound)
    image = as_example(make_video("b", 24, 24), start=make_image("b_start"), sound=sound)
    fields = {"split_input_into_scenes": True, "split_input_duration_threshold": 1}
    clips = prepare(video, image, mode="a2v", **fields)
    starts = {clip.name: clip.footage[Role.START] for clip in clips.clips}
    assert list(starts) == ["a#scene-001", "a#scene-002", "b#scene-001"]
    assert [numbers_of(starts[name]) for name in list(starts)[:2]] == [[0], [24]]
    (left_out,) = clips.left_out
    assert left_out.name == "b#scene-002"
    assert left_out.reason == "begins 1 s into its video, and its start b_start.png is an image"


def test_a_reference_may_lack_less_than_half_a_frame(
    prepare: Prepare, make_numbered: Make, as_example: AsExample
) -> None:
    # 17 frames at 48 fps are 8.5 at 24 fps, 18 are 9.
    short = as_example(make_numbered("short", 9), reference=make_numbered("r17", 17, rate=48))
    just = as_example(make_numbered("just", 9), reference=make_numbered("r18", 18, rate=48))
    clips = prepare(short, just, mode="v2v")
    assert [clip.name for clip in clips.clips] == ["just"]
    (left_out,) = clips.left_out
    assert left_out.name == "short"
    assert left_out.reason == "needs 9 frames in 0.375 s from 0 s on, and its reference r17.mp4, of 0.354 s, has 8"


def test_a_reference_of_another_aspect_leaves_its_example_out_with_both_sizes(
    prepare: Prepare, make_film: Make, as_example: AsExample
) -> None:
    # At 32x32 the targets lose 8 columns on each side; the references 9, 9.3, and 16 rows.
    alike = as_example(make_film("alike", 96, 64), reference=make_film("r", 50, 32))
    wider = as_example(make_film("wider", 96, 64), reference=make_film("w", 76, 48))
    upright = as_example(make_film("upright", 96, 64), reference=make_film("u", 32, 64))
    clips = prepare(alike, wider, upright, mode="v2v")
    assert [clip.name for clip in clips.clips] == ["alike"]
    rule = "they would lose other edges, and not show the same places. Give both one aspect ratio"
    assert [(item.name, item.reason) for item in clips.left_out] == [
        ("upright", f"is 96x64 and its reference u.mp4 32x64: at 32x32 {rule}"),
        ("wider", f"is 96x64 and its reference w.mp4 76x48: at 32x32 {rule}"),
    ]


def test_a_start_of_another_aspect_leaves_its_example_out_whether_video_or_image(
    prepare: Prepare, make_film: Make, make_image: Make, make_sound: Make, as_example: AsExample
) -> None:
    sound = make_sound("sound", 1)
    alike = as_example(make_film("alike", 96, 64), start=make_image("i", 48, 32), sound=sound)
    image = as_example(make_film("image", 96, 64), start=make_image("u", 32, 64), sound=sound)
    video = as_example(make_film("video", 96, 64), start=make_film("w", 76, 48), sound=sound)
    clips = prepare(alike, image, video, mode="a2v")
    assert [clip.name for clip in clips.clips] == ["alike"]
    reasons = {item.name: item.reason.partition(":")[0] for item in clips.left_out}
    assert reasons == {"image": "is 96x64 and its start u.png 32x64", "video": "is 96x64 and its start w.mp4 76x48"}


@pytest.mark.parametrize(("frames", "is_taken"), [(23, True), (20, False)])
def test_a_pair_that_is_scaled_in_time_ends_with_the_shorter_unless_much_would_be_lost(
    prepare: Prepare, make_numbered: Make, as_example: AsExample, frames: int, is_taken: bool
) -> None:
    pair = as_example(make_numbered("end", 24), reference=make_numbered("start", frames))
    whole = as_example(make_numbered("whole", 24), reference=make_numbered("other", 24))
    clips = prepare(pair, whole, mode="v2v", auto_scale_input=True)
    spans = {clip.name: clip.footage[Role.TARGET].span_seconds for clip in clips.clips}
    assert spans == {"whole": 1} | ({"end": Fraction(23, 24)} if is_taken else {})
    assert [item.name for item in clips.left_out] == ([] if is_taken else ["end"])


@pytest.mark.parametrize(("mode", "role"), [("v2v", "reference"), ("inpaint", "mask"), ("a2v", "start")])
def test_a_file_of_any_role_that_cannot_be_read_leaves_its_example_out_by_the_files_name(
    prepare: Prepare, make_numbered: Make, make_sound: Make, as_example: AsExample, mode: str, role: str
) -> None:
    bad = make_numbered("bad", 9)
    bad.write_bytes(b"this is text")
    others = {"sound": make_sound("x", 1)} if mode == "a2v" else {}
    good = as_example(make_numbered("good", 9), **{role: make_numbered("fine", 9)}, **others)
    clips = prepare(as_example(make_numbered("a", 9), **{role: bad}, **others), good, mode=mode)
    assert [clip.name for clip in clips.clips] == ["good"]
    (left_out,) = clips.left_out
    assert left_out.name == "a"
    assert "bad.mp4" in left_out.reason
