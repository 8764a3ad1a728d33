"""The unified file of LTX-Video: how it is told from others, what its config says, and what it calls its tensors.

The config describes the video VAE as lists of blocks; the library's class numbers them by stages. Both orders follow
from the class's arguments, so the names do too.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.header import Entry
from ltx_trainer.models.unified import FileKind
from ltx_trainer.models.unified_names import (
    AUDIO_INPUT,
    STATISTICS,
    TRANSFORMER_PREFIX,
    VIDEO_STEPS,
    rename,
    transformer_key,
)
from ltx_trainer.models.unified_section import Arguments, Block, Rules, Section, Shapes, read_block
from ltx_trainer.models.versions import DEEP_BLOCK

VAE_PREFIX = "vae."
PREFIXES: Mapping[str, str] = {TRANSFORMER_PREFIX: "transformer", VAE_PREFIX: "vae"}
LEFT_OUT = re.compile(r"vae\.per_channel_statistics\.(channel|mean-of-stds|mean-of-stds_over_std-of-means)")

CAUSAL = "causal_temporal_positioning"
WHAT_WORKS = "Give Lightricks' own LTX-Video file (0.9.0 to 0.9.8-dev), or a folder in the layout of diffusers."

RULES = Rules(
    title="LTX-Video",
    allowed={
        "transformer": {
            "activation_fn": ("gelu-approximate",),
            "adaptive_norm": ("single_scale_shift",),
            "attention_bias": (True,),
            CAUSAL: (False, True),
            "double_self_attention": (False,),
            "norm_elementwise_affine": (False,),
            "only_cross_attention": (False,),
            "positional_embedding_type": ("rope",),
            "positional_embedding_theta": (10000.0,),
            "positional_embedding_max_pos": ([20, 2048, 2048],),
            "qk_norm": ("rms_norm",),
            "standardization_norm": ("rms_norm",),
            "timestep_scale_multiplier": (1000,),
        },
        "vae": {
            "dims": (3,),
            "latent_log_var": ("uniform",),
            "norm_layer": ("pixel_norm",),
            "normalize_latent_channels": (False,),
            "spatial_padding_mode": ("zeros",),
            "use_quant_conv": (False,),
        },
    },
    required={"transformer": ("num_layers", "qk_norm", "positional_embedding_type"), "vae": ("norm_layer",)},
    what_works=WHAT_WORKS,
)

TRANSFORMER: Mapping[str, tuple[str, Any]] = {
    "in_channels": ("in_channels", 128),
    "out_channels": ("out_channels", 128),
    "num_attention_heads": ("num_attention_heads", 32),
    "attention_head_dim": ("attention_head_dim", 64),
    "cross_attention_dim": ("cross_attention_dim", 2048),
    "num_layers": ("num_layers", 28),
    "norm_eps": ("norm_eps", 1e-6),
    "caption_channels": ("caption_channels", 4096),
}
"""The library's argument: the file's word for it, and what it is when the file has none."""

TRANSFORMER_ALWAYS: Arguments = {
    "patch_size": 1,
    "patch_size_t": 1,
    "activation_fn": "gelu-approximate",
    "qk_norm": "rms_norm_across_heads",
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "attention_out_bias": True,
}

STAGE, WIDEN = "res_x", "res_x_y"
FOLDED = {
    "compress_space_res": "spatial",
    "compress_time_res": "temporal",
    "compress_all_res": "spatiotemporal",
}
"""Downsamplers of the later encoder, which widen as they go."""
CONVOLVED = "compress_all"
FIRST_BLOCK = "LTXVideoDownBlock3D"

LAST_STEPS: Mapping[str, str] = {
    "last_time_embedder": "time_embedder",
    "last_scale_shift_table": "scale_shift_table",
}
"""Of the decoder itself; its blocks have steps of the library's names too."""
LIBRARY_STEPS = frozenset({"resnets", "latents_mean", "latents_std", "mid_block", "downsamplers", "upsamplers"})
"""What the library alone calls a step of the video VAE."""
LIBRARY_ENDS = re.compile(r".+\.(norm3\.(weight|bias)|conv_shortcut\.conv\.(weight|bias))")
NUMBERED = re.compile(r"(encoder\.down_blocks|decoder\.up_blocks)\.(0|[1-9][0-9]*)\.(.+)")


def is_causal(config: Mapping[str, Any]) -> bool:
    """Say which positions a file's config names; one that names none means those of the first versions."""
    transformer = config.get("transformer")
    return bool(isinstance(transformer, dict) and transformer.get(CAUSAL, False))


def _found(_config: Section, metadata: Mapping[str, str], entries: Mapping[str, Entry]) -> str:
    """Tell a silent model from one with sound."""
    if AUDIO_INPUT in entries:
        return f"LTX-{metadata.get('model_version', '2.x')}"
    return RULES.title


