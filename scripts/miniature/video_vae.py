"""The video VAEs: reconstruction of drawn scenes, with a little of the loss that keeps latents near a unit Gaussian.

What lets it learn in minutes: latents start with little noise (the class starts with as much noise as signal), residual
branches start small, and a saturated pixel, which belongs to the shape, weighs more than a grey one.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video, AutoencoderKLLTXVideo
from torch import Tensor

from ltx_trainer import world
from ltx_trainer.models.codecs import decode_latents
from miniature.parts import Recipe

RECIPE = Recipe(steps=12_000, peak_rate=3e-3, average=0.995)
RECIPE_OF_FINER = Recipe(steps=4_500, horizon=8_000, peak_rate=3e-3, average=0.995)
"""Of LTX-Video's, which works on pixels of half the size."""
SIDE = 64
NUM_SCENES = 3000
LONGEST = 17
BATCHES = ((9, 8), (9, 8), (17, 4), (1, 24))
"""Frames and clips of a batch; each is as likely as the others."""

VideoVae = AutoencoderKLLTX2Video | AutoencoderKLLTXVideo

FIRST_LOG_VARIANCE = -6.0
RESIDUAL_START = 0.1
SALIENCY = 3.0
KL_WEIGHT = 1e-5


def prepare(vae: VideoVae) -> None:
    """Change the class's own start in place, so that latents carry something from the first step."""
    with torch.no_grad():
        weight, bias = (vae.get_parameter(f"encoder.conv_out.conv.{name}") for name in ("weight", "bias"))
        bias[-1] = FIRST_LOG_VARIANCE
        weight[-1] *= 0.1
        for name, module in vae.named_modules():
            if name.endswith("conv2") and hasattr(module, "conv"):
                module.conv.weight *= RESIDUAL_START
                module.conv.bias.zero_()
    # A factor that the class counts among its weights.
    if (factor := getattr(vae.decoder, "timestep_scale_multiplier", None)) is not None:
        factor.requires_grad = False


def draw_clips(count: int, seed: int, num_frames: int = LONGEST) -> Tensor:
    """Draw scenes in every colour, a third of them growing, as uint8 `[n c f h w]`."""
    draw = np.random.default_rng(seed)
    clips = [
        world.render(
            replace(
                scene,
                colour=draw.choice(list(world.COLOURS)),
                growth=draw.uniform(0.6, 2.0) if draw.random() < 1 / 3 else 1.0,
            ),
            SIDE,
            SIDE,
            num_frames,
        )
        for scene in world.draw_scenes(count, seed)
    ]
    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).contiguous()


class Loss:
    """The loss of a batch drawn from a fixed pool of clips."""

    def __init__(self, vae: VideoVae, seed: int) -> None:
        self._vae = vae
        self._seed = seed

    @cached_property
    def _clips(self) -> Tensor:
        return draw_clips(NUM_SCENES, self._seed).to(self._vae.device)

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch; a clip is mirrored and played backwards now and then."""
        num_frames, count = BATCHES[torch.randint(len(BATCHES), (), generator=generator)]
        chosen = torch.randint(len(self._clips), (count,), generator=generator)
        start = int(torch.randint(LONGEST - num_frames + 1, (), generator=generator))
        clips = self._clips[chosen, :, start : start + num_frames].float() / 127.5 - 1
        mirrored, backwards = torch.rand(2, generator=generator) < 0.5
        clips = clips.flip(4) if mirrored else clips
        clips = clips.flip(2) if backwards else clips
        with torch.autocast(clips.device.type, torch.bfloat16):
            posterior = self._vae.encode(clips)[0]
            noise = torch.randn(posterior.mean.shape, generator=generator).to(clips.device)
            decoded = decode_latents(self._vae, posterior.mean + posterior.std * noise, generator)
        error = decoded.float() - clips
        weight = 1 + SALIENCY * (clips.amax(1, keepdim=True) - clips.amin(1, keepdim=True)) / 2
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).flatten(1).sum(1).mean() / 100
        return (weight * error.abs()).mean() + 4 * (weight * error.square()).mean() + KL_WEIGHT * divergence


@torch.no_grad()
def measure(vae: VideoVae, count: int = 32, seed: int = 7) -> Mapping[str, float]:
    """Reconstruct scenes that were never trained on: PSNR in dB, and what can still be read."""
    scenes = world.draw_scenes(count, seed)
    generator = torch.Generator().manual_seed(seed)
    psnr, hits = 0.0, {"colour": 0, "shape": 0, "motion": 0}
    for scene in scenes:
        frames = world.render(scene, SIDE, SIDE, LONGEST)
        clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(vae.device).float() / 127.5 - 1
        decoded = decode_latents(vae, vae.encode(clip)[0].mode(), generator).clamp(-1, 1)
        psnr += float(-10 * ((decoded - clip) / 2).square().mean().log10())
        seen = ((decoded[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().cpu().numpy()
        reading = world.read_video(seen)
        for what in hits:
            hits[what] += getattr(reading, what) == getattr(scene, what)
    return {"psnr": psnr / count, **{what: number / count for what, number in hits.items()}}


@torch.no_grad()
def fill_statistics(vae: VideoVae, count: int = 256, seed: int = 8) -> None:
    """Measure the mean and spread of each latent channel, by which latents are normalised."""
    clips = draw_clips(count, seed).to(vae.device)
    latents = torch.cat([vae.encode(clip[None].float() / 127.5 - 1)[0].mode() for clip in clips])
    vae.get_buffer("latents_mean").copy_(latents.mean((0, 2, 3, 4)))
    vae.get_buffer("latents_std").copy_(latents.std((0, 2, 3, 4)))
