"""What the files of all families call their tensors alike, in the words of the library.

Whole steps of a path are renamed, each in one place of the path only. A name that is already the library's is not one
of a unified file, so no two names of a file become the same.
"""

from collections.abc import Mapping

from ltx_trainer.models.names import BLOCKS, library_name, published_name

TRANSFORMER_PREFIX = "model.diffusion_model."
VIDEO_INPUT, AUDIO_INPUT = (
    f"{TRANSFORMER_PREFIX}patchify_proj.weight",
    f"{TRANSFORMER_PREFIX}audio_patchify_proj.weight",
)
"""What a transformer with pictures, and one with sound, has."""

TABLES: Mapping[str, str] = {
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
}
STATISTICS: Mapping[str, str] = {
    "per_channel_statistics.mean-of-means": "latents_mean",
    "per_channel_statistics.std-of-means": "latents_std",
}
VIDEO_STEPS: Mapping[str, str] = {"res_blocks": "resnets"}


def transformer_key(path: str) -> str | None:
    """Turn the path of a transformer's tensor into the library's, or give None where it is the library's already."""
    library = library_name(path)
    if published_name(library) != path:
        return None
    root, *rest = library.split(".")
    renamed = rename(rest, TABLES) if root == BLOCKS else rest
    return None if renamed is None else ".".join([root, *renamed])


def rename(steps: list[str], names: Mapping[str, str], foreign: frozenset[str] = frozenset()) -> list[str] | None:
    """Rename whole steps, or give None where one of them is the library's already."""
    if foreign.intersection(steps) or not set(names.values()).isdisjoint(steps):
        return None
    return [names.get(step, step) for step in steps]
