"""Masks in pixels to the latent cells that are kept."""

import torch
from torch import Tensor

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ScaleFactors, check_num_frames


def kept_cells(white: Tensor, factors: ScaleFactors) -> Tensor:
    """Tell which latent cells `[f h w]` of a clip are kept: those without a single white pixel.

    The frames are grouped as the VAE does it: frame 0 alone, then groups of `factors.frames`.

    Args:
        white: Which pixels `[frames, height, width]`, of the clip's shape, are white in the mask: they are generated.
        factors: Of the VAE.

    Raises:
        MediaError: Every cell is kept, or none.
        GeometryError: The number of frames is none that the VAE takes.
    """
    check_num_frames(len(white), factors.frames)
    groups = [white[max(0, end - factors.frames) : end] for end in range(1, len(white) + 1, factors.frames)]
    cells = [group.any(dim=0).unflatten(1, (-1, factors.columns)).unflatten(0, (-1, factors.rows)) for group in groups]
    kept = ~torch.stack([touched.any(dim=3).any(dim=1) for touched in cells])
    if kept.all():
        raise MediaError(
            "the mask is black at every pixel of the clip, which leaves nothing to generate. White is generated, from "
            "half brightness on; what the clip's crop cuts off does not count."
        )
    if not kept.any():
        raise MediaError(
            f"the mask leaves no cell of {factors.columns}x{factors.rows} pixels and {factors.frames} frames black, "
            "so nothing would be kept. Mask less, or take a mode without a mask."
        )
    return kept


def spread_cells(cells: Tensor, factors: ScaleFactors) -> Tensor:
    """Spread latent cells `[f h w]` over the pixels that they stand for `[frames height width]`.

    Latent frame 0 stands for frame 0, each other one for a group of `factors.frames`.
    """
    groups = torch.full((len(cells),), factors.frames)
    groups[0] = 1
    wide = cells.repeat_interleave(factors.rows, dim=1).repeat_interleave(factors.columns, dim=2)
    return wide.repeat_interleave(groups, dim=0)
