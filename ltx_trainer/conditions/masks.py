"""Masks in pixels to the latent cells that are kept."""

import torch
from torch import Tensor
from torch.nn import functional

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ScaleFactors, check_num_frames

HALF = 128
"""The least brightness that counts as white."""


def kept_cells(mask: Tensor, factors: ScaleFactors) -> Tensor:
    """Tell which latent cells `[f h w]` of a clip are kept: those without a single white pixel.

    The frames are grouped as the VAE does it: frame 0 alone, then groups of `factors.frames`.

    Args:
        mask: Uint8 pixels `[frames, height, width, 3]` of the clip's shape; white is generated, black kept, and grey
            from half on counts as white.
        factors: Of the VAE.

    Raises:
        MediaError: Every cell is kept, or none.
        GeometryError: The number of frames is none that the VAE takes.
    """
    check_num_frames(len(mask), factors.frames)
    white = (mask.float().mean(dim=-1) >= HALF).float()
    # So that frame 0 fills a group too.
    grouped = torch.cat([white[:1].expand(factors.frames - 1, -1, -1), white])
    window = (factors.frames, factors.rows, factors.columns)
    kept = functional.max_pool3d(grouped[None, None], window)[0, 0] == 0
    if kept.all():
        raise MediaError("the mask is black at every pixel, which leaves nothing to generate. White is generated.")
    if not kept.any():
        raise MediaError(
            f"the mask leaves no cell of {factors.columns}x{factors.rows} pixels and {factors.frames} frames black, "
            "so nothing would be kept. Train t2v, i2v or v2v instead, or mask less."
        )
    return kept
