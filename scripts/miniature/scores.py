"""What the model makes of captions, and how much of what they say can be read in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ltx_trainer import world
from ltx_trainer.config.request import NEGATIVE_PROMPT
from ltx_trainer.diffusion import (
    Stream,
    add_noise,
    audio_latents,
    audio_tokens,
    flow_loss,
    generated_stream,
    video_latents,
    video_tokens,
)
from ltx_trainer.geometry import ClipShape
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.validate import Sampling, denoise

HELD_OUT: tuple[world.Composition, ...] = (
    ("red", "square", "left"),
    ("yellow", "triangle", "right"),
    ("green", "circle", "up"),
    ("cyan", "square", "down"),
    ("blue", "triangle", "left"),
    ("purple", "circle", "right"),
    ("red", "triangle", "up"),
    ("green", "square", "down"),
)
"""Compositions that the transformer is never trained on."""

Prompt = Mapping[str, Tensor]


@dataclass(frozen=True)
class Made:
    """What was made of one caption: frames `[f h w 3]`, and samples `[2 n]` at a rate."""

    frames: np.ndarray
    samples: np.ndarray
    rate_hz: int


def held_out_scenes(count: int, seed: int = 91) -> list[world.Scene]:
    """Draw scenes of the held-out compositions, each as often as the others."""
    scenes = world.draw_scenes(count, seed)
    return [
        replace(scene, colour=colour, shape=shape, motion=motion)
        for scene, (colour, shape, motion) in zip(scenes, HELD_OUT * (count // len(HELD_OUT) + 1), strict=False)
    ]


def prompts_of(family: Family, captions: Sequence[str], scratch: Path) -> dict[str, Tensor]:
    """Encode captions with the family's own text encoder and connectors, `[b l d]` for each stream."""
    found = [prompt for _, prompt in family.encode_prompts(captions, torch.device("cpu"), scratch=scratch)]
    return {stream: torch.stack([prompt[stream] for prompt in found]) for stream in found[0]}


