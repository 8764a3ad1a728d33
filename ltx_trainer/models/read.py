"""From where a base model lies to its facts: what the readers of all families have in common."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.geometry import FrameSize, ScaleFactors
from ltx_trainer.models.facts import ModelFacts, Resolutions
from ltx_trainer.models.folder import OVERRIDES_FILE, TOKENIZER_CONFIG, check_pipeline, read_folder, read_json
from ltx_trainer.models.locate import Located
from ltx_trainer.models.reader import Parts, Reader, config_fact
from ltx_trainer.models.readers import reader_of
from ltx_trainer.models.suitable import config_names, name_signs, refuse_gguf, warn_if_unknown
from ltx_trainer.models.text_encoder import ENCODER_FOLDER, TOKENIZER_FOLDER, places, read_text_encoder


def read_model(
    base: Path | Located, family: str, *, version: str | None = None, allow_unsuitable_base: bool = False
) -> ModelFacts:
    """Check that a base model of a family is whole, and read its facts.

    Args:
        base: As `locate_model` gives it, or a folder.
        family: What the mode trains.
        version: Which of the family's versions it is, where the model does not say.
        allow_unsuitable_base: Take a distilled or 8-bit model too. LoRAs trained on one come out with little effect.

    Raises:
        ModelError: Files are missing or cut short, or the model is another one or unsuitable for training.
    """
    reader = reader_of(family)
    located = base if isinstance(base, Located) else Located(base, str(base))
    refuse_gguf(located.path)
    parts = reader.read_file(located.path) if located.path.is_file() else _read_folder(reader, located, version)
    text_encoder, tokenizer = _text_encoder_folders(reader, located)
    encoder = read_text_encoder(reader.encoder, text_encoder, tokenizer, parts.components)
    parts = replace(parts, components={**parts.components, encoder.name: encoder})
    found = reader.settle(located.source, parts, version, allowed=allow_unsuitable_base)
    if not reader.is_told(parts, found):
        warn_if_unknown(located.source, parts.names, parts.all_signs)
    vae = parts.components["vae"]
    time, space = reader.compression(vae)
    return ModelFacts(
        family=reader.family,
        version=found,
        name=_name(located, parts.overrides),
        source=located.source,
        revision=located.revision,
        origin=located.path,
        components=parts.components,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        factors=ScaleFactors(frames=time, rows=space, columns=space),
        video_channels=config_fact(vae, "latent_channels", int),
        audio=reader.audio(parts.components),
        num_blocks=config_fact(parts.components["transformer"], "num_layers", int),
        modules=reader.modules,
        max_text_tokens=_max_text_tokens(tokenizer, reader.max_text_tokens),
        resolutions=_resolutions(located.path, parts.overrides, reader.resolutions),
    )


def _read_folder(reader: Reader, located: Located, version: str | None) -> Parts:
    folder, layout = located.path, reader.layout
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not a folder. Give the folder of an {layout.title} model in the layout of diffusers."
        )
    check_pipeline(layout, folder, str(folder))
    reader.check_configs(folder, str(folder), version)
    model = read_folder(layout, folder)
    return Parts(
        components=model.components,
        names=(folder.name, *_repositories(folder), *_if_fetched(located)),
        signs=(*reader.config_signs(folder), *name_signs(config_names(folder))),
        config={},
        overrides=model.overrides,
    )


def _text_encoder_folders(reader: Reader, located: Located) -> tuple[Path, Path]:
    """Give the folders of the text encoder and of its tokenizer."""
    if located.path.is_dir():
        return located.path / ENCODER_FOLDER, located.path / TOKENIZER_FOLDER
    if located.text_encoder is None:
        raise ModelError(
            f"{located.path} is a unified file, which has no text encoder of its own. {reader.encoder.what_works}"
        )
    return places(located.text_encoder)


def _repositories(folder: Path) -> list[str]:
    """Give the repository that a folder in a hub's cache belongs to."""
    return [part for part in folder.resolve().parts if part.startswith("models--")]


def _if_fetched(located: Located) -> list[str]:
    return [located.source] if located.revision else []


def _name(located: Located, overrides: Mapping[str, Any]) -> str:
    if "name" in overrides:
        return str(overrides["name"])
    if located.revision:
        return located.source
    return located.path.stem if located.path.is_file() else located.path.resolve().name


def _max_text_tokens(tokenizer: Path, longest: int) -> int:
    config = tokenizer / TOKENIZER_CONFIG
    # A tokenizer without a limit says so with an absurd number, or not at all.
    own = read_json(config).get("model_max_length", longest)
    if not isinstance(own, int | float):
        raise ModelError(f"{config} says {own!r} for model_max_length, which is a number. Fetch the model again.")
    return int(min(longest, own))


def _resolutions(folder: Path, overrides: Mapping[str, Any], usual: Resolutions) -> Resolutions:
    table = overrides.get("resolutions")
    if table is None:
        return usual
    try:
        return MappingProxyType(
            {level: {aspect: FrameSize(*table[level][aspect]) for aspect in sizes} for level, sizes in usual.items()}
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"the resolutions in {folder / OVERRIDES_FILE} need the levels {', '.join(usual)}, each with "
            "[width, height] for 16:9, 1:1 and 9:16."
        ) from error
