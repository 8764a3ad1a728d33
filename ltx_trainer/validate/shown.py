"""What a preview shows: kept pixels and samples are the input's own, and what was given is laid out to stand beside it.

Whatever comes from the input comes from its latents, decoded: its round trip through the VAE, which is what the model
was given.

Shapes: f latent frames, h rows, w columns, n audio tokens, s samples; pixels are uint8 `[frames height width 3]`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import Terms

GREY = 128
"""Shown where nothing is given."""

FADE_SECONDS = 0.01
"""Over which sound goes from what is kept to what is generated, outside of what is kept."""

HELD_SECONDS = 0.5
"""For which a keyframe is shown at most."""


def composed_pictures(made: Tensor, own: Tensor, kept: Tensor) -> Tensor:
    """Give the input's own pixels where `kept` `[frames height width]` is true, and those that were made elsewhere."""
    return torch.where(kept[..., None], own, made)


def kept_samples(tokens: Tensor, coordinates: Tensor, num_samples: int, rate_hz: int) -> Tensor:
    """Spread audio tokens `[n]` over the samples that they stand for `[s]`.

    Args:
        tokens: True where kept.
        coordinates: Bounds of each in seconds `[1 n 2]`.
        num_samples: Of the sound; those after the last token go with it.
        rate_hz: Of the samples.
    """
    kept = torch.zeros(num_samples, dtype=torch.bool)
    bounds = (coordinates[0] * rate_hz).round().long().tolist()
    bounds[-1][1] = num_samples
    for (begin, end), is_kept in zip(bounds, tokens.tolist(), strict=True):
        kept[begin:end] = is_kept
    return kept


def composed_sound(made: Tensor, own: Tensor, kept: Tensor, rate_hz: int) -> Tensor:
    """Give the input's own samples where `kept` `[s]` is true, and those that were made elsewhere; both `[2 s]`.

    The change is a short fade on the side of what was made.
    """
    reach = round(FADE_SECONDS / 2 * rate_hz)
    if kept.all() or not kept.any() or reach == 0:
        return torch.where(kept, own, made)
    near = functional.max_pool1d(kept.float()[None, None], 2 * reach + 1, 1, reach)
    share = functional.avg_pool1d(near, 2 * reach + 1, 1, reach, count_include_pad=False)[0]
    return torch.where(kept, own, own * share + made * (1 - share))


def given_pictures(terms: Terms, given: Mapping[Role, Tensor], kept: Tensor | None) -> Tensor | None:
    """Lay out side by side what is given of a clip's pictures, at its own size, rate and length; None if nothing is.

    A reference is enlarged and each of its frames held; a start image is held throughout, a keyframe for a moment about
    its own; a clip of which a part is given is grey elsewhere.

    Args:
        terms: Of the clip.
        given: Pixels by role.
        kept: Of the target's own `[frames height width]`; None where none of them is given.
    """
    panels: list[Tensor] = []
    if Role.REFERENCE in given:
        panels.append(_like_target(terms, given[Role.REFERENCE]))
    if Role.TARGET in given and kept is not None:
        panels.append(composed_pictures(torch.full_like(given[Role.TARGET], GREY), given[Role.TARGET], kept))
    if Role.START in given:
        panels.append(given[Role.START].expand(_num_frames(terms), -1, -1, -1))
    if terms.keyframes:
        panels.append(_keyframes(terms, given))
    return torch.cat(panels, dim=2) if panels else None


def _num_frames(terms: Terms) -> int:
    assert terms.shape is not None, "asked of a mode with video"
    return terms.shape.num_frames


def _like_target(terms: Terms, reference: Tensor) -> Tensor:
    """Enlarge a reference to the target's size, and hold each frame until the next."""
    wide = reference.repeat_interleave(terms.reference_space, dim=1).repeat_interleave(terms.reference_space, dim=2)
    return wide.repeat_interleave(terms.reference_time, dim=0)[: _num_frames(terms)]


def _keyframes(terms: Terms, given: Mapping[Role, Tensor]) -> Tensor:
    assert terms.shape is not None, "asked of a mode with video"
    count, rate = terms.shape.num_frames, float(terms.shape.frame_rate)
    held = max(1, min(round(HELD_SECONDS * rate), count // (2 * len(terms.keyframes))))
    shown = torch.full((count, *given[terms.keyframes[0][0]].shape[1:]), GREY, dtype=torch.uint8)
    for role, frame in terms.keyframes:
        begin = min(max(0, frame - held // 2), count - held)
        shown[begin : begin + held] = given[role]
    return shown