def make(
    family: Family,
    transformer: nn.Module,
    prompt: Prompt,
    negative: Prompt,
    shape: ClipShape,
    sampling: Sampling,
    *,
    first_frames: Tensor | None = None,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """Sample a clip for each prompt: normalised latents, video `[b c f h w]` and audio `[b c t m]`.

    Args:
        family: The base model's family.
        transformer: The base, with an adapter or without.
        prompt: Embeddings `[b l d]` for each stream.
        negative: Embeddings `[1 l d]` of what is guided away from.
        shape: Of the clips.
        sampling: Steps, seed and guidance.
        first_frames: Latents of given first frames `[b c 1 h w]`.
        batch_size: Clips that are sampled at once.
    """
    count = len(prompt["video"])
    noise = _noise(family, shape, count, sampling.seed)
    grid = shape.latent_grid(family.facts.factors)
    pieces: list[dict[str, Tensor]] = []
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        own = {stream: tokens[part] for stream, tokens in noise.items()}
        given = None if first_frames is None else first_frames[part]
        streams = _streams(family, shape, own, given)
        size = len(own["video"])
        pieces.append(
            denoise(
                family,
                transformer,
                streams,
                own,
                {stream: embeddings[part] for stream, embeddings in prompt.items()},
                {stream: embeddings.expand(size, -1, -1) for stream, embeddings in negative.items()},
                sampling,
            )
        )
    clean = {stream: torch.cat([piece[stream] for piece in pieces]) for stream in noise}
    assert family.facts.audio is not None
    return {
        "video": video_latents(clean["video"], grid),
        "audio": audio_latents(clean["audio"], family.facts.audio.latent_channels),
    }


def _noise(family: Family, shape: ClipShape, count: int, seed: int) -> dict[str, Tensor]:
    """Draw the tokens that sampling starts from `[b n c]`."""
    facts = family.facts
    assert facts.audio is not None
    generator = torch.Generator().manual_seed(seed)
    grid = shape.latent_grid(facts.factors)
    num_tokens = shape.num_audio_tokens(facts.audio.tokens_per_second)
    video = torch.randn(count, facts.video_channels, grid.frames, grid.rows, grid.columns, generator=generator)
    audio = torch.randn(
        count, facts.audio.latent_channels, num_tokens, facts.audio.latent_mel_bins, generator=generator
    )
    return {"video": video_tokens(video), "audio": audio_tokens(audio)}


def _streams(
    family: Family, shape: ClipShape, noise: Mapping[str, Tensor], first_frames: Tensor | None
) -> dict[str, Stream]:
    video = generated_stream(torch.zeros_like(noise["video"]), family.video_coordinates(shape))
    if first_frames is not None:
        tokens = video_tokens(first_frames)
        video.clean[:, : tokens.shape[1]] = tokens
        video.given[:, : tokens.shape[1]] = True
    audio = torch.zeros_like(noise["audio"])
    return {"video": video, "audio": generated_stream(audio, family.audio_coordinates(audio.shape[1]))}


def decode(latents: Mapping[str, Tensor], video: VideoCodec, audio: AudioCodec) -> list[Made]:
    """Decode sampled latents, one clip at a time."""
    return [
        Made(video.decode(pictures).numpy(), audio.decode(sound).numpy(), audio.output_rate_hz)
        for pictures, sound in zip(latents["video"], latents["audio"], strict=True)
    ]


def share(made: Sequence[Made], scenes: Sequence[world.Scene]) -> dict[str, float]:
    """Give the share of clips in which colour, shape, motion and pitch are read as the scene has them."""
    tests: Mapping[str, Callable[[Made, world.Scene], bool]] = {
        "colour": lambda clip, scene: world.read_video(clip.frames).colour == scene.colour,
        "shape": lambda clip, scene: world.read_video(clip.frames).shape == scene.shape,
        "motion": lambda clip, scene: world.read_video(clip.frames).motion == scene.motion,
        "pitch": lambda clip, scene: (
            world.read_sound(clip.samples, clip.rate_hz).pitch == world.PITCH_OF_MOTION[scene.motion]
        ),
    }
    pairs = list(zip(made, scenes, strict=True))
    return {name: sum(holds(*pair) for pair in pairs) / len(pairs) for name, holds in tests.items()}


@torch.no_grad()
def reconstruction(codec: VideoCodec, scenes: Sequence[world.Scene], shape: ClipShape) -> dict[str, float]:
    """Encode and decode scenes: PSNR in dB, and the share whose shape can still be read."""
    psnr, shapes = 0.0, 0
    for scene in scenes:
        frames = world.render(scene, shape.size.width, shape.size.height, shape.num_frames)
        decoded = codec.decode(codec.encode(torch.from_numpy(frames))).numpy()
        error = (decoded.astype(np.float64) - frames) / 255
        psnr -= 10 * np.log10(np.mean(error**2))
        shapes += world.read_video(decoded).shape == scene.shape
    return {"psnr": psnr / len(scenes), "shape": shapes / len(scenes)}


def defaults(family: Family, *, num_steps: int = 30, seed: int = 0) -> Sampling:
    """Give the family's own sampling, as a preview has it unless the settings say otherwise."""
    own = family.sampling
    return Sampling(num_steps=num_steps, seed=seed, scales=own.scales, stg_blocks=own.stg_blocks)


def sample_held_out(
    family: Family, shape: ClipShape, count: int, scratch: Path, sampling: Sampling
) -> tuple[list[Made], list[world.Scene]]:
    """Make clips of held-out compositions from their captions alone."""
    scenes = held_out_scenes(count)
    captions = [world.caption(scene) for scene in scenes]
    prompt = prompts_of(family, [*captions, NEGATIVE_PROMPT], scratch)
    device = torch.device("cpu")
    with family.transformer(device, torch.float32) as transformer:
        latents = make(
            family,
            transformer,
            {stream: embeddings[:-1] for stream, embeddings in prompt.items()},
            {stream: embeddings[-1:] for stream, embeddings in prompt.items()},
            shape,
            sampling,
        )
    with family.video_codec(device) as video, family.audio_codec(device) as audio:
        return decode(latents, video, audio), scenes


def against_others(made: Sequence[Made], scenes: Sequence[world.Scene]) -> dict[str, float]:
    """Hold clips to the captions of others, each to every one: what a model that does not read would score."""
    count = len(scenes)
    turns = [share(made, [*scenes[turn:], *scenes[:turn]]) for turn in range(1, count)]
    return {name: sum(turn[name] for turn in turns) / len(turns) for name in turns[0]}


def losses(
    family: Family,
    transformer: nn.Module,
    clips: Mapping[str, Tensor],
    prompt: Prompt,
    shape: ClipShape,
    *,
    sigma: float,
    seed: int,
    first_frames: Tensor | None = None,
) -> Tensor:
    """Give the loss of each clip `[b]` over its generated video tokens, at one noise level and with one noise.

    Args:
        family: The base model's family.
        transformer: The base, with an adapter or without.
        clips: Normalised latents, video `[b c f h w]` and audio `[b c t m]`.
        prompt: Embeddings `[b l d]` for each stream.
        shape: Of the clips.
        sigma: Noise level of both streams.
        seed: Of the noise.
        first_frames: Latents of given first frames `[b c 1 h w]`, the clips' own or others.
    """
    noise = _noise(family, shape, len(clips["video"]), seed)
    streams = _streams(family, shape, noise, first_frames)
    clean = {"video": video_tokens(clips["video"]), "audio": audio_tokens(clips["audio"])}
    for name, stream in streams.items():
        stream.clean[~stream.given] = clean[name][~stream.given]
    levels = torch.full((len(clips["video"]),), sigma)
    with torch.no_grad():
        seen = {name: add_noise(stream, noise[name], levels) for name, stream in streams.items()}
        velocities = family.predict(transformer, seen, prompt)
    return flow_loss(velocities["video"], streams["video"], noise["video"])


def sharpness(frames: np.ndarray) -> float:
    """Give the mean step from a pixel to the next, in 255ths."""
    pixels = frames.astype(float)
    return float(abs(np.diff(pixels, axis=1)).mean() + abs(np.diff(pixels, axis=2)).mean()) / 2


def in_step(clip: Made) -> float:
    """Give the correlation of a shape's height with its tone's pitch over time; 0 if either does not change."""
    path = world.read_video(clip.frames).path[:, 1]
    track = world.read_sound(clip.samples, clip.rate_hz).track
    if not len(track):
        return 0.0
    height = 1 - np.interp(np.linspace(0, 1, len(track)), np.linspace(0, 1, len(path)), path)
    both = np.isfinite(height) & np.isfinite(track)
    if both.sum() < 3 or min(height[both].std(), track[both].std()) < 1e-3:
        return 0.0
    return float(np.corrcoef(height[both], track[both])[0, 1])
