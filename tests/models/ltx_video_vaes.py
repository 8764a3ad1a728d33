"""The video VAEs of LTX-Video, tiny and whole, as the library's arguments and as the config of a unified file.

Both are written by hand. A file's names of tensors are made of the library's by the list of what its blocks are, the
other way round than the package does it.
"""

import re
from collections.abc import Mapping
from typing import Any

FIRST_BLOCKS = [
    ["res_x", 4],
    ["compress_all", 1],
    ["res_x_y", 1],
    ["res_x", 3],
    ["compress_all", 1],
    ["res_x_y", 1],
    ["res_x", 3],
    ["compress_all", 1],
    ["res_x", 3],
    ["res_x", 4],
]
COMMON: Mapping[str, Any] = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
}
CONFIGS: Mapping[str, dict[str, Any]] = {
    "0.9.0": {**COMMON, "blocks": FIRST_BLOCKS},
    "0.9.1": {
        **COMMON,
        "decoder_blocks": [
            ["res_x", {"num_layers": 5, "inject_noise": True}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 6, "inject_noise": True}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 7, "inject_noise": True}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 8, "inject_noise": False}],
        ],
        "encoder_blocks": [
            ["res_x", {"num_layers": 4}],
            ["compress_all", {}],
            ["res_x_y", 1],
            ["res_x", {"num_layers": 3}],
            ["compress_all", {}],
            ["res_x_y", 1],
            ["res_x", {"num_layers": 3}],
            ["compress_all", {}],
            ["res_x", {"num_layers": 3}],
            ["res_x", {"num_layers": 4}],
        ],
        "timestep_conditioning": True,
    },
    "0.9.5": {
        **COMMON,
        "encoder_blocks": [
            ["res_x", {"num_layers": 4}],
            ["compress_space_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 6}],
            ["compress_time_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 6}],
            ["compress_all_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_all_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
        ],
        "decoder_blocks": [
            ["res_x", {"num_layers": 5, "inject_noise": False}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 5, "inject_noise": False}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 5, "inject_noise": False}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 5, "inject_noise": False}],
        ],
        "timestep_conditioning": True,
        "spatial_padding_mode": "zeros",
    },
}

ARGUMENTS: Mapping[str, dict[str, Any]] = {
    "0.9.0": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["LTXVideoDownBlock3D"] * 4,
        "decoder_block_out_channels": [128, 256, 512, 512],
        "layers_per_block": [4, 3, 3, 3, 4],
        "decoder_layers_per_block": [4, 3, 3, 3, 4],
        "spatio_temporal_scaling": [True, True, True, False],
        "decoder_spatio_temporal_scaling": [True, True, True, False],
        "decoder_inject_noise": [False] * 5,
        "downsample_type": ["conv"] * 4,
        "upsample_residual": [False] * 4,
        "upsample_factor": [1] * 4,
        "timestep_conditioning": False,
    },
    "0.9.1": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["LTXVideoDownBlock3D"] * 4,
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 3, 3, 3, 4],
        "decoder_layers_per_block": [5, 6, 7, 8],
        "spatio_temporal_scaling": [True, True, True, False],
        "decoder_spatio_temporal_scaling": [True] * 3,
        "decoder_inject_noise": [True, True, True, False],
        "downsample_type": ["conv"] * 4,
        "upsample_residual": [True] * 3,
        "upsample_factor": [2] * 3,
        "timestep_conditioning": True,
    },
    "0.9.5": {
        "block_out_channels": [128, 256, 512, 1024, 2048],
        "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 6, 6, 2, 2],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "spatio_temporal_scaling": [True] * 4,
        "decoder_spatio_temporal_scaling": [True] * 3,
        "decoder_inject_noise": [False] * 4,
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "upsample_residual": [True] * 3,
        "upsample_factor": [2] * 3,
        "timestep_conditioning": True,
    },
}
"""Of the library's class, where they differ between the versions."""

ENCODERS: Mapping[str, str] = {
    "0.9.0": "0 0.downsamplers.0 0.conv_out 1 1.downsamplers.0 1.conv_out 2 2.downsamplers.0 3 mid_block",
    "0.9.1": "0 0.downsamplers.0 0.conv_out 1 1.downsamplers.0 1.conv_out 2 2.downsamplers.0 3 mid_block",
    "0.9.5": "0 0.downsamplers.0 1 1.downsamplers.0 2 2.downsamplers.0 3 3.downsamplers.0 mid_block",
}
DECODERS: Mapping[str, str] = {
    "0.9.0": "mid_block 0 1.upsamplers.0 1 2.conv_in 2.upsamplers.0 2 3.conv_in 3.upsamplers.0 3",
    "0.9.1": "mid_block 0.upsamplers.0 0 1.upsamplers.0 1 2.upsamplers.0 2",
    "0.9.5": "mid_block 0.upsamplers.0 0 1.upsamplers.0 1 2.upsamplers.0 2",
}
"""What the library calls each block of a file's list, in the order of that list."""

PLAIN = (
    ("resnets.", "res_blocks."),
    (".norm3.", ".norm3.norm."),
    (".conv_shortcut.conv.", ".conv_shortcut."),
)
STATISTICS = {
    "latents_mean": "per_channel_statistics.mean-of-means",
    "latents_std": "per_channel_statistics.std-of-means",
}


def original_vae_name(version: str, key: str) -> str:
    """Turn the library's name of a tensor into the one in a unified file of a version."""
    if key in STATISTICS:
        return f"vae.{STATISTICS[key]}"
    key = re.sub(r"^decoder\.(time_embedder|scale_shift_table)", r"decoder.last_\1", key)
    for side, blocks, listed in (("encoder", "down_blocks", ENCODERS), ("decoder", "up_blocks", DECODERS)):
        places = listed[version].split()
        # The longest place that fits is the one.
        for place in sorted(places, key=len, reverse=True):
            library = f"{side}.{place}." if place == "mid_block" else f"{side}.{blocks}.{place}."
            if key.startswith(library):
                key = f"{side}.{blocks}.{places.index(place)}.{key.removeprefix(library)}"
                break
    for old, new in PLAIN:
        key = key.replace(old, new)
    return f"vae.{key}"


def original_transformer_name(key: str) -> str:
    """Turn the library's name of a tensor into the one in a unified file."""
    for old, new in (("proj_in.", "patchify_proj."), ("time_embed.", "adaln_single.")):
        if key.startswith(old):
            key = new + key.removeprefix(old)
    key = key.replace(".norm_q.", ".q_norm.").replace(".norm_k.", ".k_norm.")
    return f"model.diffusion_model.{key}"
