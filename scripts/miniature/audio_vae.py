"""The audio VAE: reconstruction of the spectrograms of tones, with a little of the loss that keeps latents in bounds.

A loud bin weighs more than a quiet one: pitch is in the few bins of the tone, not in the hiss between them.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Audio
from torch import Tensor

from ltx_trainer import world
from ltx_trainer.models.log_mel import log_mel
from ltx_trainer.models.miniature import HOP_LENGTH, MEL_BINS, RATE_HZ
from miniature.parts import Recipe

RECIPE = Recipe(steps=4_000, peak_rate=3e-3, average=0.995)
NUM_SCENES = 1500
BATCH_SIZE = 6
SECONDS = 1.5
LONGEST, SHORTEST = 140, 40
"""Spectrogram frames of a batch."""

FIRST_LOG_VARIANCE = -6.0
LOUDNESS_WEIGHT = 2.0
KL_WEIGHT = 1e-4


def prepare(vae: AutoencoderKLLTX2Audio) -> None:
    """Change the class's own start in place, so that latents carry something from the first step."""
    with torch.no_grad():
        weight, bias = (vae.get_parameter(f"encoder.conv_out.conv.{name}") for name in ("weight", "bias"))
        bias[len(bias) // 2 :] = FIRST_LOG_VARIANCE
        weight[len(weight) // 2 :] *= 0.1


def draw_sounds(count: int, seed: int) -> Tensor:
    """Draw tones of many lengths and loudnesses, a third of them beating, as samples `[n 2 samples]`."""
    draw = np.random.default_rng(seed)
    num_samples = int(SECONDS * RATE_HZ)
    sounds = []
    for scene in world.draw_scenes(count, seed):
        beats_hz = draw.uniform(4, 10) if draw.random() < 1 / 3 else 0.0
        sound = world.sing(replace(scene, beats_hz=beats_hz), int(num_samples * draw.uniform(0.25, 1)), RATE_HZ)
        sound = np.pad(sound, ((0, 0), (0, num_samples - sound.shape[1])))
        sounds.append(sound * draw.uniform(0.5, 2.5))
    return torch.from_numpy(np.stack(sounds).astype(np.float32))


def hear(sounds: Tensor) -> Tensor:
    """Give the spectrograms of samples `[.. 2 n]`, as the engine hears them `[.. 2 t m]`."""
    return log_mel(sounds, rate_hz=RATE_HZ, hop_length=HOP_LENGTH, mel_bins=MEL_BINS)


class Loss:
    """The loss of a batch drawn from a fixed pool of sounds."""

    def __init__(self, vae: AutoencoderKLLTX2Audio, seed: int) -> None:
        self._vae = vae
        self._seed = seed

    @cached_property
    def _pool(self) -> Tensor:
        return hear(draw_sounds(NUM_SCENES, self._seed)).to(self._vae.device)

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch: pieces of one length, from the beginnings half of the time."""
        length = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=generator))
        chosen = torch.randint(len(self._pool), (BATCH_SIZE,), generator=generator)
        latest = self._pool.shape[2] - length
        start = int(torch.randint(latest + 1, (), generator=generator) * torch.randint(2, (), generator=generator))
        spectrograms = self._pool[chosen, :, start : start + length]
        with torch.autocast(spectrograms.device.type, torch.bfloat16):
            posterior = self._vae.encode(spectrograms)[0]
            noise = torch.randn(posterior.mean.shape, generator=generator).to(spectrograms.device)
            decoded = self._vae.decode(posterior.mean + posterior.std * noise)[0]
        # The decoder may give a few frames fewer than the encoder took.
        heard = spectrograms[:, :, : decoded.shape[2]]
        weight = 1 + LOUDNESS_WEIGHT * torch.sigmoid(heard)
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        return (weight * (decoded.float() - heard).abs()).mean() + KL_WEIGHT * divergence


@torch.no_grad()
def measure(vae: AutoencoderKLLTX2Audio, count: int = 32, seed: int = 7) -> Mapping[str, float]:
    """Reconstruct tones that were never trained on: how far spectrograms and their loudest bins are off."""
    spectrograms = hear(draw_sounds(count, seed)).to(vae.device)
    decoded = vae.decode(vae.encode(spectrograms)[0].mode())[0]
    heard = spectrograms[:, :, : decoded.shape[2]]
    loud = heard.amax(-1) > 0
    off = (decoded.argmax(-1) - heard.argmax(-1)).abs()[loud].float()
    return {"error": float((decoded - heard).abs().mean()), "bins_off": float(off.mean())}


@torch.no_grad()
def fill_statistics(vae: AutoencoderKLLTX2Audio, count: int = 256, seed: int = 8) -> None:
    """Measure the mean and spread of each latent channel and bin, by which latents are normalised."""
    spectrograms = hear(draw_sounds(count, seed)).to(vae.device)
    latents = vae.encode(spectrograms[:, :, :LONGEST])[0].mode().transpose(1, 2).flatten(2)
    vae.get_buffer("latents_mean").copy_(latents.mean((0, 1)))
    vae.get_buffer("latents_std").copy_(latents.std((0, 1)))
