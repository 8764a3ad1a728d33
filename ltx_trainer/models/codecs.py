"""The autoencoders of both families behind the codecs' interface.

Shapes: b samples (always one), c channels, f frames, h rows, w columns, n samples, t steps, m mel bins.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, AutoencoderKLLTXVideo
from diffusers.pipelines.ltx2 import LTX2VocoderWithBWE
from torch import Tensor

from ltx_trainer.errors import GeometryError
from ltx_trainer.models.component import Component
from ltx_trainer.models.facts import AudioFacts
from ltx_trainer.models.family import AudioCodec, VideoCodec
from ltx_trainer.models.log_mel import WINDOW_LENGTH, log_mel
from ltx_trainer.models.weights import load_component, placed, read_weight, working_dtype

VideoVae = AutoencoderKLLTX2Video | AutoencoderKLLTXVideo

DECODE_SEED = 0
DECODE_TIMESTEP, DECODE_NOISE_SCALE = 0.05, 0.025
"""Of video VAEs that also remove a little noise: the level that the decoder is told, and the share that is mixed in."""


@contextmanager
def open_video_codec(vae_class: type[VideoVae], component: Component, device: torch.device) -> Iterator[VideoCodec]:
    """Load the video VAE of a base model for the length of the `with`.

    Raises:
        ModelError: The weights do not fit their config.
    """
    vae = load_component(vae_class, component, working_dtype(component, device), device)
    # As published, not as rounded to the precision of the rest.
    mean, std = (read_weight(component, name).float().to(device) for name in ("latents_mean", "latents_std"))
    with placed(vae, device):
        yield VaeVideoCodec(vae, mean, std)


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


def decode_latents(vae: VideoVae, latents: Tensor, generator: torch.Generator) -> Tensor:
    """Decode latents `[b c f h w]`, as the VAE is scaled, to pixels around 0 `[b 3 f h w]`.

    A decoder that also removes noise is given some, drawn on the CPU.

    Args:
        vae: The video VAE.
        latents: To decode.
        generator: On the CPU.
    """
    if not vae.config.get("timestep_conditioning"):
        return vae.decode(latents)[0]
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    timestep = torch.full((len(latents),), DECODE_TIMESTEP, dtype=latents.dtype, device=latents.device)
    return vae.decode((1 - DECODE_NOISE_SCALE) * latents + DECODE_NOISE_SCALE * noise, timestep)[0]


class VaeVideoCodec(VideoCodec):
    """A video VAE, with latents normalised per channel. The same latents always decode to the same frames."""

    def __init__(self, vae: VideoVae, mean: Tensor, std: Tensor) -> None:
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
        generator = torch.Generator().manual_seed(DECODE_SEED)
        with self._own_randomness():
            pixels = decode_latents(self._vae, unscaled[None].to(self._vae.dtype), generator)[0].float()
        return ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).cpu()

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Seed the global generators, which the library draws from in decoders that add noise between layers."""
        if not any(self._vae.config.get("decoder_inject_noise", ())):
            yield
            return
        device = self._vae.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(DECODE_SEED)
            yield


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
