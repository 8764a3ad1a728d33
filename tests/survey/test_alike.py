"""Pictures that show nearly the same are found, others are not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ltx_trainer.artifacts import Preview, Role
from ltx_trainer.survey import Fingerprint, Glance, Glimpse, LookAlikes, SurveyedClip, groups_of
from ltx_trainer.survey.alike import ALIKE_BITS, bits_apart, find_look_alikes, find_overlaps, look_alike
from ltx_trainer.survey.pictures import fingerprint

Make = Callable[..., SurveyedClip]
Draw = Callable[..., np.ndarray]


def seen(frames: Sequence[np.ndarray]) -> Glance:
    return Glance((), tuple(map(fingerprint, frames)), None, None, 0.0)


def drifting(draw: Draw, seed: int, count: int = 9) -> list[np.ndarray]:
    """Let one picture drift over another."""
    return [
        (draw(seed).astype(int) * (count - index) // count + np.roll(draw(seed + 1), index, axis=1) * index // count)
        .clip(0, 255)
        .astype(np.uint8)
        for index in range(count)
    ]


def smaller(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((frame.shape[1] // 2, frame.shape[0] // 2)))


def compressed(frame: np.ndarray) -> np.ndarray:
    content = BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=15)
    return np.asarray(Image.open(content))


def brighter(frame: np.ndarray) -> np.ndarray:
    return (frame.astype(int) + 12).clip(0, 255).astype(np.uint8)


def mirrored(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[:, ::-1])


def with_a_thing(frame: np.ndarray) -> np.ndarray:
    changed = frame.copy()
    changed[32:64, 60:92] = (255, 120, 0)
    return changed


@pytest.mark.parametrize("change", [smaller, compressed, brighter])
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_a_copy_looks_alike(draw: Draw, change: Callable[[np.ndarray], np.ndarray], seed: int) -> None:
    frames = drifting(draw, seed)

    assert look_alike(seen(frames), seen([change(frame) for frame in frames])) is not None


@pytest.mark.parametrize("change", [mirrored, with_a_thing])
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_something_else_does_not(draw: Draw, change: Callable[[np.ndarray], np.ndarray], seed: int) -> None:
    frames = drifting(draw, seed)

    assert look_alike(seen(frames), seen([change(frame) for frame in frames])) is None
    assert look_alike(seen(frames), seen(drifting(draw, seed + 5))) is None


def test_the_same_scene_in_another_colour_is_something_else() -> None:
    grey = np.full((96, 160, 3), 128, np.uint8)
    red, green = grey.copy(), grey.copy()
    red[30:60, 50:90] = (220, 60, 60)
    green[30:60, 50:90] = (31, 158, 60)

    assert bits_apart(seen([red]), seen([green])) <= ALIKE_BITS
    assert look_alike(seen([red]), seen([green])) is None


def test_a_copy_may_begin_a_little_later_but_not_run_backwards(draw: Draw) -> None:
    frames = drifting(draw, 0, count=40)
    scenes = [draw(0)] * 4 + [draw(1)] * 5

    assert look_alike(seen(frames[:36:4]), seen(frames[4::4])) is not None
    assert bits_apart(seen(scenes), seen(scenes[::-1])) > ALIKE_BITS


def test_a_frame_is_held_against_its_neighbours_and_no_others() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 11, dtype=np.uint64)
    spans = [
        Glance((), tuple(Fingerprint(int(bits), bytes(108)) for bits in values[begin : begin + 9]), None, None, 0.0)
        for begin in range(3)
    ]

    assert bits_apart(spans[0], spans[1]) == bits_apart(spans[1], spans[0]) < ALIKE_BITS
    assert bits_apart(spans[0], spans[2]) > 2 * ALIKE_BITS


def test_a_frame_of_another_colour_is_weighed_with_the_others() -> None:
    frame, other = Fingerprint(0, bytes(108)), Fingerprint(0, bytes([255] * 3) + bytes(105))
    one, two = (Glance((), (other,) * count + (frame,) * (9 - count), None, None, 0.0) for count in (1, 2))
    plain = Glance((), (frame,) * 9, None, None, 0.0)

    assert look_alike(plain, one) == 0
    assert look_alike(plain, two) is None


def test_a_still_looks_like_the_video_that_it_is_a_frame_of(draw: Draw) -> None:
    frames = drifting(draw, 0)

    assert look_alike(seen([smaller(frames[5])]), seen(frames)) is not None
    assert look_alike(seen([draw(30)]), seen(frames)) is None


@pytest.mark.parametrize(("bits", "found"), [(ALIKE_BITS, True), (ALIKE_BITS + 1, False)])
def test_look_alikes_differ_by_as_many_bits_as_are_allowed(surveyed: Make, bits: int, found: bool) -> None:
    one, other = (Fingerprint(value, bytes(108)) for value in (0, 2**bits - 1))

    pairs = find_look_alikes([surveyed("a", prints=[one]), surveyed("b", prints=[other])])

    assert pairs == ((LookAlikes(("a", "b"), float(bits), same_bytes=False),) if found else ())


@pytest.mark.parametrize(("levels", "found"), [(32, True), (33, False)])
def test_look_alikes_differ_in_one_part_by_as_many_levels_as_are_allowed(
    surveyed: Make, levels: int, found: bool
) -> None:
    one, other = Fingerprint(0, bytes(108)), Fingerprint(0, bytes([levels] * 3) + bytes(105))

    assert bool(find_look_alikes([surveyed("a", prints=[one]), surveyed("b", prints=[other])])) == found


def test_a_copy_in_another_light_looks_alike() -> None:
    dark, light = (Glance((), (Fingerprint(0, bytes([level] * 108)),), None, None, 0.0) for level in (40, 120))

    assert look_alike(dark, light) == 0


def test_clips_of_one_file_are_not_compared(surveyed: Make) -> None:
    same = [Fingerprint(1, bytes(108))]
    scenes = [surveyed(f"x#scene-{number:03d}", file="x.mp4", begin=number, prints=same) for number in range(3)]

    assert find_look_alikes(scenes) == ()


def test_two_files_of_equal_bytes_are_found_without_a_look(surveyed: Make) -> None:
    one, other, later = (
        replace(surveyed(name, digest="same", begin=begin), glimpse=Glimpse())
        for name, begin in (("a", 0), ("b", 0), ("c", 1))
    )

    assert find_look_alikes([one, other, later]) == (LookAlikes(("a", "b"), 0.0, same_bytes=True),)


def test_pairs_that_share_a_clip_are_one_group() -> None:
    pairs = [LookAlikes(names, 0.0, same_bytes=False) for names in (("a", "b"), ("x", "y"), ("c", "d"), ("b", "c"))]

    assert groups_of(pairs) == (("a", "b", "c", "d"), ("x", "y"))


def preview_of(clip: SurveyedClip, role: Role = Role.START) -> Preview:
    assert clip.footage is not None
    return Preview("a prompt", clip.clip.shape, Fraction(4), {role: clip.footage}, {})


def test_a_validation_input_that_is_trained_on_is_found_by_its_bytes(surveyed: Make) -> None:
    clips = [surveyed("a", digest="same"), surveyed("b")]
    asked = preview_of(surveyed("input", digest="same"))

    (overlap,) = find_overlaps(clips, [asked], [Glimpse()])

    assert (overlap.item, overlap.file, overlap.clips, overlap.same_bytes) == (0, "input.mp4", ("a",), True)
    assert find_overlaps([replace(clip, held_out=True) for clip in clips], [asked], [Glimpse()]) == ()


def test_a_validation_input_that_is_trained_on_is_found_by_its_looks(surveyed: Make) -> None:
    frames = [Fingerprint(7, bytes(108))]
    clips = [surveyed("a", prints=frames), surveyed("b", prints=[Fingerprint(2**64 - 1, bytes(108))])]
    copy, other = surveyed("copy"), surveyed("other")
    glimpses = [
        Glimpse({Role.START: Glance((), (Fingerprint(bits, bytes(108)),), None, None, 0.0)}) for bits in (7, 2**32 - 1)
    ]

    (overlap,) = find_overlaps(clips, [preview_of(copy), preview_of(other)], glimpses)

    assert (overlap.item, overlap.clips, overlap.same_bytes) == (0, ("a",), False)


def test_a_mask_that_is_used_again_is_no_overlap(surveyed: Make) -> None:
    clip = surveyed("a", digest="same")
    assert clip.footage is not None
    masked = replace(
        clip, clip=replace(clip.clip, footage={Role.TARGET: surveyed("b").footage, Role.MASK: clip.footage})
    )

    assert find_overlaps([masked], [preview_of(clip, Role.MASK)], [Glimpse()]) == ()
