"""What a stage must know of the base model before any weight is loaded, wherever the model lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from ltx_trainer.errors import ModelError
from ltx_trainer.geometry import FrameSize, ScaleFactors, SoundGrid
from ltx_trainer.models.component import Component
from ltx_trainer.models.folder import OVERRIDES_FILE, TOKENIZER_CONFIG, read_folder, read_json, tokenizer_files
from ltx_trainer.models.gemma import WHAT_WORKS, read_gemma
from ltx_trainer.models.locate import Located
from ltx_trainer.models.suitable import (
    check_suitable,
    config_signs,
    name_signs,
    refuse_gguf,
    warn_if_unknown,
    weight_signs,
)
from ltx_trainer.models.unified import read_unified

Resolutions = Mapping[str, Mapping[str, FrameSize]]
Value = TypeVar("Value", int, list)


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
        max_text_tokens: Every prompt is padded or cut to this length.
        resolutions: Picture sizes by level (low, medium, high) and aspect ratio (16:9, 1:1, 9:16).
    """

    family: str
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
    max_text_tokens: int
    resolutions: Resolutions


FAMILY = "ltx-2.3"
MAX_TEXT_TOKENS = 1024

LTX2_RESOLUTIONS: Resolutions = MappingProxyType(
    {
        "low": {"16:9": FrameSize(512, 288), "1:1": FrameSize(512, 512), "9:16": FrameSize(288, 512)},
        "medium": {"16:9": FrameSize(768, 448), "1:1": FrameSize(768, 768), "9:16": FrameSize(448, 768)},
        "high": {"16:9": FrameSize(960, 544), "1:1": FrameSize(960, 960), "9:16": FrameSize(544, 960)},
    }
)

READ_TOGETHER: Mapping[str, tuple[str, ...]] = {
    "text_encoder": ("connectors", "text_encoder", "tokenizer"),
    "vae": ("vae",),
    "audio_vae": ("audio_vae",),
    "transformer": ("transformer",),
    "decoders": ("vae", "audio_vae", "vocoder"),
}


@dataclass(frozen=True)
class Parts:
    """What was found at a place, before it is held to anything.

    Attributes:
        components: The parts of the model, and the text encoder.
        text_encoder: Its folder.
        tokenizer: Its folder.
        names: What the model is called: folder, file and repository.
        signs: What says that it is unsuitable as a training base.
        is_told: Whether it says what it is; without signs it is then the full model.
        overrides: A name and picture sizes of its own.
    """

    components: Mapping[str, Component]
    text_encoder: Path
    tokenizer: Path
    names: tuple[str, ...]
    signs: tuple[str, ...]
    is_told: bool
    overrides: Mapping[str, Any]


def read_model(base: Path | Located, family: str, *, allow_unsuitable_base: bool = False) -> ModelFacts:
    """Check that a base model of a family is whole, and read its facts.

    Args:
        base: As `locate_model` gives it, or a folder.
        family: What the mode trains.
        allow_unsuitable_base: Take a distilled or 8-bit model too. LoRAs trained on one come out with little effect.

    Raises:
        ModelError: Files are missing or cut short, or the model is another one or unsuitable for training.
    """
    if family != FAMILY:
        raise ModelError(f"family {family!r} is not known. Known: {FAMILY}.")
    located = base if isinstance(base, Located) else Located(base, str(base))
    refuse_gguf(located.path)
    parts = _read_unified(located) if located.path.is_file() else _read_folder(located)
    signs = list(dict.fromkeys([*name_signs(parts.names), *parts.signs, *weight_signs(parts.components.values())]))
    check_suitable(located.source, signs, allowed=allow_unsuitable_base)
    if not parts.is_told:
        warn_if_unknown(located.source, parts.names, signs)
    return _facts(located, parts, family)


def component_files(facts: ModelFacts, component: str) -> tuple[Path, ...]:
    """List the files that decide what a component computes, in an order that does not depend on where they lie.

    Args:
        facts: Of the base model.
        component: `transformer`, `vae`, `audio_vae`; `text_encoder`, which stands for its tokenizer and the connectors
            too; or `decoders`, everything between latents and a preview.
    """
    return tuple(path for name in READ_TOGETHER[component] for path in _files(facts, name))


def _files(facts: ModelFacts, name: str) -> list[Path]:
    return tokenizer_files(facts.tokenizer) if name == "tokenizer" else list(facts.components[name].files)


