"""How models of LTX-Video are told and read, without torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.facts import LTX2_RESOLUTIONS
from ltx_trainer.models.folder import CONFIG_FILE, OVERRIDES_FILE, Layout, read_json, read_overrides
from ltx_trainer.models.names import LTX_VIDEO_GROUPS
from ltx_trainer.models.reader import Parts, Reader
from ltx_trainer.models.t5 import T5
from ltx_trainer.models.unified_ltx_video import LTX_VIDEO_FILE, is_causal
from ltx_trainer.models.versions import Version, candidates, known_names


class LtxVideoReader(Reader):
    """LTX-Video 0.9.x: several versions of two sizes, silent."""

    family = "ltx-video"
    layout = Layout(
        title="LTX-Video",
        pipelines=("LTXPipeline", "LTXConditionPipeline", "LTXImageToVideoPipeline"),
        components=("transformer", "vae"),
        vocabularies=T5.vocabularies,
    )
    file = LTX_VIDEO_FILE
    encoder = T5
    default_encoder = "PixArt-alpha/PixArt-XL-2-1024-MS"
    modules = LTX_VIDEO_GROUPS
    max_text_tokens = 256
    # The page of the hosted trainer names the levels and not their sizes.
    resolutions = LTX2_RESOLUTIONS

    def check_configs(self, folder: Path, source: str, asked: str | None) -> None:
        configs = [folder / name / CONFIG_FILE for name in ("transformer", "vae")]
        # A part without a config is missing, which is told with all that is.
        if all(path.is_file() for path in configs):
            rows = candidates(*map(read_json, configs), causal=None)
            _settled(source, rows, asked, read_overrides(folder))

    def version(self, source: str, parts: Parts, asked: str | None) -> str | None:
        transformer, vae = (parts.components[name].config for name in ("transformer", "vae"))
        rows = candidates(transformer, vae, causal=is_causal(parts.config) if parts.config else None)
        return _settled(source, rows, asked, parts.overrides)

    def is_told(self, parts: Parts, version: str | None) -> bool:
        del parts
        # The label of a row of several names is none of them. Distilled models have names of their own.
        return version in known_names()

    def compression(self, vae: Component) -> tuple[int, int]:
        # Folders of the first versions say nothing of it; the class works it out of the stages.
        config = vae.config
        halvings = sum(config.get("spatio_temporal_scaling", (True, True, True, False)))
        time = config.get("temporal_compression_ratio") or config.get("patch_size_t", 1) * 2**halvings
        space = config.get("spatial_compression_ratio") or config.get("patch_size", 4) * 2**halvings
        return int(time), int(space)


def _settled(source: str, rows: Sequence[Version], asked: str | None, overrides: Mapping[str, Any]) -> str:
    """Name the version that configs allow: as the settings or the folder name it, or as the one row of the table."""
    if not rows:
        raise ModelError(
            f"the transformer and the video VAE in {source} are together of no known version of LTX-Video. Known: "
            f"{', '.join(known_names())}. Give one of these as Lightricks or diffusers publish it."
        )
    said = overrides.get("version")
    named, place = (asked, "model.version") if asked is not None else (said, OVERRIDES_FILE)
    return _only(source, rows) if named is None else _named(source, rows, str(named), place)


def _only(source: str, rows: Sequence[Version]) -> str:
    """Give the label of the one row that the configs allow."""
    if len(rows) > 1:
        raise ModelError(
            f"{source} does not say which version of LTX-Video it is, and positions, guidance or steps differ "
            f"between those that it may be. Set model.version to one of {_names(rows)}."
        )
    return rows[0].label


def _named(source: str, rows: Sequence[Version], name: str, place: str) -> str:
    """Give a name that was said, if the configs allow it."""
    if not any(name in row.names for row in rows):
        raise ModelError(
            f"{place} says {name}, and the transformer and the video VAE in {source} are those of {_names(rows)}. "
            "Name one of these, or leave it out."
        )
    return name


def _names(rows: Sequence[Version]) -> str:
    return ", ".join(name for row in rows for name in row.names)
