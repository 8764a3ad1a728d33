"""Names of the transformers' modules: which a LoRA may train, and what the original checkpoints call them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from ltx_trainer.errors import ConfigError

BLOCKS = "transformer_blocks"

ATTENTION_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD_LAYERS = ("net.0.proj", "net.2")


@dataclass(frozen=True)
class ModuleGroups:
    """What a LoRA may train in each block of a family's transformer.

    Attributes:
        layers: The linear layers of each group.
        audio: Groups of the audio stream alone.
        cross: Groups between the streams.
        idle_in_last_block: Groups of the last block that only a stream's own prediction depends on, by stream.
    """

    layers: Mapping[str, tuple[str, ...]]
    audio: frozenset[str] = frozenset()
    cross: frozenset[str] = frozenset()
    idle_in_last_block: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))


VIDEO_LAYERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"attn1": ATTENTION_LAYERS, "attn2": ATTENTION_LAYERS, "ff": FEED_FORWARD_LAYERS}
)
LTX2_GROUPS = ModuleGroups(
    layers=MappingProxyType(
        {
            "attn1": ATTENTION_LAYERS,
            "attn2": ATTENTION_LAYERS,
            "audio_attn1": ATTENTION_LAYERS,
            "audio_attn2": ATTENTION_LAYERS,
            "audio_to_video_attn": ATTENTION_LAYERS,
            "video_to_audio_attn": ATTENTION_LAYERS,
            "ff": FEED_FORWARD_LAYERS,
            "audio_ff": FEED_FORWARD_LAYERS,
        }
    ),
    audio=frozenset({"audio_attn1", "audio_attn2", "audio_ff"}),
    cross=frozenset({"audio_to_video_attn", "video_to_audio_attn"}),
    idle_in_last_block=MappingProxyType(
        {
            "video": frozenset({"audio_to_video_attn", "ff"}),
            "audio": frozenset({"video_to_audio_attn", "audio_ff"}),
        }
    ),
)
LTX_VIDEO_GROUPS = ModuleGroups(layers=VIDEO_LAYERS)

PUBLISHED_ROOTS: Mapping[str, str] = {
    "proj_in": "patchify_proj",
    "audio_proj_in": "audio_patchify_proj",
    "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single",
    "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
}
PUBLISHED_IN_BLOCKS: Mapping[str, str] = {"norm_q": "q_norm", "norm_k": "k_norm"}
"""LTX-Video has those of these modules that have nothing to do with sound, under the same names."""


def check_groups(known: ModuleGroups, groups: Sequence[str], *, with_video: bool, with_audio: bool) -> None:
    """Refuse groups that no block has, or that would learn nothing because a stream is absent.

    Args:
        known: Of the base model.
        groups: Asked for.
        with_video: Whether there are pictures.
        with_audio: Whether there is sound.

    Raises:
        ConfigError: With the group that was probably meant, or with what to do.
    """
    for group in groups:
        _check_group(known, group)
        if not with_audio and group in known.audio | known.cross:
            raise ConfigError(
                f"LoRA target {group!r} learns nothing in a silent run. "
                "Take it out of lora.targets, or train with sound."
            )
        if not with_video and group not in known.audio:
            raise ConfigError(
                f"LoRA target {group!r} learns nothing in a run without pictures. Take it out of lora.targets; "
                f"those that learn are {', '.join(sorted(known.audio))}."
            )


def lora_modules(
    known: ModuleGroups, groups: Sequence[str], num_blocks: int, frozen: Collection[str] = ()
) -> list[str]:
    """Name the linear layers of `groups` in all blocks, in full, so that no name is the end of another.

    Args:
        known: Of the base model.
        groups: Of each block.
        num_blocks: Of the transformer.
        frozen: Streams that are given whole. What only their prediction depends on, in the last block, is left out: it
            would learn nothing.

    Raises:
        ConfigError: A group is not known.
    """
    for group in groups:
        _check_group(known, group)
    idle = frozenset[str]().union(*(known.idle_in_last_block.get(name, ()) for name in frozen))
    return [
        f"{BLOCKS}.{block}.{group}.{layer}"
        for block in range(num_blocks)
        for group in groups
        if block < num_blocks - 1 or group not in idle
        for layer in known.layers[group]
    ]


def published_name(module: str) -> str:
    """Turn the library's path of a module into the original checkpoint's."""
    return _rename(module, PUBLISHED_ROOTS, PUBLISHED_IN_BLOCKS)


def library_name(module: str) -> str:
    """Turn the original checkpoint's path of a module into the library's."""
    return _rename(module, _inverse(PUBLISHED_ROOTS), _inverse(PUBLISHED_IN_BLOCKS))


def _check_group(known: ModuleGroups, group: str) -> None:
    if group in known.layers:
        return
    near = get_close_matches(group, known.layers, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"LoRA target {group!r} is not known.{meant} Known: {', '.join(known.layers)}.")


def _rename(module: str, roots: Mapping[str, str], in_blocks: Mapping[str, str]) -> str:
    """Rename whole steps of a path: the first by `roots`, those inside a block by `in_blocks`."""
    root, *rest = module.split(".")
    if root == BLOCKS:
        rest = [in_blocks.get(step, step) for step in rest]
    return ".".join([roots.get(root, root), *rest])


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {published: library for library, published in names.items()}
