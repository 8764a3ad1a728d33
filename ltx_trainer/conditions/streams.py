"""Latents to streams: which tokens are clean, where they stand, and which are joined beside the target's own.

Shapes: b samples, c channels, f latent frames, h rows, w columns, t audio steps, m mel bins, n tokens, a axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ltx_trainer.artifacts import CachedMedia, Range, Role
from ltx_trainer.conditions.terms import Terms
from ltx_trainer.diffusion import Stream, audio_tokens, freeze, generated_stream, give, join, video_tokens
from ltx_trainer.geometry import ClipShape
from ltx_trainer.models.family import Family
from ltx_trainer.tensorfile import read_tensors


@dataclass(frozen=True)
class Latents:
    """Normalised latents of a batch by role, of one shape for each role.

    Attributes:
        video: `[b c f h w]`; of a mask, which cells are kept `[b f h w]`.
        audio: `[b c t m]`.
        ranges: Seconds of each sample's sound that are generated; empty in modes that have no such ranges.
    """

    video: Mapping[Role, Tensor]
    audio: Mapping[Role, Tensor]
    ranges: Sequence[tuple[Range, ...]] = ()


def read_latents(media: Sequence[CachedMedia], device: torch.device, *, with_audio: bool) -> Latents:
    """Load what was cached of a batch: clips, or one validation item, that have the same parts.

    Args:
        media: One for each sample.
        device: Where the latents go.
        with_audio: Whether there is sound; if not, none is loaded.

    Raises:
        CacheError: A file is damaged or gone.
    """

    def stacked(paths: Sequence[Path], name: str) -> Tensor:
        return torch.stack([read_tensors(path)[name] for path in paths]).to(device)

    first = media[0]
    return Latents(
        video={
            role: stacked([item.video[role] for item in media], "kept" if role is Role.MASK else "latents")
            for role in first.video
        },
        audio={
            role: stacked([item.audio[role] for item in media], "latents")
            for role in (first.audio if with_audio else ())
        },
        ranges=[item.ranges for item in media] if first.ranges else (),
    )


def make_streams(
    family: Family, terms: Terms, latents: Latents, first_frame: Tensor | None = None
) -> dict[str, Stream]:
    """Make the streams that are trained on, or sampled.

    Args:
        family: Says where tokens stand.
        terms: What is given of clips of this shape.
        latents: With a target for each stream; what stands in it where nothing is given matters in training only.
        first_frame: Samples `[b]` whose own first latent frame is given. One-frame samples never are: nothing would be
            left to generate.

    Returns:
        `video`, `audio` or both: those that have a target.
    """
    streams: dict[str, Stream] = {}
    if Role.TARGET in latents.video:
        streams["video"] = _video(family, terms, latents.video, first_frame)
    if Role.TARGET in latents.audio:
        streams["audio"] = _audio(family, terms, latents)
    return {name: freeze(stream) if name in terms.frozen else stream for name, stream in streams.items()}


def _video(family: Family, terms: Terms, latents: Mapping[Role, Tensor], first_frame: Tensor | None) -> Stream:
    assert terms.shape is not None, "asked of a mode with video"
    target = latents[Role.TARGET]
    given = torch.zeros_like(target[:, 0], dtype=torch.bool)
    if first_frame is not None and given.shape[1] > 1:
        given[:, 0] |= first_frame.to(given.device)[:, None, None]
    if Role.START in latents:
        target = torch.cat([latents[Role.START], target[:, :, 1:]], dim=2)
        given[:, 0] = True
    given[:, : terms.prefix_frames] = True
    given[:, given.shape[1] - terms.suffix_frames :] = True
    if terms.kept_cells is not None:
        cells = terms.kept_cells
        given[:, :, cells.top : cells.bottom, cells.left : cells.right] = True
    if Role.MASK in latents:
        given |= latents[Role.MASK]
    # A still among videos has one frame, whatever the shape of the others.
    shape = ClipShape(1, terms.shape.size, terms.shape.frame_rate) if target.shape[2] == 1 else terms.shape
    stream = give(generated_stream(video_tokens(target), family.video_coordinates(shape)), given.flatten(1))
    if Role.REFERENCE in latents:
        stream = join(stream, video_tokens(latents[Role.REFERENCE]), reference_coordinates(family, terms))
    for role, frame in terms.keyframes:
        stream = join(stream, video_tokens(latents[role]), keyframe_coordinates(family, terms.shape, frame))
    return stream


def _audio(family: Family, terms: Terms, latents: Latents) -> Stream:
    tokens = audio_tokens(latents.audio[Role.TARGET])
    num_tokens, duration = tokens.shape[1], terms.duration_seconds
    stream = generated_stream(tokens, family.audio_coordinates(num_tokens))
    audio = family.facts.audio
    assert audio is not None, "asked of a model with sound"
    if terms.kept_seconds is not None:
        kept = torch.tensor(audio.grid.tokens_within(terms.kept_seconds, num_tokens, duration))
        stream = give(stream, kept.expand(len(tokens), -1))
    if latents.ranges:
        beside = [audio.grid.tokens_beside(ranges, num_tokens, duration) for ranges in latents.ranges]
        stream = give(stream, torch.tensor(beside))
    if Role.REFERENCE_SOUND in latents.audio:
        reference = audio_tokens(latents.audio[Role.REFERENCE_SOUND])
        stream = join(stream, reference, family.audio_coordinates(reference.shape[1]))
    return stream


def reference_coordinates(family: Family, terms: Terms) -> Tensor:
    """Give the bounds of each token of a video reference `[3 n 2]`, in the seconds and pixels of the target.

    Frame 0 of the reference stands at frame 0 of the target, frame k at frame `reference_time * k`.
    """
    assert terms.shape is not None, "asked of a mode with video"
    time, rows, columns = family.video_coordinates(terms.reference_shape)
    # In causal positions frame k of a clip at a slower rate begins as much late.
    shift = float((terms.reference_time - 1) / terms.shape.frame_rate) if family.is_causal else 0.0
    return torch.stack([(time - shift).clamp(min=0), rows * terms.reference_space, columns * terms.reference_space])


def keyframe_coordinates(family: Family, shape: ClipShape, frame: int) -> Tensor:
    """Give the bounds of each token of a picture `[3 n 2]` that stands at one pixel frame of a clip."""
    coordinates = family.video_coordinates(ClipShape(1, shape.size, shape.frame_rate)).clone()
    rate = float(shape.frame_rate)
    coordinates[0] = torch.tensor([frame / rate, (frame + 1) / rate])
    return coordinates
