"""What a stage must know of the base model before any weight is loaded, wherever the model lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from ltx_trainer.geometry import FrameSize, ScaleFactors, SoundGrid
from ltx_trainer.models.component import Component
from ltx_trainer.models.folder import tokenizer_files
from ltx_trainer.models.names import ModuleGroups

Resolutions = Mapping[str, Mapping[str, FrameSize]]

LTX2_RESOLUTIONS: Resolutions = MappingProxyType(
    {
        "low": {"16:9": FrameSize(512, 288), "1:1": FrameSize(512, 512), "9:16": FrameSize(288, 512)},
        "medium": {"16:9": FrameSize(768, 448), "1:1": FrameSize(768, 768), "9:16": FrameSize(448, 768)},
        "high": {"16:9": FrameSize(960, 544), "1:1": FrameSize(960, 960), "9:16": FrameSize(544, 960)},
    }
)
"""Of the hosted trainers of LTX-2.3."""


@dataclass(frozen=True)
class AudioFacts:
    """How the model hears.

    Attributes:
        rate_hz: Rate of the waveform that the audio encoder takes.
        hop_length: Samples from one spectrogram frame to the next.
        mel_bins: Bins of the spectrogram.
        latent_channels: Channels of an audio latent.
        latent_mel_bins: Bins of an audio latent.
        tokens_per_second: Audio tokens in a second of clip.
    """

    rate_hz: int
    hop_length: int
    mel_bins: int
    latent_channels: int
    latent_mel_bins: int
    tokens_per_second: Fraction

    @property
    def grid(self) -> SoundGrid:
        """How sound is cut to tokens."""
        hops_per_second = Fraction(self.rate_hz, self.hop_length)
        return SoundGrid(hops_per_second, int(hops_per_second / self.tokens_per_second))


@dataclass(frozen=True)
class ModelFacts:
    """What a stage must know of the base model before any weight is loaded.

    Attributes:
        family: As a row of the table of modes names it.
        version: As the family's own table names it; None for a family of one version.
        name: What to call it in a published file.
        source: What the settings call it.
        revision: The commit of a model from the hub.
        origin: The folder or file that it lies in.
        components: The parts of the model, and the text encoder, by the names of the library's folders.
        text_encoder: Folder that the text encoder is loaded from.
        tokenizer: Folder that its tokenizer is loaded from.
        factors: Pixels of one latent cell.
        video_channels: Channels of a video latent.
        audio: None for a model without sound.
        num_blocks: Transformer blocks.
        modules: What a LoRA may train in each of them.
        max_text_tokens: Every prompt is padded or cut to this length.
        resolutions: Picture sizes by level (low, medium, high) and aspect ratio (16:9, 1:1, 9:16).
    """

    family: str
    version: str | None
    name: str
    source: str
    revision: str | None
    origin: Path
    components: Mapping[str, Component]
    text_encoder: Path
    tokenizer: Path
    factors: ScaleFactors
    video_channels: int
    audio: AudioFacts | None
    num_blocks: int
    modules: ModuleGroups
    max_text_tokens: int
    resolutions: Resolutions


READ_TOGETHER: Mapping[str, tuple[str, ...]] = {
    "text_encoder": ("connectors", "text_encoder", "tokenizer"),
    "vae": ("vae",),
    "audio_vae": ("audio_vae",),
    "transformer": ("transformer",),
    "decoders": ("vae", "audio_vae", "vocoder"),
}
"""Components that compute something together, as far as a model has them."""


def component_files(facts: ModelFacts, component: str) -> tuple[Path, ...]:
    """List the files that decide what a component computes, in an order that does not depend on where they lie.

    Args:
        facts: Of the base model.
        component: `transformer`, `vae`, `audio_vae`; `text_encoder`, which stands for its tokenizer and the connectors
            too; or `decoders`, everything between latents and a preview.
    """
    return tuple(path for name in READ_TOGETHER[component] for path in _files(facts, name))


def _files(facts: ModelFacts, name: str) -> list[Path]:
    if name == "tokenizer":
        return tokenizer_files(facts.tokenizer)
    return list(facts.components[name].files) if name in facts.components else []
