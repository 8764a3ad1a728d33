"""The LTX-2.x autoencoders behind the codecs' interface.

Shapes: b samples (always one), c channels, f frames, h rows, w columns, n samples, t steps, m mel bins.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
from diffusers.pipelines.ltx2 import LTX2VocoderWithBWE
from torch import Tensor

from ltx_trainer.errors import GeometryError
from ltx_trainer.models.component import Component
from ltx_trainer.models.facts import AudioFacts
from ltx_trainer.models.family import AudioCodec, VideoCodec
from ltx_trainer.models.log_mel import WINDOW_LENGTH, log_mel
from ltx_trainer.models.weights import load_component, placed, read_weight, working_dtype


@contextmanager
def open_video_codec(component: Component, device: torch.device) -> Iterator[VideoCodec]:
    """Load the video VAE of a base model for the length of the `with`.

    Raises:
        ModelError: The weights do not fit their config.
    """
    vae = load_component(AutoencoderKLLTX2Video, component, working_dtype(component, device), device)
    # As published, not as rounded to the precision of the rest.
    mean, std = (read_weight(component, name).float().to(device) for name in ("latents_mean", "latents_std"))
    with placed(vae, device):
        yield Ltx2VideoCodec(vae, mean, std)


@contextmanager
def open_audio_codec(
    vae_component: Component, vocoder_component: Component, facts: AudioFacts, device: torch.device
) -> Iterator[AudioCodec]:
    """Load the audio VAE and the vocoder of a base model for the length of the `with`, in float32.

    Raises:
        ModelError: The weights do not fit their configs.
    """
    vae = load_component(AutoencoderKLLTX2Audio, vae_component, torch.float32, device)
    vocoder = load_component(LTX2VocoderWithBWE, vocoder_component, torch.float32, device)
    with placed(vae, device), placed(vocoder, device):
        yield Ltx2AudioCodec(vae, vocoder, facts)


class Ltx2VideoCodec(VideoCodec):
    """The video VAE, with latents normalised per channel."""

    def __init__(self, vae: AutoencoderKLLTX2Video, mean: Tensor, std: Tensor) -> None:
        self._vae = vae
        self._scale = vae.config["scaling_factor"] / std.view(-1, 1, 1, 1)
        self._mean = mean.view(-1, 1, 1, 1)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        pixels = frames.to(self._vae.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        posterior = self._vae.encode(pixels.to(self._vae.dtype))[0]
        return ((posterior.mode()[0].float() - self._mean) * self._scale).cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        unscaled = latents.to(self._vae.device).float() / self._scale + self._mean
        pixels = self._vae.decode(unscaled[None].to(self._vae.dtype))[0][0].float()
        return ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).cpu()


class Ltx2AudioCodec(AudioCodec):
    """The audio VAE, with latents normalised per channel and bin, and the vocoder."""

    def __init__(self, vae: AutoencoderKLLTX2Audio, vocoder: LTX2VocoderWithBWE, facts: AudioFacts) -> None:
        self._vae = vae
        self._vocoder = vocoder
        self._facts = facts
        bins = (facts.latent_channels, 1, facts.latent_mel_bins)
        self._mean = vae.latents_mean.view(bins)
        self._std = vae.latents_std.view(bins)

    @property
    def output_rate_hz(self) -> int:
        return self._vocoder.config["output_sampling_rate"]

    @torch.no_grad()
    def encode(self, samples: Tensor, num_tokens: int) -> Tensor:
        self._check_length(samples, num_tokens)
        spectrogram = log_mel(
            samples.to(self._vae.device),
            rate_hz=self._facts.rate_hz,
            hop_length=self._facts.hop_length,
            mel_bins=self._facts.mel_bins,
        )
        mean = self._vae.encode(spectrogram[None])[0].mode()[0]
        return ((mean[:, :num_tokens] - self._mean) / self._std).cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        unscaled = latents.to(self._vae.device).float() * self._std + self._mean
        spectrogram = self._vae.decode(unscaled[None])[0]
        return self._vocoder(spectrogram)[0].cpu()

    def _check_length(self, samples: Tensor, num_tokens: int) -> None:
        """Refuse samples that end before the last token begins. Token 0 covers one hop, the encoder being causal."""
        samples_per_token = self._facts.rate_hz / self._facts.tokens_per_second
        enough = max(int(samples_per_token * (num_tokens - 1)), WINDOW_LENGTH // 2 + 1)
        if samples.shape[-1] < enough:
            raise GeometryError(
                f"{samples.shape[-1]} samples are too few for {num_tokens} audio tokens, which take at least {enough} "
                f"at {self._facts.rate_hz} Hz. Pad the sound with silence to the clip's length."
            )
