"""Masks in pixels to kept cells, of a VAE that groups 4 frames, 2 rows and 2 columns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ltx_trainer.conditions.masks import kept_cells, spread_cells
from ltx_trainer.errors import GeometryError, MediaError
from ltx_trainer.geometry import ScaleFactors

FACTORS = ScaleFactors(4, 2, 2)


@pytest.fixture
def mask() -> Tensor:
    """No white in nine frames of 4 x 6 pixels: three latent frames of 2 x 3 cells."""
    return torch.zeros(9, 4, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    ("frame", "latent_frame"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 2), (8, 2)]
)
def test_frame_0_is_a_group_of_its_own_and_the_others_go_by_four(mask: Tensor, frame: int, latent_frame: int) -> None:
    mask[frame, 3, 2] = True

    kept = kept_cells(mask, FACTORS)

    expected = torch.ones(3, 2, 3, dtype=torch.bool)
    expected[latent_frame, 1, 1] = False
    assert kept.dtype == torch.bool
    assert torch.equal(kept, expected)


def test_a_cell_is_kept_only_if_all_of_it_is_black(mask: Tensor) -> None:
    """Columns 1 to 4 are white: of the three columns of cells each is touched, but for the rows that stay black."""
    mask[:, 1, 1:5] = True

    assert torch.equal(kept_cells(mask, FACTORS)[0], torch.tensor([[False, False, False], [True, True, True]]))


def test_black_thinner_than_a_cell_vanishes(mask: Tensor) -> None:
    mask[:] = True
    mask[:, :, 3] = False
    mask[:, :2, :2] = False

    kept = kept_cells(mask, FACTORS)

    assert torch.equal(kept[1], torch.tensor([[True, False, False], [False, False, False]]))


def test_a_mask_without_white_is_refused(mask: Tensor) -> None:
    with pytest.raises(
        MediaError, match="the mask is black at every pixel of the clip, which leaves nothing to generate"
    ):
        kept_cells(mask, FACTORS)


def test_a_mask_without_a_black_cell_is_refused(mask: Tensor) -> None:
    mask[:, ::2, ::2] = True

    with pytest.raises(MediaError, match="the mask leaves no cell of 2x2 pixels and 4 frames black"):
        kept_cells(mask, FACTORS)


def test_a_mask_of_a_length_that_the_model_does_not_take_is_refused(mask: Tensor) -> None:
    with pytest.raises(GeometryError, match=r"8 frames do not fit this model.* 5 or 9"):
        kept_cells(mask[:8], FACTORS)


def test_a_cell_stands_for_frame_0_alone_or_a_whole_group_of_its_pixels() -> None:
    cells = torch.zeros(3, 2, 2, dtype=torch.bool)
    cells[0, 0, 0] = cells[1, 1, 1] = True

    pixels = spread_cells(cells, ScaleFactors(4, 2, 3))

    assert pixels.shape == (9, 4, 6)
    assert pixels[0, :2, :3].all()
    assert pixels[1:5, 2:, 3:].all()
    assert pixels.sum() == 2 * 3 + 4 * 2 * 3


@given(
    factors=st.builds(ScaleFactors, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 3)),
    seed=st.integers(0, 2**31),
)
def test_cells_spread_over_pixels_as_a_mask_are_those_cells_again(
    factors: ScaleFactors, size: tuple[int, int, int], seed: int
) -> None:
    kept = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.5
    kept[0, 0, :2] = torch.tensor([True, False])

    assert torch.equal(kept_cells(~spread_cells(kept, factors), factors), kept)
