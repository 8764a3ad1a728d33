"""A base model as a folder: which files it must hold, and what they say about it without loading a weight.

Only JSON and the headers of weight files are read, so a request is checked in milliseconds.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from ltx_trainer.errors import ModelError
from ltx_trainer.geometry import FrameSize, ScaleFactors

Resolutions = Mapping[str, Mapping[str, FrameSize]]
Value = TypeVar("Value")


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


@dataclass(frozen=True)
class ModelFacts:
    """What a stage must know of the base model before any weight is loaded.

    Attributes:
        family: As a row of the table of modes names it.
        folder: Where the model lies.
        name: What to call it in a published file.
        factors: Pixels of one latent cell.
        video_channels: Channels of a video latent.
        audio: None for a model without sound.
        num_blocks: Transformer blocks.
        max_text_tokens: Every prompt is padded or cut to this length.
        resolutions: Picture sizes by level (low, medium, high) and aspect ratio (16:9, 1:1, 9:16).
    """

    family: str
    folder: Path
    name: str
    factors: ScaleFactors
    video_channels: int
    audio: AudioFacts | None
    num_blocks: int
    max_text_tokens: int
    resolutions: Resolutions


FAMILY = "ltx-2.3"
OVERRIDES_FILE = "ltx_trainer.json"

MAX_TEXT_TOKENS = 1024

LTX2_RESOLUTIONS: Resolutions = MappingProxyType(
    {
        "low": {"16:9": FrameSize(512, 288), "1:1": FrameSize(512, 512), "9:16": FrameSize(288, 512)},
        "medium": {"16:9": FrameSize(768, 448), "1:1": FrameSize(768, 768), "9:16": FrameSize(448, 768)},
        "high": {"16:9": FrameSize(960, 544), "1:1": FrameSize(960, 960), "9:16": FrameSize(544, 960)},
    }
)

EIGHT_BIT = frozenset({"F8_E4M3", "F8_E5M2", "I8", "U8"})

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"
CONFIGS = {
    "transformer": "config.json",
    "vae": "config.json",
    "audio_vae": "config.json",
    "vocoder": "config.json",
    "connectors": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
WEIGHTS = {
    "transformer": DIFFUSERS_WEIGHTS,
    "vae": DIFFUSERS_WEIGHTS,
    "audio_vae": DIFFUSERS_WEIGHTS,
    "vocoder": DIFFUSERS_WEIGHTS,
    "connectors": DIFFUSERS_WEIGHTS,
    "text_encoder": TRANSFORMERS_WEIGHTS,
}
VOCABULARIES = ("tokenizer.json", "tokenizer.model")
READ_TOGETHER: Mapping[str, tuple[str, ...]] = {
    "text_encoder": ("text_encoder", "tokenizer", "connectors"),
    "vae": ("vae",),
    "audio_vae": ("audio_vae",),
    "transformer": ("transformer",),
}


def read_model(folder: Path, family: str, *, allow_unsuitable_base: bool = False) -> ModelFacts:
    """Check that a folder holds a whole base model of a family, and read its facts.

    Args:
        folder: A model in the layout of diffusers: `model_index.json` and one folder for each component.
        family: What the mode trains.
        allow_unsuitable_base: Take a distilled or 8-bit model too. LoRAs trained on one come out with little effect.

    Raises:
        ModelError: Files are missing or cut short, or the model is another one or unsuitable for training.
    """
    if family != FAMILY:
        raise ModelError(f"family {family!r} is not known. Known: {FAMILY}.")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder. Give the folder of an LTX-2.3 model in the layout of diffusers.")
    _check_pipeline(folder)
    _check_complete(folder)
    _check_version(folder)
    headers = dict(header for name in WEIGHTS for header in weight_headers(folder / name))
    if not allow_unsuitable_base:
        _check_suitable(folder, headers)
    return _facts(folder, family)


def component_files(folder: Path, component: str) -> tuple[Path, ...]:
    """List the files that decide what a component computes, sorted.

    Args:
        folder: The base model.
        component: `vae`, `audio_vae`, or `text_encoder`, which stands for its tokenizer and the connectors too.
    """
    files = [path for name in READ_TOGETHER[component] for path in _component_files(folder, name)]
    return tuple(sorted(files))


def _component_files(folder: Path, name: str) -> list[Path]:
    if name == "tokenizer":
        return [path for path in (folder / name).iterdir() if path.suffix in {".json", ".model"}]
    return [folder / name / CONFIGS[name], *_weight_files(folder / name)]


def _check_pipeline(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{folder} has no model_index.json. {_what_it_holds()}")
    found = _read_json(index).get("_class_name")
    if found != "LTX2Pipeline":
        raise ModelError(f"{folder} holds a model of {found}; this mode trains LTX-2.3, which is an LTX2Pipeline.")


def _check_complete(folder: Path) -> None:
    missing = [str(path.relative_to(folder)) for path in _missing_files(folder)]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. {_what_it_holds()}")


def _missing_files(folder: Path) -> Iterator[Path]:
    for name, config in CONFIGS.items():
        if not (folder / name / config).is_file():
            yield folder / name / config
    for name in WEIGHTS:
        yield from (path for path in _weight_files(folder / name) if not path.is_file())
    if not any((folder / "tokenizer" / name).is_file() for name in VOCABULARIES):
        yield folder / "tokenizer" / VOCABULARIES[0]


def weight_headers(component: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Read the header of each weight file that a component loads, and check that the file is as long as it says.

    Args:
        component: A folder of a base model, named as in `WEIGHTS`.

    Raises:
        ModelError: A file is missing or damaged.
    """
    for path in _weight_files(component):
        if path.suffix == ".safetensors":
            yield path, _read_header(path)


