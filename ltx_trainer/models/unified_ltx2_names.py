"""What the parts of an LTX-2.3 file call their tensors, in the words of the library.

Whole steps of a path are renamed, each in one place of the path only. A name that is already the library's is not one
of a unified file, so no two names of a file become the same.
"""

import re
from collections.abc import Mapping

from ltx_trainer.models.unified_names import STATISTICS, TRANSFORMER_PREFIX, VIDEO_STEPS, rename, transformer_key

PREFIXES: Mapping[str, str] = {
    f"{TRANSFORMER_PREFIX}video_embeddings_connector.": "connectors",
    f"{TRANSFORMER_PREFIX}audio_embeddings_connector.": "connectors",
    "text_embedding_projection.": "connectors",
    TRANSFORMER_PREFIX: "transformer",
    "vae.": "vae",
    "audio_vae.": "audio_vae",
    "vocoder.": "vocoder",
}
"""Which component a name belongs to; the first prefix that fits holds."""

CONNECTOR_ROOTS: Mapping[str, str] = {
    f"{TRANSFORMER_PREFIX}video_embeddings_connector.": "video_connector.",
    f"{TRANSFORMER_PREFIX}audio_embeddings_connector.": "audio_connector.",
    "text_embedding_projection.video_aggregate_embed.": "video_text_proj_in.",
    "text_embedding_projection.audio_aggregate_embed.": "audio_text_proj_in.",
}
CONNECTOR_STEPS: Mapping[str, str] = {
    "transformer_1d_blocks": "transformer_blocks",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
VIDEO_BLOCKS = (["encoder", "down_blocks"], ["decoder", "up_blocks"])
VIDEO_BLOCK = re.compile(r"(encoder\.down_blocks|decoder\.up_blocks)\.(0|[1-9][0-9]*)\.(.+)")
VOCODER_STEPS: Mapping[str, str] = {
    "conv_pre": "conv_in",
    "conv_post": "conv_out",
    "act_post": "act_out",
    "ups": "upsamplers",
    "resblocks": "resnets",
}

LIBRARY_STEPS = frozenset({"latents_mean", "latents_std", "mid_block", "downsamplers", "upsamplers"})
"""What the library alone calls a step of the video VAE."""

LEFT_OUT = re.compile(
    r"(vae|audio_vae)\.per_channel_statistics\.(channel|mean-of-stds|mean-of-stds_over_std-of-means)"
    r"|vocoder\.resampler\.filter"
)
"""Tensors that nothing computes with: further statistics, and a filter that the library computes itself."""


def component_of(key: str) -> str | None:
    """Name the component that a tensor of a unified file belongs to; None if it is left out or of no component."""
    if LEFT_OUT.fullmatch(key):
        return None
    return next((component for prefix, component in PREFIXES.items() if key.startswith(prefix)), None)


def library_key(key: str, num_stages: int) -> str | None:
    """Turn a unified file's name of a tensor into the one that the library's class has for it.

    Args:
        key: As in the file, of a component.
        num_stages: Stages of the video encoder, each ending in a downsampler; the blocks after them are its middle.

    Returns:
        The name in the component's class; None for a name that a unified file does not use.
    """
    component = component_of(key)
    if component == "transformer":
        return transformer_key(key.removeprefix(TRANSFORMER_PREFIX))
    if component == "connectors":
        return _connectors_key(key)
    if component == "vae":
        return _video_key(key.removeprefix("vae."), num_stages)
    if component == "audio_vae":
        return _audio_key(key.removeprefix("audio_vae."))
    return _vocoder_key(key.removeprefix("vocoder.")) if component == "vocoder" else None


def _connectors_key(key: str) -> str | None:
    for prefix, root in CONNECTOR_ROOTS.items():
        if key.startswith(prefix):
            renamed = rename(key.removeprefix(prefix).split("."), CONNECTOR_STEPS)
            return None if renamed is None else root + ".".join(renamed)
    return None


def _video_key(path: str, num_stages: int) -> str | None:
    if path in STATISTICS:
        return STATISTICS[path]
    renamed = rename(path.split("."), VIDEO_STEPS, LIBRARY_STEPS)
    if renamed is None:
        return None
    if renamed[:2] not in VIDEO_BLOCKS:
        return ".".join(renamed)
    block = VIDEO_BLOCK.fullmatch(".".join(renamed))
    return _video_block_key(block[1], int(block[2]), block[3], num_stages) if block else None


def _video_block_key(blocks: str, number: int, rest: str, num_stages: int) -> str | None:
    """Name what stands in a list of stages and resamplers in turn, with the middle at the narrow end."""
    stage, is_odd = divmod(number, 2)
    if blocks == "encoder.down_blocks":
        if number >= 2 * num_stages:
            return f"encoder.mid_block.{rest}" if number == 2 * num_stages else None
        return f"{blocks}.{stage}.downsamplers.0.{rest}" if is_odd else f"{blocks}.{stage}.{rest}"
    if is_odd:
        return f"{blocks}.{stage}.upsamplers.0.{rest}"
    return f"{blocks}.{stage - 1}.{rest}" if stage else f"decoder.mid_block.{rest}"


def _audio_key(path: str) -> str | None:
    if path in STATISTICS:
        return STATISTICS[path]
    return None if path in STATISTICS.values() else path


def _vocoder_key(path: str) -> str | None:
    steps = path.split(".")
    if steps[-2:] == ["downsample", "filter"]:
        return None
    if steps[-3:] == ["downsample", "lowpass", "filter"]:
        del steps[-2]
    renamed = rename(steps, VOCODER_STEPS)
    return None if renamed is None else ".".join(renamed)
