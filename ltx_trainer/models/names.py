"""Names of the LTX-2.x transformer's modules: which a LoRA may train, and what the original checkpoint calls them."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from ltx_trainer.errors import ConfigError

BLOCKS = "transformer_blocks"

ATTENTION_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD_LAYERS = ("net.0.proj", "net.2")
GROUP_LAYERS: Mapping[str, tuple[str, ...]] = {
    "attn1": ATTENTION_LAYERS,
    "attn2": ATTENTION_LAYERS,
    "audio_attn1": ATTENTION_LAYERS,
    "audio_attn2": ATTENTION_LAYERS,
    "audio_to_video_attn": ATTENTION_LAYERS,
    "video_to_audio_attn": ATTENTION_LAYERS,
    "ff": FEED_FORWARD_LAYERS,
    "audio_ff": FEED_FORWARD_LAYERS,
}
AUDIO_GROUPS = frozenset({"audio_attn1", "audio_attn2", "audio_ff"})
CROSS_GROUPS = frozenset({"audio_to_video_attn", "video_to_audio_attn"})
IDLE_IN_LAST_BLOCK: Mapping[str, frozenset[str]] = {
    "video": frozenset({"audio_to_video_attn", "ff"}),
    "audio": frozenset({"video_to_audio_attn", "audio_ff"}),
}
"""Groups of the last block that only a stream's own prediction depends on, by stream."""

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


def check_groups(groups: Sequence[str], *, with_video: bool, with_audio: bool) -> None:
    """Refuse groups that no block has, or that would learn nothing because a stream is absent.

    Raises:
        ConfigError: With the group that was probably meant, or with what to do.
    """
    for group in groups:
        _check_group(group)
        if not with_audio and group in AUDIO_GROUPS | CROSS_GROUPS:
            raise ConfigError(
                f"LoRA target {group!r} learns nothing in a silent run. "
                "Take it out of lora.targets, or train with sound."
            )
        if not with_video and group not in AUDIO_GROUPS:
            raise ConfigError(
                f"LoRA target {group!r} learns nothing in a run without pictures. Take it out of lora.targets; "
                f"those that learn are {', '.join(sorted(AUDIO_GROUPS))}."
            )


def lora_modules(groups: Sequence[str], num_blocks: int, frozen: Collection[str] = ()) -> list[str]:
    """Name the linear layers of `groups` in all blocks, in full, so that no name is the end of another.

    Args:
        groups: Of each block.
        num_blocks: Of the transformer.
        frozen: Streams that are given whole. What only their prediction depends on, in the last block, is left out: it
            would learn nothing.

    Raises:
        ConfigError: A group is not known.
    """
    for group in groups:
        _check_group(group)
    idle = frozenset[str]().union(*(IDLE_IN_LAST_BLOCK[name] for name in frozen))
    return [
        f"{BLOCKS}.{block}.{group}.{layer}"
        for block in range(num_blocks)
        for group in groups
        if block < num_blocks - 1 or group not in idle
        for layer in GROUP_LAYERS[group]
    ]


def published_name(module: str) -> str:
    """Turn the library's path of a module into the original checkpoint's."""
    return _rename(module, PUBLISHED_ROOTS, PUBLISHED_IN_BLOCKS)


def library_name(module: str) -> str:
    """Turn the original checkpoint's path of a module into the library's."""
    return _rename(module, _inverse(PUBLISHED_ROOTS), _inverse(PUBLISHED_IN_BLOCKS))


def _check_group(group: str) -> None:
    if group in GROUP_LAYERS:
        return
    near = get_close_matches(group, GROUP_LAYERS, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"LoRA target {group!r} is not known.{meant} Known: {', '.join(GROUP_LAYERS)}.")


def _rename(module: str, roots: Mapping[str, str], in_blocks: Mapping[str, str]) -> str:
    """Rename whole steps of a path: the first by `roots`, those inside a block by `in_blocks`."""
    root, *rest = module.split(".")
    if root == BLOCKS:
        rest = [in_blocks.get(step, step) for step in rest]
    return ".".join([roots.get(root, root), *rest])


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {published: library for library, published in names.items()}
