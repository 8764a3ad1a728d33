"""Previews: cached prompts to video and sound files, without disturbing the training they are rendered from."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ltx_trainer import media
from ltx_trainer.artifacts import CachedPreview, CachedSet, Render
from ltx_trainer.atomic import write_text
from ltx_trainer.diffusion import (
    Stream,
    audio_latents,
    audio_tokens,
    generated_stream,
    give_first_frame,
    video_latents,
    video_tokens,
)
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_state
from ltx_trainer.tensorfile import read_tensors, tensors_digest
from ltx_trainer.validate.denoise import denoise
from ltx_trainer.validate.sampling import Sampling

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Previews:
    """The previews of a run, to be rendered at any step of its training.

    Attributes:
        family: The base model's family.
        transformer: The base with the adapter.
        cached: Holds the validation items.
        sampling: Steps, seed and guidance.
        folder: Where previews go, a folder for each step.
        accelerator: Device, and the other processes.
        base: Names the weights and precision of the transformer without the adapter.
        on_render: Told of what was rendered, on the main process.
    """

    family: Family
    transformer: nn.Module
    cached: CachedSet
    sampling: Sampling
    folder: Path
    accelerator: Accelerator
    base: str
    on_render: Callable[[Render], object]

    def render(self, step: int) -> Render | None:
        """Render on the main process while the others wait; None elsewhere, and in a run without validation items."""
        render = None
        if self.cached.previews and self.accelerator.is_main_process:
            device = self.accelerator.device
            render = render_previews(
                self.family,
                self.transformer,
                self.cached,
                self.sampling,
                self.folder,
                step=step,
                base=self.base,
                device=device,
            )
            self.on_render(render)
        self.accelerator.wait_for_everyone()
        return render


def render_previews(
    family: Family,
    transformer: nn.Module,
    cached: CachedSet,
    sampling: Sampling,
    folder: Path,
    *,
    step: int,
    base: str,
    device: torch.device,
) -> Render:
    """Render every validation item with the adapter as it stands, or find it done.

    A note beside the files says what they were rendered from, so that no other run's previews are taken for this one's.
    The decoders are on the device beside the transformer, one after the other, only while they are at work.

    Args:
        family: The base model's family.
        transformer: The base with the adapter.
        cached: Holds the validation items.
        sampling: Steps, seed and guidance.
        folder: Where previews go, a folder for each step.
        step: Optimizer updates done.
        base: Names the weights and precision of the transformer without the adapter.
        device: Where the transformer is.
    """
    place = folder / f"step-{step:06d}"
    items = tuple(place / f"item-{index + 1}.mp4" for index in range(len(cached.previews)))
    render = Render(step, items, joined=place / "all.mp4")
    note, origin = place / "origin.txt", _origin(transformer, cached, sampling, base)
    if note.is_file() and note.read_text() == origin:
        return render
    logger.info("Rendering %d previews at step %d.", len(items), step)
    with _undisturbed(transformer, device):
        latents = [_sample(family, transformer, preview, cached, sampling, device) for preview in cached.previews]
        pictures = _decode_video(family, [item["video"] for item in latents], device)
        sounds, rate_hz = _decode_audio(family, [item["audio"] for item in latents if "audio" in item], device)
    for index, (path, preview) in enumerate(zip(items, cached.previews, strict=True)):
        audio = sounds[index].numpy() if sounds else None
        media.write_video(path, pictures[index].numpy(), preview.shape.frame_rate, audio=audio, audio_rate_hz=rate_hz)
    media.join_videos(items, render.joined)
    write_text(note, origin)
    return render


def _origin(transformer: nn.Module, cached: CachedSet, sampling: Sampling, base: str) -> str:
    """Name what changes a preview: the base and the adapter, the items and how they are sampled."""
    asked = [(item.prompt.stem, item.first_frame and item.first_frame.stem, item.shape) for item in cached.previews]
    adapter = tensors_digest(adapter_state(transformer))
    facts = (base, adapter, asked, cached.negative_prompt.stem, cached.with_audio, sampling)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@contextmanager
def _undisturbed(transformer: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave torch's random state and the transformer's mode as they were."""
    training = transformer.training
    transformer.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        transformer.train(training)


def _sample(
    family: Family,
    transformer: nn.Module,
    preview: CachedPreview,
    cached: CachedSet,
    sampling: Sampling,
    device: torch.device,
) -> dict[str, Tensor]:
    """Sample the latents of one item: video `[c f h w]`, audio `[c t m]`."""
    noise = _starting_noise(family, preview, sampling.seed, with_audio=cached.with_audio)
    streams = _streams(family, preview, noise)
    tokens = {"video": video_tokens(noise["video"])}
    if "audio" in noise:
        tokens["audio"] = audio_tokens(noise["audio"])
    clean = denoise(
        family,
        transformer,
        {name: stream.to(device) for name, stream in streams.items()},
        {name: value.to(device) for name, value in tokens.items()},
        _load_prompt(preview.prompt, device),
        _load_prompt(cached.negative_prompt, device),
        sampling,
    )
    latents = {"video": video_latents(clean["video"], preview.shape.latent_grid(family.facts.factors))[0]}
    if "audio" in clean:
        latents["audio"] = audio_latents(clean["audio"], noise["audio"].shape[1])[0]
    return latents


def _starting_noise(family: Family, preview: CachedPreview, seed: int, *, with_audio: bool) -> dict[str, Tensor]:
    """Draw on the CPU: first the pictures `[1 c f h w]`, then the sound `[1 c t m]`."""
    generator = torch.Generator().manual_seed(seed)
    facts = family.facts
    grid = preview.shape.latent_grid(facts.factors)
    size = (1, facts.video_channels, grid.frames, grid.rows, grid.columns)
    noise = {"video": torch.randn(size, generator=generator)}
    if with_audio and facts.audio is not None:
        num_tokens = preview.shape.num_audio_tokens(facts.audio.tokens_per_second)
        size = (1, facts.audio.latent_channels, num_tokens, facts.audio.latent_mel_bins)
        noise["audio"] = torch.randn(size, generator=generator)
    return noise


def _streams(family: Family, preview: CachedPreview, noise: dict[str, Tensor]) -> dict[str, Stream]:
    clean = torch.zeros_like(noise["video"])
    if preview.first_frame is not None:
        clean[0, :, :1] = read_tensors(preview.first_frame)["latents"]
    video = generated_stream(video_tokens(clean), family.video_coordinates(preview.shape))
    if preview.first_frame is not None:
        video = give_first_frame(video, clean.shape[3] * clean.shape[4], torch.tensor([True]))
    if "audio" not in noise:
        return {"video": video}
    audio = audio_tokens(torch.zeros_like(noise["audio"]))
    return {"video": video, "audio": generated_stream(audio, family.audio_coordinates(audio.shape[1]))}


def _load_prompt(path: Path, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[None].to(device) for name, tensor in read_tensors(path).items()}


def _decode_video(family: Family, latents: list[Tensor], device: torch.device) -> list[Tensor]:
    with family.video_codec(device) as codec:
        return [codec.decode(item) for item in latents]


def _decode_audio(family: Family, latents: list[Tensor], device: torch.device) -> tuple[list[Tensor], int | None]:
    if not latents:
        return [], None
    with family.audio_codec(device) as codec:
        return [codec.decode(item) for item in latents], codec.output_rate_hz
