"""What a stage may ask of a base model, whatever its family.

Shapes: b samples, c channels, n tokens, l text tokens, d text features; in codecs f frames, h rows, w columns,
n samples of sound, t steps, m mel bins.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from ltx_trainer.diffusion.guidance import GuidanceScales, LevelGuidance
from ltx_trainer.diffusion.tokens import ModelStream, audio_coordinates, video_coordinates
from ltx_trainer.geometry import ClipShape
from ltx_trainer.models import names
from ltx_trainer.models.facts import ModelFacts, component_files
from ltx_trainer.models.weights import check_component

TIMESTEP_SCALE = 1000
"""What the library's transformers multiply noise levels by."""


@dataclass(frozen=True)
class SamplingDefaults:
    """How previews are sampled unless the settings say otherwise.

    Attributes:
        num_steps: Denoising steps.
        scales: Guidance of each stream.
        stg_blocks: Blocks whose self-attention STG replaces by its values.
        levels: What holds in place of both at higher noise levels, the highest first.
        of_velocity: Whether velocities are combined and rescaled, or estimates of the clip.
        fits_negative: Whether the negative prediction is first scaled to come as near to the positive one as it can.
    """

    num_steps: int
    scales: Mapping[str, GuidanceScales]
    stg_blocks: tuple[int, ...]
    levels: tuple[LevelGuidance, ...] = ()
    of_velocity: bool = False
    fits_negative: bool = False


class VideoCodec(ABC):
    """Pictures to latents and back; one clip at a time."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Encode uint8 frames `[f h w 3]` to normalised float32 latents on the CPU `[c f' h' w']`, their mean."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents `[c f' h' w']` to uint8 frames on the CPU `[f h w 3]`."""


class AudioCodec(ABC):
    """Sound to latents and back; one clip at a time."""

    @property
    @abstractmethod
    def output_rate_hz(self) -> int:
        """Rate of what `decode` gives, which is not the rate that `encode` takes."""

    @abstractmethod
    def encode(self, samples: Tensor, num_tokens: int) -> Tensor:
        """Encode stereo float32 samples `[2 n]` to normalised float32 latents on the CPU `[c t m]`, their mean.

        Args:
            samples: At the model's rate, in [-1, 1].
            num_tokens: The steps wanted; what the encoder gives beyond them is cut off.

        Raises:
            GeometryError: The samples are too few for `num_tokens`.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents `[c t m]` to stereo float32 samples on the CPU `[2 n]`, at `output_rate_hz`."""


