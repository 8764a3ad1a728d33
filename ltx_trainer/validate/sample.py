"""From prompts to the latents of clips: what sampling starts from, and what is given of it.

Shapes: b samples, c channels, f latent frames, h rows, w columns, t audio steps, m mel bins, l text tokens, d width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ltx_trainer.diffusion import (
    Stream,
    audio_latents,
    audio_tokens,
    generated_stream,
    give_first_frame,
    video_latents,
    video_tokens,
)
from ltx_trainer.geometry import ClipShape
from ltx_trainer.models.family import Family
from ltx_trainer.validate.denoise import Prompt, denoise
from ltx_trainer.validate.sampling import Sampling


def sample(
    family: Family,
    transformer: nn.Module,
    prompt: Prompt,
    negative: Prompt,
    shape: ClipShape,
    sampling: Sampling,
    *,
    with_audio: bool,
    first_frames: Tensor | None = None,
) -> dict[str, Tensor]:
    """Sample a clip for each prompt: normalised latents on their device, video `[b c f h w]`, audio `[b c t m]`.

    Args:
        family: The base model's family.
        transformer: The base, with an adapter or without, where the prompts are.
        prompt: Embeddings of what is asked for, `[b l d]` for each stream.
        negative: Embeddings of what is guided away from, as many.
        shape: Of the clips.
        sampling: Steps, seed and guidance.
        with_audio: Whether there is sound too.
        first_frames: Latents of given first frames `[b c 1 h w]`.
    """
    device = prompt["video"].device
    noise = starting_noise(family, shape, len(prompt["video"]), sampling.seed, with_audio=with_audio)
    streams = streams_of(family, shape, {name: torch.zeros_like(value) for name, value in noise.items()}, first_frames)
    clean = denoise(
        family,
        transformer,
        {name: stream.to(device) for name, stream in streams.items()},
        {name: value.to(device) for name, value in as_tokens(noise).items()},
        prompt,
        negative,
        sampling,
    )
    latents = {"video": video_latents(clean["video"], shape.latent_grid(family.facts.factors))}
    if "audio" in clean:
        latents["audio"] = audio_latents(clean["audio"], noise["audio"].shape[1])
    return latents


def starting_noise(family: Family, shape: ClipShape, count: int, seed: int, *, with_audio: bool) -> dict[str, Tensor]:
    """Draw on the CPU: first the pictures `[b c f h w]`, then the sound `[b c t m]`."""
    generator = torch.Generator().manual_seed(seed)
    facts = family.facts
    grid = shape.latent_grid(facts.factors)
    size = (count, facts.video_channels, grid.frames, grid.rows, grid.columns)
    noise = {"video": torch.randn(size, generator=generator)}
    if with_audio and facts.audio is not None:
        num_tokens = shape.num_audio_tokens(facts.audio.tokens_per_second)
        size = (count, facts.audio.latent_channels, num_tokens, facts.audio.latent_mel_bins)
        noise["audio"] = torch.randn(size, generator=generator)
    return noise


def as_tokens(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the latents of both streams into tokens `[b n c]`."""
    turn = {"video": video_tokens, "audio": audio_tokens}
    return {name: turn[name](value) for name, value in latents.items()}


def streams_of(
    family: Family, shape: ClipShape, clean: Mapping[str, Tensor], first_frames: Tensor | None = None
) -> dict[str, Stream]:
    """Make the streams of clips of one shape, with their first frames given or nothing given.

    Args:
        family: Says where tokens stand.
        shape: Of the clips.
        clean: Latents, video `[b c f h w]` and perhaps audio `[b c t m]`; what is not given matters in training only.
        first_frames: Latents `[b c 1 h w]`, which take the place of the clips' own.
    """
    video = clean["video"]
    if first_frames is not None:
        video = torch.cat([first_frames.to(video), video[:, :, 1:]], dim=2)
    tokens = as_tokens({**clean, "video": video})
    streams = {"video": generated_stream(tokens["video"], family.video_coordinates(shape))}
    if first_frames is not None:
        every = torch.ones(len(video), dtype=torch.bool)
        streams["video"] = give_first_frame(streams["video"], video.shape[3] * video.shape[4], every)
    if "audio" in tokens:
        coordinates = family.audio_coordinates(tokens["audio"].shape[1])
        streams["audio"] = generated_stream(tokens["audio"], coordinates)
    return streams
