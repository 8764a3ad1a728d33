"""What conditions cannot be met by a geometry, and what is said then."""

import re
from typing import Any

import pytest

from ltx_trainer.conditions import terms_of
from ltx_trainer.errors import GeometryError
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from tests.conditions.fake_family import mode_of, request_of, shape_of

REAL = ScaleFactors(8, 32, 32)
FINER = ScaleFactors(4, 8, 8)


def refusal(
    name: str,
    shape: ClipShape,
    factors: ScaleFactors = REAL,
    trained_size: FrameSize | None = None,
    **fields: object,
) -> str:
    """Give the message of what is refused."""
    with pytest.raises(GeometryError, match=r"\w") as refused:
        terms_of(mode_of(name), request_of(**fields), factors, shape, trained_size=trained_size)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "count", "num_frames"), [("extend-prefix", 17, 17), ("extend-prefix", 25, 17), ("extend-suffix", 16, 9)]
)
def test_given_frames_that_are_not_less_than_the_clip_are_refused(name: str, count: int, num_frames: int) -> None:
    message = refusal(name, shape_of(num_frames, 64, 64), conditioning_frames=count)

    assert message == (
        f"conditioning_frames {count} leaves nothing of {num_frames} frames to generate. "
        f"It must be less than {num_frames}."
    )


@pytest.mark.parametrize(
    ("top_left", "bottom_right"),
    [((0, 0), (97, 96)), ((0, 0), (96, 97)), ((64, 0), (64, 96)), ((64, 0), (32, 96)), ((0, 64), (96, 32))],
)
def test_a_kept_rectangle_outside_the_frame_or_reversed_is_refused(
    top_left: tuple[int, int], bottom_right: tuple[int, int]
) -> None:
    message = refusal("outpaint", shape_of(9, 96, 96), crop_top_left=top_left, crop_bottom_right=bottom_right)

    assert f"from {list(top_left)} to {list(bottom_right)} is not inside the 96x96 training frame" in message
    assert "x goes from 0 to 96, y from 0 to 96" in message


@pytest.mark.parametrize(("top_left", "bottom_right"), [((1, 0), (63, 96)), ((0, 1), (96, 63)), ((0, 0), (96, 31))])
def test_a_kept_rectangle_without_a_whole_cell_is_refused(
    top_left: tuple[int, int], bottom_right: tuple[int, int]
) -> None:
    message = refusal("outpaint", shape_of(9, 96, 96), crop_top_left=top_left, crop_bottom_right=bottom_right)

    assert f"from {list(top_left)} to {list(bottom_right)} holds no whole cell of 32x32 pixels at 96x96" in message


def test_a_kept_rectangle_that_vanishes_in_smaller_previews_is_refused_there() -> None:
    fields: dict[str, Any] = {"crop_top_left": (32, 32), "crop_bottom_right": (64, 64)}
    trained = FrameSize(96, 96)
    request = request_of(**fields)

    terms_of(mode_of("outpaint"), request, REAL, shape_of(9, 96, 96), trained_size=trained)
    message = refusal("outpaint", shape_of(9, 64, 64), trained_size=trained, **fields)

    assert "holds no whole cell of 32x32 pixels at 64x64" in message


def test_a_kept_rectangle_that_is_the_whole_frame_is_refused() -> None:
    message = refusal("outpaint", shape_of(9, 96, 64), crop_top_left=(0, 0), crop_bottom_right=(96, 64))

    assert message.startswith("the kept rectangle is the whole frame, which leaves nothing to generate")


def test_a_kept_rectangle_of_whole_rows_is_not_the_whole_frame() -> None:
    request = request_of(crop_top_left=(0, 0), crop_bottom_right=(96, 32))

    cells = terms_of(mode_of("outpaint"), request, REAL, shape_of(9, 96, 64), trained_size=None).kept_cells

    assert cells is not None
    assert (cells.top, cells.bottom, cells.left, cells.right) == (0, 1, 0, 3)


@pytest.mark.parametrize(
    ("num_frames", "factors", "possible"),
    [
        (89, REAL, [1]),
        (97, REAL, [1, 2, 3, 4, 6]),
        (113, REAL, [1, 2, 7]),
        (121, REAL, [1, 3, 5]),
        (17, FINER, [1, 2, 4]),
        (1, REAL, [1]),
    ],
)
def test_temporal_factors_that_do_not_divide_the_frames_are_refused_with_those_that_do(
    num_frames: int, factors: ScaleFactors, possible: list[int]
) -> None:
    for factor in range(1, 9):
        fields: dict[str, Any] = {"reference_temporal_scale_factor": factor}
        shape = shape_of(num_frames, 64, 64)
        if factor in possible:
            terms = terms_of(mode_of("v2v"), request_of(**fields), factors, shape, trained_size=None)
            assert terms.reference_shape.num_frames == (num_frames - 1) // factor + 1
        else:
            message = refusal("v2v", shape, factors, **fields)
            assert message.startswith(f"reference_temporal_scale_factor {factor} does not divide")
            assert message.endswith(f"in {num_frames} frames. Possible: {', '.join(map(str, possible))}.")


@pytest.mark.parametrize(
    ("width", "height", "possible"),
    [(768, 448, [1, 2]), (512, 288, [1]), (960, 544, [1]), (512, 512, [1, 2, 4, 8]), (768, 768, [1, 2, 3, 4, 6, 8])],
)
def test_spatial_factors_that_do_not_divide_the_size_are_refused_with_those_that_do(
    width: int, height: int, possible: list[int]
) -> None:
    for factor in range(1, 9):
        fields: dict[str, Any] = {"reference_downscale_factor": factor}
        if factor in possible:
            terms = terms_of(
                mode_of("av2av"), request_of(**fields), REAL, shape_of(9, width, height), trained_size=None
            )
            assert terms.reference_shape.size == FrameSize(width // factor, height // factor)
        else:
            message = refusal("av2av", shape_of(9, width, height), **fields)
            assert message == (
                f"reference_downscale_factor {factor} does not divide {width}x{height} into multiples of 32x32. "
                f"Possible: {', '.join(map(str, possible))}."
            )


@pytest.mark.parametrize("name", ["i2v", "a2v", "interpolate"])
def test_a_clip_of_one_frame_is_refused_where_that_frame_is_given(name: str) -> None:
    message = refusal(name, shape_of(1, 64, 64))

    assert re.match(f"a clip of 1 frame leaves {name} nothing to generate. 9 frames", message)