class Family(ABC):
    """One base model. Weights are loaded by the methods that need them, never before.

    Attributes:
        facts: As read from its files.
        classes: The library's class of each component.
    """

    classes: Mapping[str, type[ModelMixin]]

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts

    def component_files(self, component: str) -> tuple[Path, ...]:
        """List the files that decide what `vae`, `audio_vae` or `text_encoder` computes; a cache's keys hash them."""
        return component_files(self.facts, component)

    @property
    def is_causal(self) -> bool:
        """Whether latent frame 0 stands for pixel frame 0 alone in the positions of tokens."""
        return True

    def video_coordinates(self, shape: ClipShape) -> Tensor:
        """Give the bounds of each video token of a clip `[3 n 2]`.

        Raises:
            GeometryError: The clip does not fit the model.
        """
        factors = self.facts.factors
        return video_coordinates(shape.latent_grid(factors), factors, shape.frame_rate, causal=self.is_causal)

    def audio_coordinates(self, num_tokens: int) -> Tensor:
        """Give the bounds in seconds of each audio token of a clip `[1 t 2]`."""
        audio = self.facts.audio
        assert audio is not None, "asked of a model with sound"
        return audio_coordinates(
            num_tokens,
            hops_per_token=audio.grid.hops_per_token,
            hop_length=audio.hop_length,
            rate_hz=audio.rate_hz,
        )

    def check_weights(self) -> None:
        """Hold the weight files to the model's classes by their headers, before anything is computed.

        Raises:
            ModelError: Tensors are missing, left over or of another shape.
        """
        for name, model_class in self.classes.items():
            check_component(model_class, self.facts.components[name])

    @property
    @abstractmethod
    def sampling(self) -> SamplingDefaults:
        """How previews are sampled by default."""

    @abstractmethod
    def sigmas(self, num_steps: int, num_tokens: int) -> list[float]:
        """Give the `num_steps + 1` noise levels that sampling descends, from 1 down to 0.

        Args:
            num_steps: Denoising steps.
            num_tokens: Tokens of the target, those that are joined to it not counted.
        """

    @abstractmethod
    def prompt_batches(self, texts: Iterable[str]) -> list[tuple[str, ...]]:
        """Say which texts are read together, each distinct one once. The order of `texts` does not matter.

        What is read together is rounded together, so the last bits of a text's embeddings depend on its batch.
        """

    @abstractmethod
    def encode_prompts(
        self, texts: Sequence[str], device: torch.device, *, scratch: Path, wanted: Collection[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Give each wanted text, once, with its embeddings on the CPU, by name: what `predict` reads, without a batch.

        `video` `[l d]` is always there. They come in the order of `prompt_batches`, and with the same bits whichever
        of `texts` are wanted. One large component is on the device at a time.

        Args:
            texts: Any texts; the empty one too.
            device: Where to compute.
            scratch: A folder with room for some 10 GB. What is put there is taken away again; who comes second waits.
            wanted: Those to give; None for all.

        Raises:
            OutOfResources: The disk of `scratch` is full.
        """

    @abstractmethod
    def video_codec(self, device: torch.device) -> AbstractContextManager[VideoCodec]:
        """Load the video VAE; its memory is given back at the end of the `with`."""

    @abstractmethod
    def audio_codec(self, device: torch.device) -> AbstractContextManager[AudioCodec]:
        """Load the audio VAE and the vocoder; their memory is given back at the end of the `with`."""

    @abstractmethod
    def transformer(
        self, device: torch.device, dtype: torch.dtype, *, gradient_checkpointing: bool = False
    ) -> AbstractContextManager[nn.Module]:
        """Load the transformer, frozen and in evaluation mode; its memory is given back at the end of the `with`.

        Args:
            device: Where it is kept.
            dtype: What its weights are kept in.
            gradient_checkpointing: Compute each block again in the backward pass, to save memory.
        """

    @abstractmethod
    def predict(
        self,
        transformer: nn.Module,
        streams: Mapping[str, ModelStream],
        prompt: Mapping[str, Tensor],
        *,
        stg_blocks: tuple[int, ...] = (),
        isolate: bool = False,
    ) -> dict[str, Tensor]:
        """Predict the velocity of each stream in float32 `[b n c]`.

        Args:
            transformer: From `transformer`, or a wrapper of it.
            streams: `video`, `audio` or both.
            prompt: As `encode_prompts` gives it, in batches, whichever streams are there.
            stg_blocks: Blocks whose self-attention is replaced by its values (STG).
            isolate: Keep the streams from attending to each other.
        """

    def lora_modules(self, groups: Sequence[str], *, frozen: Collection[str] = ()) -> list[str]:
        """Name the linear layers of `groups` in all blocks, in full.

        Args:
            groups: Of each block.
            frozen: Streams that are given whole; what would learn nothing beside them is left out.

        Raises:
            ConfigError: A group is not known; the message names the one that was probably meant.
        """
        return names.lora_modules(self.facts.modules, groups, self.facts.num_blocks, frozen)

    def published_name(self, module: str) -> str:
        """Turn the library's path of a module into the path in the model's original checkpoint."""
        return names.published_name(module)

    def library_name(self, module: str) -> str:
        """Turn a path in the model's original checkpoint into the library's; the inverse of `published_name`."""
        return names.library_name(module)


def cast_inputs(
    inputs: Sequence[str],
) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """Make a forward pre-hook that brings inputs, by their names, to the type of a transformer's weights.

    What it does not name, timesteps and coordinates, stays exact.
    """

    def hook(
        transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        dtype = transformer.get_parameter("proj_in.weight").dtype
        return args, kwargs | {name: kwargs[name].to(dtype) for name in inputs}

    return hook


def open_family(facts: ModelFacts) -> Family:
    """Give the family of a model read by `read_model`."""
    # The families import this module.
    from ltx_trainer.models.ltx2 import Ltx2Family
    from ltx_trainer.models.ltx_video import LtxVideoFamily

    known: Mapping[str, type[Family]] = {"ltx-2.3": Ltx2Family, "ltx-video": LtxVideoFamily}
    return known[facts.family](facts)