def component_of(key: str) -> str | None:
    """Name the component that a tensor of a file belongs to; None if it is left out or of no component."""
    if LEFT_OUT.fullmatch(key):
        return None
    return next((component for prefix, component in PREFIXES.items() if key.startswith(prefix)), None)


def component_arguments(config: Section, shapes: Shapes) -> dict[str, Arguments]:
    """Say how to build each component.

    Args:
        config: All of the file's config.
        shapes: Of the tensors in the file, which the config alone says enough without.

    Returns:
        The arguments of the library's class, by component; plain enough for JSON.

    Raises:
        ModelError: Something is missing, of another type, or nothing that the classes can compute.
    """
    del shapes
    transformer = config.inner("transformer")
    known = {argument: transformer.get(key, default) for argument, (key, default) in TRANSFORMER.items()}
    return {"transformer": {**known, **TRANSFORMER_ALWAYS}, "vae": _vae(config.inner("vae"))}


@dataclass(frozen=True)
class _Stage:
    """One stage between the pixels and the middle, as both lists have them: from the pixels inwards.

    Attributes:
        layers: What is said of its residual layers.
        resampler: Kind of its resampler; None without one.
        said: What is said of the resampler; of the widener where there is no resampler.
        widens: By how much the block after the resampler widens; 1 without one.
    """

    layers: Section
    resampler: str | None
    said: Section
    widens: int

    @property
    def factor(self) -> int:
        """By how much the resampler itself changes the width."""
        if self.resampler is None:
            return 1
        return self.said.size("multiplier", 2 if self.resampler in FOLDED else 1)


def _vae(section: Section) -> Arguments:
    encoder, downsamplers = _encoder(section)
    patch_size = section.size("patch_size", 1)
    return {
        "in_channels": section.get("in_channels", 3),
        "out_channels": section.get("out_channels", 3),
        "latent_channels": section.size("latent_channels", 128),
        "patch_size": patch_size,
        "patch_size_t": 1,
        "resnet_norm_eps": 1e-6,
        "scaling_factor": section.get("scaling_factor", 1.0),
        "timestep_conditioning": section.get("timestep_conditioning", default=False),
        "spatial_compression_ratio": patch_size * 2 ** sum(kind != "temporal" for kind in downsamplers),
        "temporal_compression_ratio": 2 ** sum(kind != "spatial" for kind in downsamplers),
        **encoder,
        **_decoder(section),
    }


def _encoder(section: Section) -> tuple[Arguments, list[str]]:
    """Say how to build the encoder, and what kinds of downsamplers it has."""
    stages, middle = _stages(section, "encoder_blocks", {*FOLDED, CONVOLVED})
    is_deep = any(stage.resampler in FOLDED for stage in stages)
    if is_deep and not all(stage.resampler in FOLDED and stage.widens == 1 for stage in stages):
        raise _unknown_order(section, "encoder_blocks")
    widths = [section.get("encoder_base_channels", 128)]
    for stage in stages:
        widths.append(widths[-1] * stage.widens * (stage.factor if is_deep else 1))
    if not is_deep and widths.pop() != widths[-1]:
        raise _unknown_order(section, "encoder_blocks")
    arguments = {
        "block_out_channels": widths,
        "down_block_types": [DEEP_BLOCK if is_deep else FIRST_BLOCK] * len(stages),
        "layers_per_block": [layers.get("num_layers", 1) for layers in (*(each.layers for each in stages), middle)],
        "spatio_temporal_scaling": [stage.resampler is not None for stage in stages],
        "downsample_type": [FOLDED.get(stage.resampler or "", "conv") for stage in stages],
        "encoder_causal": True,
    }
    return arguments, [FOLDED.get(stage.resampler, "conv") for stage in stages if stage.resampler]


def _decoder(section: Section) -> Arguments:
    """Say how to build the decoder, which the library's lists describe from the pixels inwards too."""
    stages, middle = _stages(section, "decoder_blocks", {CONVOLVED})
    width = section.get("decoder_base_channels", 128)
    for stage in stages:
        width *= stage.widens * stage.factor
    widths: list[int] = []
    for stage in reversed(stages):
        if stage.widens > 1 and stage.factor > 1:
            raise _unknown_order(section, "decoder_blocks")
        width //= stage.widens
        widths.insert(0, width)
        width //= stage.factor
    layers = [*(stage.layers for stage in stages), middle]
    return {
        "decoder_block_out_channels": widths,
        "decoder_layers_per_block": [each.get("num_layers", 1) for each in layers],
        "decoder_spatio_temporal_scaling": [stage.resampler is not None for stage in stages],
        "decoder_inject_noise": [each.get("inject_noise", default=False) for each in layers],
        "upsample_residual": [stage.said.get("residual", default=False) for stage in stages],
        "upsample_factor": [stage.factor for stage in stages],
        "decoder_causal": section.get("causal_decoder", default=False),
    }


