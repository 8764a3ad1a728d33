"""Masks in pixels to kept cells, of a VAE that groups 4 frames, 2 rows and 2 columns."""

import pytest
import torch
from torch import Tensor

from ltx_trainer.conditions.masks import kept_cells
from ltx_trainer.errors import GeometryError, MediaError
from ltx_trainer.geometry import ScaleFactors

FACTORS = ScaleFactors(4, 2, 2)
WHITE = 255


@pytest.fixture
def mask() -> Tensor:
    """Nine black frames of 4 x 6 pixels: three latent frames of 2 x 3 cells."""
    return torch.zeros(9, 4, 6, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("frame", "latent_frame"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 2), (8, 2)]
)
def test_frame_0_is_a_group_of_its_own_and_the_others_go_by_four(mask: Tensor, frame: int, latent_frame: int) -> None:
    mask[frame, 3, 2] = WHITE

    kept = kept_cells(mask, FACTORS)

    expected = torch.ones(3, 2, 3, dtype=torch.bool)
    expected[latent_frame, 1, 1] = False
    assert kept.dtype == torch.bool
    assert torch.equal(kept, expected)


def test_a_cell_is_kept_only_if_all_of_it_is_black(mask: Tensor) -> None:
    """Columns 1 to 4 are white: of the three columns of cells each is touched, but for the rows that stay black."""
    mask[:, 1, 1:5] = WHITE

    assert torch.equal(kept_cells(mask, FACTORS)[0], torch.tensor([[False, False, False], [True, True, True]]))


def test_black_thinner_than_a_cell_vanishes(mask: Tensor) -> None:
    mask[:] = WHITE
    mask[:, :, 3] = 0
    mask[:, :2, :2] = 0

    kept = kept_cells(mask, FACTORS)

    assert torch.equal(kept[1], torch.tensor([[True, False, False], [False, False, False]]))


@pytest.mark.parametrize(
    ("grey", "is_kept"),
    [((127, 127, 127), True), ((128, 128, 128), False), ((255, 126, 0), True), ((255, 129, 0), False)],
)
def test_grey_is_white_from_half_on(mask: Tensor, grey: tuple[int, int, int], is_kept: bool) -> None:
    mask[0, 0, 0] = torch.tensor(grey, dtype=torch.uint8)
    mask[0, 3, 5] = WHITE

    assert bool(kept_cells(mask, FACTORS)[0, 0, 0]) is is_kept


def test_a_mask_without_white_is_refused(mask: Tensor) -> None:
    mask[:] = 127

    with pytest.raises(MediaError, match="the mask is black at every pixel, which leaves nothing to generate"):
        kept_cells(mask, FACTORS)


def test_a_mask_without_a_black_cell_is_refused(mask: Tensor) -> None:
    mask[:, ::2, ::2] = WHITE

    with pytest.raises(MediaError, match="the mask leaves no cell of 2x2 pixels and 4 frames black"):
        kept_cells(mask, FACTORS)


def test_a_mask_of_a_length_that_the_model_does_not_take_is_refused(mask: Tensor) -> None:
    with pytest.raises(GeometryError, match=r"8 frames do not fit this model.* 5 or 9"):
        kept_cells(mask[:8], FACTORS)
