"""Guidance: pushing what the model says of the clip away from what weaker versions of it say.

What is combined is the model's estimate of the clip, or its velocity: the terms are the same either way, the rescale is
not, so each family has its own.

Shapes: b samples, n tokens, c channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

SMALLEST_SQUARE = 1e-8
"""Keeps the projection on a prediction of nothing finite."""


@dataclass(frozen=True)
class GuidanceScales:
    """How hard each weaker version pushes on one stream.

    Attributes:
        cfg: Against the negative prompt (classifier-free guidance); 1 is off.
        stg: Against the model without self-attention in some blocks (spatio-temporal guidance); 0 is off.
        modality: Against the model that does not hear (or see) the other stream; 1 is off.
        rescale: From 0 (off) to 1: how far the result's spread is pulled back to that of the plain estimate.
    """

    cfg: float
    stg: float
    modality: float
    rescale: float


@dataclass(frozen=True)
class LevelGuidance:
    """How sampling is guided over a range of noise levels.

    Attributes:
        down_to: The lowest noise level at which it holds; above it, what stands before it does.
        scales: Of each stream.
        stg_blocks: Blocks whose self-attention STG replaces by its values.
    """

    down_to: float
    scales: Mapping[str, GuidanceScales]
    stg_blocks: tuple[int, ...]


def guide(
    estimate: Tensor,
    scales: GuidanceScales,
    *,
    negative: Tensor | None,
    perturbed: Tensor | None,
    isolated: Tensor | None,
) -> Tensor:
    """Combine estimates of the clip, or velocities, `[b n c]`; None leaves its term out.

    Source: Ho & Salimans 2022 (arXiv 2207.12598), Hyung et al. 2024 (arXiv 2411.18664); rescaling by Lin et al. 2023
    (arXiv 2305.08891), section 3.4.
    """
    guided = estimate
    if negative is not None:
        guided = guided + (scales.cfg - 1) * (estimate - negative)
    if perturbed is not None:
        guided = guided + scales.stg * (estimate - perturbed)
    if isolated is not None:
        guided = guided + (scales.modality - 1) * (estimate - isolated)
    if scales.rescale == 0:
        return guided
    spread = estimate.std(dim=(1, 2), keepdim=True) / guided.std(dim=(1, 2), keepdim=True)
    return guided * (scales.rescale * spread + 1 - scales.rescale)


def fitted(negative: Tensor, positive: Tensor) -> Tensor:
    """Scale each sample of `negative` `[b n c]` to come as near to `positive` as it can.

    Source: Fan et al. 2025 (arXiv 2503.18886), the optimised scale of CFG-Zero*.
    """
    along = (positive * negative).sum(dim=(1, 2), keepdim=True)
    return negative * (along / (negative.square().sum(dim=(1, 2), keepdim=True) + SMALLEST_SQUARE))
