"""The LTX-2.x family: pictures and sound from one transformer.

Shapes: b samples, n tokens, c channels, l text tokens, d text features.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    LTX2VideoTransformer3DModel,
    ModelMixin,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2VocoderWithBWE
from torch import Tensor, nn

from ltx_trainer.diffusion.guidance import GuidanceScales
from ltx_trainer.diffusion.schedule import sampling_sigmas
from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.models.codecs import open_audio_codec, open_video_codec
from ltx_trainer.models.facts import AudioFacts
from ltx_trainer.models.family import TIMESTEP_SCALE, AudioCodec, Family, SamplingDefaults, VideoCodec, cast_inputs
from ltx_trainer.models.own_timesteps import modulate_by_own_timesteps
from ltx_trainer.models.prompts import encode_prompts, prompt_batches
from ltx_trainer.models.weights import load_component, placed

STG_BLOCK = 28
NUM_STEPS = 30

CAST_INPUTS = (
    "hidden_states",
    "audio_hidden_states",
    "encoder_hidden_states",
    "audio_encoder_hidden_states",
)


class Ltx2Family(Family):
    """A base model of LTX-2.3."""

    classes: Mapping[str, type[ModelMixin]] = {
        "transformer": LTX2VideoTransformer3DModel,
        "vae": AutoencoderKLLTX2Video,
        "audio_vae": AutoencoderKLLTX2Audio,
        "vocoder": LTX2VocoderWithBWE,
        "connectors": LTX2TextConnectors,
    }

    @property
    def audio_facts(self) -> AudioFacts:
        """The facts of a model that always has sound."""
        assert self.facts.audio is not None
        return self.facts.audio

    @property
    def sampling(self) -> SamplingDefaults:
        last_block = self.facts.num_blocks - 1
        return SamplingDefaults(
            num_steps=NUM_STEPS,
            scales={
                "video": GuidanceScales(cfg=3.0, stg=1.0, modality=3.0, rescale=0.7),
                "audio": GuidanceScales(cfg=7.0, stg=1.0, modality=3.0, rescale=0.7),
            },
            stg_blocks=(min(STG_BLOCK, last_block),),
        )

    def sigmas(self, num_steps: int, num_tokens: int) -> list[float]:
        del num_tokens
        return sampling_sigmas(num_steps)

    def prompt_batches(self, texts: Iterable[str]) -> list[tuple[str, ...]]:
        return prompt_batches(self.facts, texts)

    def encode_prompts(
        self, texts: Sequence[str], device: torch.device, *, scratch: Path, wanted: Collection[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        return encode_prompts(self.facts, texts, device, scratch=scratch, wanted=wanted)

    def video_codec(self, device: torch.device) -> AbstractContextManager[VideoCodec]:
        return open_video_codec(AutoencoderKLLTX2Video, self.facts.components["vae"], device)

    def audio_codec(self, device: torch.device) -> AbstractContextManager[AudioCodec]:
        components = self.facts.components
        return open_audio_codec(components["audio_vae"], components["vocoder"], self.audio_facts, device)

    @contextmanager
    def transformer(
        self, device: torch.device, dtype: torch.dtype, *, gradient_checkpointing: bool = False
    ) -> Iterator[nn.Module]:
        # Without perturbed_attn the library takes the perturbed blocks and silently leaves them as they are.
        transformer = load_component(
            LTX2VideoTransformer3DModel, self.facts.components["transformer"], dtype, device, perturbed_attn=True
        )
        if gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        transformer.register_forward_pre_hook(cast_inputs(CAST_INPUTS), with_kwargs=True)
        modulate_by_own_timesteps(transformer)
        with placed(transformer, device):
            yield transformer

    def predict(
        self,
        transformer: nn.Module,
        streams: Mapping[str, ModelStream],
        prompt: Mapping[str, Tensor],
        *,
        stg_blocks: tuple[int, ...] = (),
        isolate: bool = False,
    ) -> dict[str, Tensor]:
        video = streams["video"] if "video" in streams else self._nothing_seen(streams["audio"])
        audio = streams["audio"] if "audio" in streams else self._nothing_heard(streams["video"])
        video_velocity, audio_velocity = transformer(
            hidden_states=video.tokens,
            audio_hidden_states=audio.tokens,
            encoder_hidden_states=prompt["video"],
            audio_encoder_hidden_states=prompt["audio"],
            timestep=video.timesteps * TIMESTEP_SCALE,
            audio_timestep=audio.timesteps * TIMESTEP_SCALE,
            sigma=video.sigma * TIMESTEP_SCALE,
            audio_sigma=audio.sigma * TIMESTEP_SCALE,
            video_coords=video.coordinates,
            audio_coords=audio.coordinates,
            isolate_modalities=isolate or len(streams) == 1,
            spatio_temporal_guidance_blocks=list(stg_blocks),
            return_dict=False,
        )
        velocities = {"video": video_velocity, "audio": audio_velocity}
        return {name: velocities[name].float() for name in streams}

    def _nothing_seen(self, audio: ModelStream) -> ModelStream:
        return _one_empty_token(audio, self.facts.video_channels, num_axes=3)

    def _nothing_heard(self, video: ModelStream) -> ModelStream:
        channels = self.audio_facts.latent_channels * self.audio_facts.latent_mel_bins
        return _one_empty_token(video, channels, num_axes=1)


def _one_empty_token(other: ModelStream, num_channels: int, num_axes: int) -> ModelStream:
    """Stand in for an absent stream, which the transformer cannot do without; isolated, it touches nothing."""
    batch_size = len(other.tokens)
    return ModelStream(
        tokens=other.tokens.new_zeros(batch_size, 1, num_channels),
        timesteps=other.timesteps.new_zeros(batch_size, 1),
        sigma=other.sigma.new_zeros(batch_size),
        coordinates=other.coordinates.new_zeros(batch_size, num_axes, 1, 2),
    )
