from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_trainer.errors import GeometryError
from ltx_trainer.geometry import (
    ClipShape,
    FrameSize,
    LatentGrid,
    ScaleFactors,
    check_num_frames,
    cover_crop,
    midpoint_times,
    num_audio_tokens,
    num_frames_within,
)

FACTORS = ScaleFactors(frames=8, rows=32, columns=32)
SIDES = st.integers(1, 4000)


def test_the_latent_grid_counts_the_first_frame_alone() -> None:
    assert ClipShape(89, FrameSize(960, 544), Fraction(24)).latent_grid(FACTORS) == LatentGrid(12, 17, 30)
    assert LatentGrid(12, 17, 30).num_tokens == 6120


def test_a_length_that_does_not_fit_names_the_nearest() -> None:
    with pytest.raises(GeometryError, match=r"90 frames .* 8 \* k \+ 1\. Nearest: 89 or 97"):
        check_num_frames(90, 8)


def test_a_size_that_does_not_fit_names_the_nearest() -> None:
    with pytest.raises(GeometryError, match=r"height 540 .* multiples of 32\. Nearest: 512 or 544"):
        ClipShape(9, FrameSize(960, 540), Fraction(24)).latent_grid(FACTORS)


@pytest.mark.parametrize(
    ("duration_seconds", "tokens"), [(Fraction(89, 24), 93), (Fraction(121, 25), 121), (Fraction(1, 2), 12)]
)
def test_a_second_of_sound_has_25_tokens_and_a_half_token_goes_to_the_even_count(
    duration_seconds: Fraction, tokens: int
) -> None:
    assert num_audio_tokens(duration_seconds, Fraction(25)) == tokens


@given(width=SIDES, height=SIDES, target_width=SIDES, target_height=SIDES)
def test_a_crop_lies_inside_what_it_is_cut_from(width: int, height: int, target_width: int, target_height: int) -> None:
    target = FrameSize(target_width, target_height)

    crop = cover_crop(FrameSize(width, height), target)

    assert 0 <= crop.left <= crop.scaled.width - target.width
    assert 0 <= crop.top <= crop.scaled.height - target.height
    assert crop.scaled.width == target.width or crop.scaled.height == target.height


@given(num_frames=st.integers(1, 500), rate=st.sampled_from([Fraction(24), Fraction(30000, 1001), Fraction(60)]))
def test_a_span_holds_as_many_frames_as_it_was_made_of_however_its_ends_were_rounded(
    num_frames: int, rate: Fraction
) -> None:
    rounded = Fraction(round(num_frames / rate * 1000), 1000)

    assert num_frames_within(rounded, rate) == num_frames


def test_frames_are_sampled_at_the_middle_of_their_parts() -> None:
    assert midpoint_times(Fraction(1), Fraction(2), 4) == (
        Fraction(5, 4),
        Fraction(7, 4),
        Fraction(9, 4),
        Fraction(11, 4),
    )