def _read_folder(located: Located) -> Parts:
    folder = located.path
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder. Give the folder of an LTX-2.3 model in the layout of diffusers.")
    model = read_folder(folder)
    text_encoder, tokenizer = folder / "text_encoder", folder / "tokenizer"
    encoder = read_gemma(text_encoder, tokenizer, model.components["connectors"])
    return Parts(
        components={**model.components, encoder.name: encoder},
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        names=(folder.name, *_repositories(folder), *_if_fetched(located)),
        signs=tuple(config_signs(folder)),
        is_told=True,
        overrides=model.overrides,
    )


def _read_unified(located: Located) -> Parts:
    if located.text_encoder is None:
        raise ModelError(f"{located.path} is a unified file, which has no text encoder of its own. {WHAT_WORKS}")
    model = read_unified(located.path)
    encoder = read_gemma(located.text_encoder, located.text_encoder, model.components["connectors"])
    return Parts(
        components={**model.components, encoder.name: encoder},
        text_encoder=located.text_encoder,
        tokenizer=located.text_encoder,
        names=(located.path.name, located.path.resolve().name),
        signs=model.signs,
        is_told=False,
        overrides={},
    )


def _repositories(folder: Path) -> list[str]:
    """Give the repository that a folder in a hub's cache belongs to."""
    return [part for part in folder.resolve().parts if part.startswith("models--")]


def _if_fetched(located: Located) -> list[str]:
    return [located.source] if located.revision else []


def _facts(located: Located, parts: Parts, family: str) -> ModelFacts:
    vae = parts.components["vae"]
    space = _fact(vae, "spatial_compression_ratio", int)
    return ModelFacts(
        family=family,
        name=_name(located, parts.overrides),
        source=located.source,
        revision=located.revision,
        origin=located.path,
        components=parts.components,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        factors=ScaleFactors(frames=_fact(vae, "temporal_compression_ratio", int), rows=space, columns=space),
        video_channels=_fact(vae, "latent_channels", int),
        audio=_audio_facts(parts.components["audio_vae"]),
        num_blocks=_fact(parts.components["transformer"], "num_layers", int),
        max_text_tokens=_max_text_tokens(parts.tokenizer),
        resolutions=_resolutions(located.path, parts.overrides),
    )


def _name(located: Located, overrides: Mapping[str, Any]) -> str:
    if "name" in overrides:
        return str(overrides["name"])
    if located.revision:
        return located.source
    return located.path.stem if located.path.is_file() else located.path.resolve().name


def _max_text_tokens(tokenizer: Path) -> int:
    config = tokenizer / TOKENIZER_CONFIG
    # A tokenizer without a limit says so with an absurd number, or not at all.
    own = read_json(config).get("model_max_length", MAX_TEXT_TOKENS)
    if not isinstance(own, int | float):
        raise ModelError(f"{config} says {own!r} for model_max_length, which is a number. Fetch the model again.")
    return int(min(MAX_TEXT_TOKENS, own))


def _audio_facts(vae: Component) -> AudioFacts:
    rate_hz, hop_length = _fact(vae, "sample_rate", int), _fact(vae, "mel_hop_length", int)
    mel_bins = _fact(vae, "mel_bins", int)
    # Each level of the encoder but the last halves time and mel.
    halvings = 2 ** (len(_fact(vae, "ch_mult", list)) - 1)
    return AudioFacts(
        rate_hz=rate_hz,
        hop_length=hop_length,
        mel_bins=mel_bins,
        latent_channels=_fact(vae, "latent_channels", int),
        latent_mel_bins=mel_bins // halvings,
        tokens_per_second=Fraction(rate_hz, hop_length * halvings),
    )


def _resolutions(folder: Path, overrides: Mapping[str, Any]) -> Resolutions:
    table = overrides.get("resolutions")
    if table is None:
        return LTX2_RESOLUTIONS
    try:
        return MappingProxyType(
            {
                level: {aspect: FrameSize(*table[level][aspect]) for aspect in sizes}
                for level, sizes in LTX2_RESOLUTIONS.items()
            }
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"the resolutions in {folder / OVERRIDES_FILE} need the levels {', '.join(LTX2_RESOLUTIONS)}, each with "
            "[width, height] for 16:9, 1:1 and 9:16."
        ) from error


def _fact(component: Component, key: str, kind: type[Value]) -> Value:
    value = component.config.get(key)
    if not isinstance(value, kind):
        raise ModelError(
            f"the config of {component.origin} says {value!r} for {key}, which is of type {kind.__name__}. Fetch or "
            "convert the model again."
        )
    return value