def _stages(section: Section, key: str, resamplers: Collection[str]) -> tuple[list[_Stage], Section]:
    """Read a list of blocks: stages of residual layers, perhaps a resampler and perhaps a widener; then the middle."""
    waiting = _blocks(section, key)
    if len(waiting) < 2 or waiting[-1][0] != STAGE:
        raise _unknown_order(section, key)
    middle = waiting.pop()[1]
    stages: list[_Stage] = []
    while waiting:
        kind, layers = waiting.pop(0)
        if kind != STAGE:
            raise _unknown_order(section, key)
        resampler, said, widens = None, layers, 1
        if waiting and waiting[0][0] in resamplers:
            resampler, said = waiting.pop(0)
        if waiting and waiting[0][0] == WIDEN:
            widens = waiting.pop(0)[1].size("multiplier", 2)
        stages.append(_Stage(layers, resampler, said, widens))
    return stages, middle


def _blocks(section: Section, key: str) -> list[Block]:
    own = key if key in section.values else "blocks"
    return [read_block(section, own, block) for block in section.get(own, [])]


def _unknown_order(section: Section, key: str) -> ModelError:
    kinds = [kind for kind, _ in _blocks(section, key)]
    return ModelError(
        f"the config in {section.file} lists {', '.join(kinds) or 'nothing'} in {section.name}.{key}, which is no "
        f"video VAE of LTX-Video. {WHAT_WORKS}"
    )


def namer(arguments: Mapping[str, Arguments]) -> Callable[[str], str | None]:
    """Give what turns a file's name of a tensor into the one that the library's class has for it.

    Args:
        arguments: Of each component.

    Returns:
        A function of the name, which gives None for one that such a file does not use.
    """
    places = _places(arguments["vae"])

    def library_key(key: str) -> str | None:
        component = component_of(key)
        if component == "transformer":
            return transformer_key(key.removeprefix(TRANSFORMER_PREFIX))
        return _vae_key(key.removeprefix(VAE_PREFIX), places) if component == "vae" else None

    return library_key


def _places(vae: Arguments) -> dict[str, list[str]]:
    """Say where in the library's class each block of a file's two lists stands."""
    return {
        "encoder.down_blocks": list(_encoder_places(vae)),
        "decoder.up_blocks": list(_decoder_places(vae)),
    }


def _encoder_places(vae: Arguments) -> Iterator[str]:
    widths, is_deep = vae["block_out_channels"], DEEP_BLOCK in vae["down_block_types"]
    for index, scales in enumerate(vae["spatio_temporal_scaling"]):
        place = f"encoder.down_blocks.{index}"
        yield place
        if scales:
            yield f"{place}.downsamplers.0"
        # The last of the first versions' stages has no wider one after it.
        if not is_deep and widths[index] != widths[min(index + 1, len(widths) - 1)]:
            yield f"{place}.conv_out"
    yield "encoder.mid_block"


def _decoder_places(vae: Arguments) -> Iterator[str]:
    yield "decoder.mid_block"
    widths: Sequence[int] = vae["decoder_block_out_channels"][::-1]
    factors: Sequence[int] = vae["upsample_factor"][::-1]
    scales: Sequence[bool] = vae["decoder_spatio_temporal_scaling"][::-1]
    before = widths[0]
    for index, (width, factor, scaled) in enumerate(zip(widths, factors, scales, strict=True)):
        place = f"decoder.up_blocks.{index}"
        if before // factor != width // factor:
            yield f"{place}.conv_in"
        if scaled:
            yield f"{place}.upsamplers.0"
        yield place
        before = width // factor


def _vae_key(path: str, places: Mapping[str, list[str]]) -> str | None:
    if path in STATISTICS:
        return STATISTICS[path]
    if LIBRARY_ENDS.fullmatch(path):
        return None
    root, *rest = path.split(".")
    if root == "decoder":
        last = rename(rest[:1], LAST_STEPS)
        rest = None if last is None else [*last, *rest[1:]]
    renamed = None if rest is None else rename([root, *rest], VIDEO_STEPS, LIBRARY_STEPS)
    if renamed is None:
        return None
    numbered = NUMBERED.fullmatch(".".join(renamed))
    if numbered is None:
        return None if renamed[:2] in (["encoder", "down_blocks"], ["decoder", "up_blocks"]) else ".".join(renamed)
    blocks = places[numbered[1]]
    inner = numbered[3].replace("norm3.norm.", "norm3.").replace("conv_shortcut.", "conv_shortcut.conv.")
    return f"{blocks[int(numbered[2])]}.{inner}" if int(numbered[2]) < len(blocks) else None


LTX_VIDEO_FILE = FileKind(
    components=("transformer", "vae"),
    rules=RULES,
    found=_found,
    arguments=component_arguments,
    component_of=component_of,
    namer=namer,
    left_out=LEFT_OUT,
)
