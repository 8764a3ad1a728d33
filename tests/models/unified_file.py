"""A tiny model in the layout of Lightricks' unified file, written from the library's classes.

Everything is said twice and by hand: as the library's arguments, and as the config of a unified file. Names are turned
from the library's into the file's, the other way round than the package does it.
"""

import copy
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2VocoderWithBWE
from safetensors.torch import save_file
from torch import Tensor, nn

CLASSES: Mapping[str, Any] = {
    "transformer": LTX2VideoTransformer3DModel,
    "vae": AutoencoderKLLTX2Video,
    "audio_vae": AutoencoderKLLTX2Audio,
    "vocoder": LTX2VocoderWithBWE,
    "connectors": LTX2TextConnectors,
}

TINY: Mapping[str, dict[str, Any]] = {
    "transformer": {
        "in_channels": 8,
        "out_channels": 8,
        "num_attention_heads": 2,
        "attention_head_dim": 32,
        "cross_attention_dim": 64,
        "vae_scale_factors": [8, 32, 32],
        "pos_embed_max_pos": 10,
        "base_height": 512,
        "base_width": 1024,
        "gated_attn": True,
        "cross_attn_mod": True,
        "audio_in_channels": 32,
        "audio_out_channels": 32,
        "audio_num_attention_heads": 4,
        "audio_attention_head_dim": 8,
        "audio_cross_attention_dim": 32,
        "audio_scale_factor": 4,
        "audio_pos_embed_max_pos": 12,
        "audio_sampling_rate": 8000,
        "audio_hop_length": 80,
        "audio_gated_attn": True,
        "audio_cross_attn_mod": True,
        "num_layers": 2,
        "norm_eps": 1e-5,
        "caption_channels": 24,
        "rope_theta": 5000.0,
        "rope_double_precision": True,
        "timestep_scale_multiplier": 500,
        "cross_attn_timestep_scale_multiplier": 250,
        "rope_type": "split",
        "use_prompt_embeddings": False,
        "perturbed_attn": True,
    },
    "connectors": {
        "caption_channels": 24,
        "text_proj_in_factor": 3,
        "video_connector_num_attention_heads": 4,
        "video_connector_attention_head_dim": 16,
        "video_connector_num_layers": 2,
        "video_connector_num_learnable_registers": 8,
        "video_gated_attn": True,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 16,
        "audio_connector_num_layers": 1,
        "audio_connector_num_learnable_registers": 4,
        "audio_gated_attn": True,
        "connector_rope_base_seq_len": 512,
        "rope_double_precision": True,
        "rope_type": "split",
        "per_modality_projections": True,
        "video_hidden_dim": 64,
        "audio_hidden_dim": 32,
        "proj_bias": True,
    },
    "vae": {
        "latent_channels": 8,
        "block_out_channels": [16, 32, 32, 32],
        "down_block_types": ["LTX2VideoDownBlock3D"] * 4,
        "decoder_block_out_channels": [16, 32, 32, 64],
        "layers_per_block": [1, 2, 1, 1, 1],
        "decoder_layers_per_block": [1, 2, 1, 1, 3],
        "spatio_temporal_scaling": [True] * 4,
        "decoder_spatio_temporal_scaling": [True] * 4,
        "decoder_inject_noise": [False, False, False, False, True],
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
        "upsample_residual": [False, True, False, False],
        "upsample_factor": [2, 2, 1, 2],
        "timestep_conditioning": False,
        "scaling_factor": 0.5,
        "encoder_causal": True,
        "decoder_causal": True,
        "encoder_spatial_padding_mode": "reflect",
        "decoder_spatial_padding_mode": "replicate",
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
    "audio_vae": {
        "base_channels": 32,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": None,
        "resolution": 128,
        "latent_channels": 2,
        "norm_type": "pixel",
        "causality_axis": "height",
        "mid_block_add_attention": False,
        "sample_rate": 8000,
        "mel_hop_length": 80,
        "is_causal": True,
        "mel_bins": 64,
    },
    "vocoder": {
        "hidden_channels": 32,
        "upsample_kernel_sizes": [11, 8, 8],
        "upsample_factors": [5, 4, 4],
        "resnet_kernel_sizes": [3, 7],
        "resnet_dilations": [[1, 3], [1, 5]],
        "final_act_fn": None,
        "bwe_in_channels": 64,
        "bwe_hidden_channels": 16,
        "bwe_upsample_kernel_sizes": [11, 8, 12],
        "bwe_upsample_factors": [5, 4, 6],
        "bwe_resnet_kernel_sizes": [3],
        "bwe_resnet_dilations": [[1, 2, 4]],
        "filter_length": 128,
        "hop_length": 40,
        "window_length": 128,
        "num_mel_channels": 32,
        "input_sampling_rate": 8000,
        "output_sampling_rate": 24000,
    },
}

TINY_CONFIG: Mapping[str, Any] = {
    "transformer": {
        "_class_name": "AVTransformer3DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "in_channels": 8,
        "out_channels": 8,
        "num_attention_heads": 2,
        "attention_head_dim": 32,
        "cross_attention_dim": 64,
        "audio_in_channels": 32,
        "audio_out_channels": 32,
        "audio_num_attention_heads": 4,
        "audio_attention_head_dim": 8,
        "audio_cross_attention_dim": 32,
        "num_layers": 2,
        "norm_eps": 1e-5,
        "norm_elementwise_affine": False,
        "qk_norm": "rms_norm",
        "caption_channels": 24,
        "positional_embedding_type": "rope",
        "positional_embedding_theta": 5000.0,
        "positional_embedding_max_pos": [10, 512, 1024],
        "audio_positional_embedding_max_pos": [12],
        "causal_temporal_positioning": True,
        "timestep_scale_multiplier": 500,
        "av_ca_timestep_scale_multiplier": 250.0,
        "rope_type": "split",
        "frequencies_precision": "float64",
        "apply_gated_attention": True,
        "cross_attention_adaln": True,
        "caption_proj_before_connector": True,
        "connector_num_attention_heads": 4,
        "connector_attention_head_dim": 16,
        "connector_num_layers": 2,
        "connector_num_learnable_registers": 8,
        "connector_positional_embedding_max_pos": [512],
        "connector_apply_gated_attention": True,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 16,
        "audio_connector_num_layers": 1,
    },
    "vae": {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 8,
        "encoder_blocks": [
            ["res_x", {"num_layers": 1}],
            ["compress_space_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_time_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 1}],
            ["compress_all_res", {"multiplier": 1}],
            ["res_x", 1],
            ["compress_all_res", {"multiplier": 1}],
            ["res_x", {"num_layers": 1}],
        ],
        "decoder_blocks": [
            ["res_x", {"num_layers": 1}],
            ["compress_space", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_time", {"multiplier": 2, "residual": True}],
            ["res_x", {"num_layers": 1}],
            ["compress_all", {"multiplier": 1}],
            ["res_x", {"num_layers": 1}],
            ["compress_all", {"multiplier": 2}],
            ["res_x", {"num_layers": 3, "inject_noise": True}],
        ],
        "scaling_factor": 0.5,
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "causal_decoder": True,
        "timestep_conditioning": False,
        "decoder_base_channels": 8,
        "encoder_spatial_padding_mode": "reflect",
        "spatial_padding_mode": "replicate",
    },
    "audio_vae": {
        "model": {
            "params": {
                "sampling_rate": 8000,
                "ddconfig": {
                    "ch": 32,
                    "out_ch": 2,
                    "ch_mult": [1, 1, 2],
                    "num_res_blocks": 1,
                    "attn_resolutions": [],
                    "in_channels": 2,
                    "resolution": 128,
                    "z_channels": 2,
                    "norm_type": "pixel",
                    "causality_axis": "height",
                    "mid_block_add_attention": False,
                    "mel_bins": 64,
                    "double_z": True,
                },
            }
        },
        "preprocessing": {"stft": {"hop_length": 80, "causal": True}},
    },
    "vocoder": {
        "vocoder": {
            "resblock": "AMP1",
            "stereo": True,
            "upsample_initial_channel": 32,
            "upsample_rates": [5, 4, 4],
            "upsample_kernel_sizes": [11, 8, 8],
            "resblock_kernel_sizes": [3, 7],
            "resblock_dilation_sizes": [[1, 3], [1, 5]],
            "activation": "snakebeta",
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
        },
        "bwe": {
            "resblock": "AMP1",
            "stereo": True,
            "upsample_initial_channel": 16,
            "upsample_rates": [5, 4, 6],
            "upsample_kernel_sizes": [11, 8, 12],
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 2, 4]],
            "activation": "snakebeta",
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
            "apply_final_activation": False,
            "input_sampling_rate": 8000,
            "output_sampling_rate": 24000,
            "hop_length": 40,
            "n_fft": 128,
            "num_mels": 32,
        },
    },
}

FULL: Mapping[str, dict[str, Any]] = {
    "transformer": {
        "gated_attn": True,
        "cross_attn_mod": True,
        "audio_gated_attn": True,
        "audio_cross_attn_mod": True,
        "rope_type": "split",
        "use_prompt_embeddings": False,
        "perturbed_attn": True,
    },
    "connectors": {
        "video_connector_num_attention_heads": 32,
        "video_connector_num_layers": 8,
        "video_gated_attn": True,
        "audio_connector_num_attention_heads": 32,
        "audio_connector_attention_head_dim": 64,
        "audio_connector_num_layers": 8,
        "audio_gated_attn": True,
        "rope_type": "split",
        "per_modality_projections": True,
        "proj_bias": True,
    },
    "vae": {
        "block_out_channels": [256, 512, 1024, 1024],
        "decoder_block_out_channels": [256, 512, 512, 1024],
        "layers_per_block": [4, 6, 4, 2, 2],
        "decoder_layers_per_block": [4, 6, 4, 2, 2],
        "decoder_spatio_temporal_scaling": [True] * 4,
        "decoder_inject_noise": [False] * 5,
        "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
        "upsample_residual": [False] * 4,
        "upsample_factor": [2, 2, 1, 2],
        "decoder_causal": False,
        "decoder_spatial_padding_mode": "zeros",
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
    "audio_vae": {},
    "vocoder": {},
}
"""LTX-2.3 itself, where it differs from the defaults of the library's classes."""

FULL_CONFIG: Mapping[str, Any] = {
    "transformer": {
        "_class_name": "AVTransformer3DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": 128,
        "attention_type": "default",
        "caption_channels": 3840,
        "cross_attention_dim": 4096,
        "double_self_attention": False,
        "dropout": 0.0,
        "in_channels": 128,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-06,
        "norm_num_groups": 32,
        "num_attention_heads": 32,
        "num_embeds_ada_norm": 1000,
        "num_layers": 48,
        "num_vector_embeds": None,
        "only_cross_attention": False,
        "cross_attention_norm": True,
        "out_channels": 128,
        "upcast_attention": False,
        "use_linear_projection": False,
        "qk_norm": "rms_norm",
        "standardization_norm": "rms_norm",
        "positional_embedding_type": "rope",
        "positional_embedding_theta": 10000.0,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "timestep_scale_multiplier": 1000,
        "av_ca_timestep_scale_multiplier": 1000.0,
        "causal_temporal_positioning": True,
        "audio_num_attention_heads": 32,
        "audio_attention_head_dim": 64,
        "use_audio_video_cross_attention": True,
        "share_ff": False,
        "audio_out_channels": 128,
        "audio_cross_attention_dim": 2048,
        "audio_positional_embedding_max_pos": [20],
        "av_cross_ada_norm": True,
        "use_embeddings_connector": True,
        "connector_attention_head_dim": 128,
        "connector_num_attention_heads": 32,
        "connector_num_layers": 8,
        "connector_positional_embedding_max_pos": [4096],
        "connector_num_learnable_registers": 128,
        "connector_norm_output": True,
        "use_middle_indices_grid": True,
        "apply_gated_attention": True,
        "connector_apply_gated_attention": True,
        "caption_projection_first_linear": False,
        "caption_projection_second_linear": False,
        "caption_proj_input_norm": False,
        "connector_learnable_registers_std": 1,
        "caption_proj_before_connector": True,
        "audio_connector_attention_head_dim": 64,
        "audio_connector_num_attention_heads": 32,
        "cross_attention_adaln": True,
        "text_encoder_norm_type": "per_token_rms",
        "rope_type": "split",
        "frequencies_precision": "float64",
    },
    "vae": {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "latent_channels": 128,
        "encoder_blocks": [
            ["res_x", {"num_layers": 4}],
            ["compress_space_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 6}],
            ["compress_time_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 4}],
            ["compress_all_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_all_res", {"multiplier": 1}],
            ["res_x", {"num_layers": 2}],
        ],
        "decoder_blocks": [
            ["res_x", {"num_layers": 4}],
            ["compress_space", {"multiplier": 2}],
            ["res_x", {"num_layers": 6}],
            ["compress_time", {"multiplier": 2}],
            ["res_x", {"num_layers": 4}],
            ["compress_all", {"multiplier": 1}],
            ["res_x", {"num_layers": 2}],
            ["compress_all", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
        ],
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "causal_decoder": False,
        "timestep_conditioning": False,
        "decoder_base_channels": 128,
        "spatial_padding_mode": "zeros",
    },
    "audio_vae": {
        "model": {
            "params": {
                "sampling_rate": 16000,
                "ddconfig": {
                    "ch": 128,
                    "out_ch": 2,
                    "ch_mult": [1, 2, 4],
                    "num_res_blocks": 2,
                    "attn_resolutions": [],
                    "in_channels": 2,
                    "resolution": 256,
                    "z_channels": 8,
                    "norm_type": "pixel",
                    "causality_axis": "height",
                    "mid_block_add_attention": False,
                    "mel_bins": 64,
                    "double_z": True,
                },
            }
        },
        "preprocessing": {"stft": {"hop_length": 160, "causal": True}},
    },
    "vocoder": {
        "vocoder": {
            "resblock": "AMP1",
            "stereo": True,
            "upsample_initial_channel": 1536,
            "upsample_rates": [5, 2, 2, 2, 2, 2],
            "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
            "resblock_kernel_sizes": [3, 7, 11],
            "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
            "activation": "snakebeta",
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
        },
        "bwe": {
            "resblock": "AMP1",
            "stereo": True,
            "upsample_initial_channel": 512,
            "upsample_rates": [6, 5, 2, 2, 2],
            "upsample_kernel_sizes": [12, 11, 4, 4, 4],
            "resblock_kernel_sizes": [3, 7, 11],
            "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
            "activation": "snakebeta",
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
            "apply_final_activation": False,
            "input_sampling_rate": 16000,
            "output_sampling_rate": 48000,
            "hop_length": 80,
            "n_fft": 512,
            "num_mels": 64,
        },
    },
}

LEFT_OUT = (
    "vae.per_channel_statistics.channel",
    "vae.per_channel_statistics.mean-of-stds",
    "vae.per_channel_statistics.mean-of-stds_over_std-of-means",
    "vocoder.resampler.filter",
)
"""What a unified file may hold besides the model."""

Change = Callable[[dict[str, Any]], object]


def build_tiny() -> dict[str, nn.Module]:
    """Build every component at tiny sizes, with no two values alike."""
    generator = torch.Generator().manual_seed(5)
    models = {name: CLASSES[name](**arguments).eval() for name, arguments in TINY.items()}
    for model in models.values():
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01)
    for parameter in models["transformer"].parameters():
        parameter.data = parameter.data.bfloat16()
    return models


def write_unified(path: Path, models: Mapping[str, nn.Module]) -> Path:
    """Write all components into one file, under its own names and with its config."""
    tensors = {original_name(name, key): value for name, key, value in _states(models)}
    left_out = {key: torch.ones(4) for key in LEFT_OUT}
    metadata = {"config": json.dumps(TINY_CONFIG), "model_version": "2.3.0", "format": "pt"}
    save_file({**tensors, **left_out}, path, metadata=metadata)
    return path


def write_changed(
    path: Path, file: Path, metadata: Mapping[str, str], *, add: Iterable[str] = (), keep: Callable[[str], bool]
) -> Path:
    """Write a unified file's header again with other metadata or tensors; the tensors themselves become zeros."""
    with file.open("rb") as content:
        entries = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    held = {key: entry for key, entry in entries.items() if key != "__metadata__" and keep(key)}
    held |= {key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for key in add}
    end = 0
    for entry in held.values():
        begin, end = end, end + entry["data_offsets"][1] - entry["data_offsets"][0]
        entry["data_offsets"] = [begin, end]
    header = json.dumps({"__metadata__": metadata, **held} if metadata else held).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + end)
    return path


def _states(models: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, Tensor]]:
    for name, model in models.items():
        for key, value in model.state_dict().items():
            yield name, key, value.contiguous()


def changed(change: Change) -> dict[str, Any]:
    """Give the tiny model's config with something changed in it."""
    config = copy.deepcopy(dict(TINY_CONFIG))
    change(config)
    return config


def original_name(component: str, key: str) -> str:
    """Give what a unified file calls a tensor of one of the library's classes."""
    for pattern, original in RENAMES[component]:
        key = re.sub(pattern, original, key)
    return key


def _video_block(match: re.Match[str]) -> str:
    half, number = match["half"], 2 * int(match["stage"])
    if half == "encoder.down":
        return f"{half}_blocks.{number + 1 if match['resampler'] else number}."
    return f"{half}_blocks.{number + 1 if match['resampler'] else number + 2}."


VIDEO_BLOCK = (
    r"^(?P<half>encoder\.down|decoder\.up)_blocks\.(?P<stage>\d+)\."
    r"(?P<resampler>(?:down|up)samplers\.0\.)?(?=conv\.|resnets\.)"
)
RENAMES: Mapping[str, tuple[tuple[str, Any], ...]] = {
    "transformer": (
        (r"^(audio_)?proj_in\.", r"\1patchify_proj."),
        (r"^(audio_)?time_embed\.", r"\1adaln_single."),
        (r"^(audio_)?prompt_adaln\.", r"\1prompt_adaln_single."),
        (r"^av_cross_attn_(video|audio)_scale_shift\.", r"av_ca_\1_scale_shift_adaln_single."),
        (r"^av_cross_attn_(?:video|audio)_(a2v|v2a)_gate\.", r"av_ca_\1_gate_adaln_single."),
        (r"\.(video|audio)_a2v_cross_attn_scale_shift_table$", r".scale_shift_table_a2v_ca_\1"),
        (r"\.norm_([qk])\.", r".\1_norm."),
        (r"^", "model.diffusion_model."),
    ),
    "connectors": (
        (r"\.norm_([qk])\.", r".\1_norm."),
        (r"_connector\.transformer_blocks\.", "_connector.transformer_1d_blocks."),
        (r"^(video|audio)_connector\.", r"model.diffusion_model.\1_embeddings_connector."),
        (r"^(video|audio)_text_proj_in\.", r"text_embedding_projection.\1_aggregate_embed."),
    ),
    "vae": (
        (VIDEO_BLOCK, _video_block),
        (r"^encoder\.mid_block\.", "encoder.down_blocks.8."),
        (r"^decoder\.mid_block\.", "decoder.up_blocks.0."),
        (r"\.resnets\.", ".res_blocks."),
        (r"^latents_(mean|std)$", r"per_channel_statistics.\1-of-means"),
        (r"^", "vae."),
    ),
    "audio_vae": (
        (r"^latents_(mean|std)$", r"per_channel_statistics.\1-of-means"),
        (r"^", "audio_vae."),
    ),
    "vocoder": (
        (r"\.upsamplers\.", ".ups."),
        (r"\.resnets\.", ".resblocks."),
        (r"\.conv_in\.", ".conv_pre."),
        (r"\.conv_out\.", ".conv_post."),
        (r"\.act_out\.", ".act_post."),
        (r"\.downsample\.filter$", ".downsample.lowpass.filter"),
        (r"^", "vocoder."),
    ),
}
