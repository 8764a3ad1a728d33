"""What is kept of an input, pixel by pixel and sample by sample, and how what was given is laid out."""

from fractions import Fraction

import pytest
import torch

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import Terms
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from ltx_trainer.validate.shown import GREY, composed_pictures, composed_sound, given_pictures, kept_samples

FACTORS = ScaleFactors(4, 2, 3)
SHAPE = ClipShape(9, FrameSize(6, 4), Fraction(24))


def pixels(num_frames: int = 9, height: int = 4, width: int = 6, *, first: int = 0) -> torch.Tensor:
    """Give frames of one level each: `first`, `first` + 1 and so on."""
    levels = torch.arange(first, first + num_frames, dtype=torch.uint8)
    return levels[:, None, None, None].expand(num_frames, height, width, 3)


def test_kept_pixels_are_the_inputs_own_and_the_others_as_they_were_made() -> None:
    kept = torch.zeros(9, 4, 6, dtype=torch.bool)
    kept[2, 1] = True
    made, own = pixels(), pixels(first=100)

    shown = composed_pictures(made, own, kept)

    assert torch.equal(shown[kept], own[kept])
    assert torch.equal(shown[~kept], made[~kept])


def test_samples_belong_to_the_token_of_their_time_and_what_comes_after_the_last_goes_with_it() -> None:
    coordinates = torch.tensor([[[0.0, 0.01], [0.01, 0.05], [0.05, 0.09]]])

    first = kept_samples(torch.tensor([True, False, False]), coordinates, 100, 1000)
    last = kept_samples(torch.tensor([False, False, True]), coordinates, 100, 1000)

    assert first.nonzero().flatten().tolist() == list(range(10))
    assert last.nonzero().flatten().tolist() == list(range(50, 100))


def test_sound_is_the_inputs_own_where_kept_and_fades_outside_of_it_alone() -> None:
    kept = torch.zeros(3000, dtype=torch.bool)
    kept[1000:2000] = True
    made, own = torch.zeros(2, 3000), torch.ones(2, 3000)

    shown = composed_sound(made, own, kept, 48000)

    assert torch.equal(shown[:, kept], own[:, kept])
    assert not shown[:, :500].any()
    assert not shown[:, 2500:].any()
    assert torch.diff(shown).abs().max() < 0.01
    assert torch.equal(composed_sound(made, own, torch.ones_like(kept), 48000), own)
    assert torch.equal(composed_sound(made, own, torch.zeros_like(kept), 48000), made)


def test_what_is_given_of_a_clip_is_grey_elsewhere_and_stands_right_of_its_reference() -> None:
    terms = Terms(SHAPE, SHAPE.duration_seconds, reference_space=2, reference_time=4)
    kept = torch.zeros(9, 4, 6, dtype=torch.bool)
    kept[:5] = True
    given = {Role.TARGET: pixels(first=50), Role.REFERENCE: pixels(3, 2, 3, first=10)}

    shown = given_pictures(terms, given, kept)

    assert shown is not None
    assert shown.shape == (9, 4, 12, 3)
    assert shown[:, 0, 0, 0].tolist() == [10] * 4 + [11] * 4 + [12]
    assert shown[:, 3, 11, 0].tolist() == [50, 51, 52, 53, 54, GREY, GREY, GREY, GREY]


def test_a_start_image_is_held_throughout() -> None:
    shown = given_pictures(Terms(SHAPE, SHAPE.duration_seconds), {Role.START: pixels(1, first=9)}, None)

    assert shown is not None
    assert shown[:, 0, 0, 0].tolist() == [9] * 9


@pytest.mark.parametrize(
    ("frames", "levels"),
    [((0, 8), [1, 1, *[GREY] * 5, 2, 2]), ((0, 4, 8), [1, GREY, GREY, GREY, 2, GREY, GREY, GREY, 3])],
)
def test_a_keyframe_is_shown_for_a_moment_about_its_own_time(frames: tuple[int, ...], levels: list[int]) -> None:
    roles = [Role.FIRST_KEYFRAME, Role.LAST_KEYFRAME] if len(frames) == 2 else list(Role)[-3:]
    terms = Terms(SHAPE, SHAPE.duration_seconds, keyframes=tuple(zip(roles, frames, strict=True)))
    given = {role: pixels(1, first=index + 1) for index, role in enumerate(roles)}

    shown = given_pictures(terms, given, None)

    assert shown is not None
    assert shown[:, 0, 0, 0].tolist() == levels


def test_nothing_is_laid_out_where_nothing_is_given() -> None:
    assert given_pictures(Terms(SHAPE, SHAPE.duration_seconds), {}, None) is None
