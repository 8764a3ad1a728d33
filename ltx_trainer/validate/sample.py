"""From prompts, and what is given beside them, to the latents of clips.

Shapes: b samples, c channels, f latent frames, h rows, w columns, t audio steps, m mel bins, n tokens, l text tokens,
d width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import Terms
from ltx_trainer.conditions.streams import Latents, make_streams
from ltx_trainer.diffusion import Stream, audio_latents, audio_tokens, video_latents, video_tokens
from ltx_trainer.geometry import num_audio_tokens
from ltx_trainer.models.family import Family
from ltx_trainer.validate.denoise import Prompt, denoise
from ltx_trainer.validate.sampling import Sampling


def sample(
    family: Family,
    transformer: nn.Module,
    prompt: Prompt,
    negative: Prompt,
    terms: Terms,
    streams: Mapping[str, Stream],
    sampling: Sampling,
) -> dict[str, Tensor]:
    """Sample a clip for each prompt: normalised latents on their device, video `[b c f h w]`, audio `[b c t m]`.

    Args:
        family: The base model's family.
        transformer: The base, with an adapter or without, where the prompts are.
        prompt: Embeddings of what is asked for, `[b l d]` for each stream.
        negative: Embeddings of what is guided away from, as many.
        terms: What is given of clips of this shape.
        streams: What is given of these clips, on the CPU, as `given_streams` makes it.
        sampling: Steps, seed and guidance.

    Returns:
        The target of every stream, one that is given whole too. What is given of a target comes out bit for bit.
    """
    device = prompt["video"].device
    count = len(prompt["video"])
    noise = starting_noise(family, terms, count, sampling.seed, with_audio="audio" in streams)
    clean = denoise(
        family,
        transformer,
        {name: stream.to(device) for name, stream in streams.items()},
        {name: value.to(device) for name, value in noise_tokens(streams, noise).items()},
        prompt,
        negative,
        sampling,
    )
    return as_latents(family, terms, {name: clean[name][:, : stream.num_target] for name, stream in streams.items()})


def given_streams(family: Family, terms: Terms, latents: Latents, count: int, *, with_audio: bool) -> dict[str, Stream]:
    """Make the streams that are sampled; zeros stand where nothing is given.

    Args:
        family: Says where tokens stand.
        terms: What is given of clips of this shape.
        latents: What is given.
        count: Samples.
        with_audio: Whether there is sound.
    """
    sizes = _target_sizes(family, terms, count, with_audio=with_audio)
    blank = {name: {Role.TARGET: torch.zeros(size)} for name, size in sizes.items()}
    video = {**blank["video"], **latents.video} if "video" in blank else {}
    audio = {**blank["audio"], **latents.audio} if "audio" in blank else {}
    return make_streams(family, terms, Latents(video, audio, latents.ranges))


def starting_noise(family: Family, terms: Terms, count: int, seed: int, *, with_audio: bool) -> dict[str, Tensor]:
    """Draw on the CPU for each target that is generated: first the pictures `[b c f h w]`, then the sound `[b c t m]`.

    What is given beside them changes nothing of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = _target_sizes(family, terms, count, with_audio=with_audio)
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items() if name not in terms.frozen}


def noise_tokens(streams: Mapping[str, Stream], noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the noise of targets into that of whole streams `[b n c]`: zeros at joined tokens and in frozen streams."""
    tokens = as_tokens(noise)
    return {
        name: functional.pad(tokens[name], (0, 0, 0, stream.num_joined))
        if name in tokens
        else torch.zeros_like(stream.clean)
        for name, stream in streams.items()
    }


def as_tokens(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the latents of both streams into tokens `[b n c]`."""
    turn = {"video": video_tokens, "audio": audio_tokens}
    return {name: turn[name](value) for name, value in latents.items()}


def as_latents(family: Family, terms: Terms, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the tokens `[b n c]` of targets back into latents."""
    latents: dict[str, Tensor] = {}
    if "video" in tokens:
        assert terms.shape is not None, "asked of a mode with video"
        latents["video"] = video_latents(tokens["video"], terms.shape.latent_grid(family.facts.factors))
    if "audio" in tokens:
        assert family.facts.audio is not None, "asked of a model with sound"
        latents["audio"] = audio_latents(tokens["audio"], family.facts.audio.latent_channels)
    return latents


def _target_sizes(family: Family, terms: Terms, count: int, *, with_audio: bool) -> dict[str, tuple[int, ...]]:
    """Give the size of the latents of each stream that there is."""
    facts = family.facts
    sizes: dict[str, tuple[int, ...]] = {}
    if terms.shape is not None:
        grid = terms.shape.latent_grid(facts.factors)
        sizes["video"] = (count, facts.video_channels, grid.frames, grid.rows, grid.columns)
    if with_audio and facts.audio is not None:
        num_tokens = num_audio_tokens(terms.duration_seconds, facts.audio.tokens_per_second)
        sizes["audio"] = (count, facts.audio.latent_channels, num_tokens, facts.audio.latent_mel_bins)
    return sizes