def _weight_files(folder: Path) -> list[Path]:
    """List a component's weight files: one, or an index and its shards."""
    weights = WEIGHTS[folder.name]
    index = folder / f"{weights}.index.json"
    if (folder / weights).is_file() or not index.is_file():
        return [folder / weights]
    shards = sorted(set(_fact(index, "weight_map", dict).values()))
    return [index, *(folder / shard for shard in shards)]


def _what_it_holds() -> str:
    return f"An LTX-2.3 folder holds model_index.json and the folders {', '.join(CONFIGS)}."


def _check_version(folder: Path) -> None:
    config = _read_json(folder / "transformer/config.json")
    if config.get("use_keyframes_abs_pos_embedding"):
        version = "2.5"
    elif config.get("cross_attn_mod") and not config.get("use_prompt_embeddings", True):
        return
    else:
        version = "2.0"
    raise ModelError(f"{folder} holds LTX-{version}; this mode trains LTX-2.3, whose LoRAs and prompts are its own.")


def _read_header(path: Path) -> Mapping[str, Any]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            content = file.read(min(length, size))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}. Fetch it again.") from error
    try:
        header = {key: value for key, value in json.loads(content).items() if key != "__metadata__"}
        promised = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is not a safetensors file, or its header is damaged. Fetch it again.") from error
    if promised != size:
        raise ModelError(f"{path} has {size} bytes where its header promises {promised}. Fetch it again.")
    return header


def _check_suitable(folder: Path, headers: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuse a base on which LoRAs come out with little or no effect: distilled, or in 8 bits."""
    scheduler = _read_json(folder / "scheduler/scheduler_config.json")
    signs = []
    if not scheduler.get("use_dynamic_shifting"):
        signs.append("its scheduler is a distilled model's (use_dynamic_shifting is off)")
    if any("distilled" in name.lower() for name in _names(folder)):
        signs.append("its name says distilled")
    eight_bit = sorted({entry["dtype"] for header in headers.values() for entry in header.values()} & EIGHT_BIT)
    if eight_bit:
        signs.append(f"its weights are {', '.join(eight_bit)}")
    if signs:
        raise ModelError(
            f"{folder} is unsuitable as a training base: {'; '.join(signs)}. Train on the full (dev) checkpoint in "
            "bfloat16, or allow an unsuitable base explicitly."
        )


def _names(folder: Path) -> list[str]:
    """Give what the model is called: its folder, its repository in a hub's cache, and its configs' own word."""
    repositories = [part for part in folder.resolve().parts if part.startswith("models--")]
    configs = (folder / "model_index.json", folder / "transformer/config.json")
    return [folder.name, *repositories, *(str(_read_json(path).get("_name_or_path", "")) for path in configs)]


def _facts(folder: Path, family: str) -> ModelFacts:
    overrides = _read_json(folder / OVERRIDES_FILE) if (folder / OVERRIDES_FILE).is_file() else {}
    vae = folder / "vae/config.json"
    space = _fact(vae, "spatial_compression_ratio", int)
    return ModelFacts(
        family=family,
        folder=folder,
        name=overrides.get("name", folder.resolve().name),
        factors=ScaleFactors(frames=_fact(vae, "temporal_compression_ratio", int), rows=space, columns=space),
        video_channels=_fact(vae, "latent_channels", int),
        audio=_audio_facts(folder),
        num_blocks=_fact(folder / "transformer/config.json", "num_layers", int),
        max_text_tokens=_max_text_tokens(folder),
        resolutions=_resolutions(folder, overrides),
    )


def _max_text_tokens(folder: Path) -> int:
    # A tokenizer without a limit says so with an absurd number, or not at all.
    own = _read_json(folder / "tokenizer/tokenizer_config.json").get("model_max_length", MAX_TEXT_TOKENS)
    return min(MAX_TEXT_TOKENS, int(own))


def _audio_facts(folder: Path) -> AudioFacts:
    config = folder / "audio_vae/config.json"
    rate_hz, hop_length = _fact(config, "sample_rate", int), _fact(config, "mel_hop_length", int)
    mel_bins = _fact(config, "mel_bins", int)
    # Each level of the encoder but the last halves time and mel.
    halvings = 2 ** (len(_fact(config, "ch_mult", list)) - 1)
    return AudioFacts(
        rate_hz=rate_hz,
        hop_length=hop_length,
        mel_bins=mel_bins,
        latent_channels=_fact(config, "latent_channels", int),
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


def _fact(config: Path, key: str, kind: type[Value]) -> Value:
    value = _read_json(config).get(key)
    if not isinstance(value, kind):
        raise ModelError(
            f"{config} says {value!r} for {key}, which is of type {kind.__name__}. Fetch or convert the model again."
        )
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}. Fetch it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a JSON object. Fetch it again.")
    return content
