"""What the config of an LTX-2.3 file says, as arguments of the library's classes.

The file describes a model in the words of its own reader, in which a value that is left out has a meaning; the
defaults here are that reader's. What the library's classes cannot be told must stand as they compute it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.unified_section import Arguments, Block, Rules, Section, Shapes, read_block

TRANSFORMER: Mapping[str, tuple[str, bool | float | str]] = {
    "in_channels": ("in_channels", 128),
    "out_channels": ("out_channels", 128),
    "num_attention_heads": ("num_attention_heads", 32),
    "attention_head_dim": ("attention_head_dim", 128),
    "cross_attention_dim": ("cross_attention_dim", 4096),
    "gated_attn": ("apply_gated_attention", False),
    "cross_attn_mod": ("cross_attention_adaln", False),
    "audio_in_channels": ("audio_in_channels", 128),
    "audio_out_channels": ("audio_out_channels", 128),
    "audio_num_attention_heads": ("audio_num_attention_heads", 32),
    "audio_attention_head_dim": ("audio_attention_head_dim", 64),
    "audio_cross_attention_dim": ("audio_cross_attention_dim", 2048),
    "audio_gated_attn": ("apply_gated_attention", False),
    "audio_cross_attn_mod": ("cross_attention_adaln", False),
    "num_layers": ("num_layers", 48),
    "norm_eps": ("norm_eps", 1e-6),
    "caption_channels": ("caption_channels", 3840),
    "rope_theta": ("positional_embedding_theta", 10000.0),
    "rope_type": ("rope_type", ""),
    "timestep_scale_multiplier": ("timestep_scale_multiplier", 1000),
    "cross_attn_timestep_scale_multiplier": ("av_ca_timestep_scale_multiplier", 1),
}
"""The library's argument: the file's word for it, and what it is when the file has none."""

TRANSFORMER_ALWAYS: Arguments = {
    "patch_size": 1,
    "patch_size_t": 1,
    "audio_patch_size": 1,
    "audio_patch_size_t": 1,
    "activation_fn": "gelu-approximate",
    "qk_norm": "rms_norm_across_heads",
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "attention_out_bias": True,
    "causal_offset": 1,
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}
AUDIO: Mapping[str, tuple[str, bool | int | str]] = {
    "base_channels": ("ch", 128),
    "output_channels": ("out_ch", 2),
    "num_res_blocks": ("num_res_blocks", 2),
    "in_channels": ("in_channels", 2),
    "resolution": ("resolution", 256),
    "latent_channels": ("z_channels", 8),
    "norm_type": ("norm_type", "pixel"),
    "causality_axis": ("causality_axis", "height"),
    "mid_block_add_attention": ("mid_block_add_attention", False),
    "mel_bins": ("mel_bins", 64),
    "double_z": ("double_z", True),
}

ALLOWED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "transformer": {
        "activation_fn": ("gelu-approximate",),
        "attention_bias": (True,),
        "av_cross_ada_norm": (True,),
        "caption_proj_input_norm": (False,),
        "caption_projection_first_linear": (False,),
        "caption_projection_second_linear": (False,),
        "causal_temporal_positioning": (True,),
        "connector_norm_output": (True,),
        "double_self_attention": (False,),
        "frequencies_precision": ("float32", "float64"),
        "norm_elementwise_affine": (False,),
        "only_cross_attention": (False,),
        "positional_embedding_type": ("rope",),
        "qk_norm": ("rms_norm",),
        "rope_type": ("split", "interleaved"),
        "share_ff": (False,),
        "standardization_norm": ("rms_norm",),
        "use_audio_video_cross_attention": (True,),
        "use_embeddings_connector": (True,),
        "use_middle_indices_grid": (True,),
    },
    "vae": {"dims": (3,), "norm_layer": ("pixel_norm",), "timestep_conditioning": (False,)},
    "vocoder.vocoder": {"activation": ("snake", "snakebeta"), "resblock": ("AMP1",), "stereo": (True,)},
    "vocoder.bwe": {"activation": ("snake", "snakebeta"), "resblock": ("AMP1",), "stereo": (True,)},
}
"""What a section may say, where it says anything, that the library's classes compute."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "transformer": ("rope_type", "frequencies_precision", "connector_positional_embedding_max_pos"),
    "vae": ("encoder_blocks", "decoder_blocks"),
}
"""What no tensor's size would give away if it were guessed wrong."""

DOWNSAMPLERS = {
    "compress_space_res": "spatial",
    "compress_time_res": "temporal",
    "compress_all_res": "spatiotemporal",
}
UPSAMPLERS = {"compress_space": "spatial", "compress_time": "temporal", "compress_all": "spatiotemporal"}
STAGE = "res_x"
WIDEST_DECODER_STAGE = 8
"""Channels of the decoder's widest stage, over its base channels."""


WHAT_WORKS = "Give Lightricks' own LTX-2.3 file, or a folder in the layout of diffusers."
RULES = Rules("LTX-2.3", ALLOWED, REQUIRED, WHAT_WORKS)


def component_arguments(config: Section, shapes: Shapes) -> dict[str, Arguments]:
    """Say how to build each component.

    Args:
        config: All of the file's config, of an LTX-2.3 model.
        shapes: Of the tensors in the file.

    Returns:
        The arguments of the library's class, by component; plain enough for JSON.

    Raises:
        ModelError: Something is missing, of another type, or nothing that the classes can compute.
    """
    transformer = config.inner("transformer")
    vae = _video_vae(config.inner("vae"))
    audio_vae = _audio_vae(config.inner("audio_vae"))
    return {
        "transformer": _transformer(transformer, vae, audio_vae),
        "connectors": _connectors(transformer, shapes),
        "vae": vae,
        "audio_vae": audio_vae,
        "vocoder": _vocoder(config.inner("vocoder"), shapes),
    }


def _video_vae(section: Section) -> Arguments:
    encoder = _blocks(section, "encoder_blocks", DOWNSAMPLERS)
    decoder = _blocks(section, "decoder_blocks", UPSAMPLERS)
    patch_size = section.get("patch_size", 4)
    downsamplers = [DOWNSAMPLERS[kind] for kind, _ in encoder[1::2]]
    return {
        "in_channels": section.get("in_channels", 3),
        "out_channels": section.get("out_channels", 3),
        "latent_channels": section.get("latent_channels", 128),
        "patch_size": patch_size,
        "patch_size_t": 1,
        "resnet_norm_eps": 1e-6,
        "scaling_factor": section.get("scaling_factor", 1.0),
        "timestep_conditioning": False,
        "spatial_compression_ratio": patch_size * _factor(downsamplers, without="temporal"),
        "temporal_compression_ratio": _factor(downsamplers, without="spatial"),
        **_encoder(section, encoder, downsamplers),
        **_decoder(section, decoder),
    }


def _blocks(section: Section, key: str, resamplers: Mapping[str, str]) -> list[Block]:
    """Read a list of blocks, in which stages and resamplers take turns."""
    blocks = [read_block(section, key, block) for block in section.get(key, [])]
    kinds = [kind for kind, _ in blocks]
    is_whole = len(kinds) >= 3 and len(kinds) % 2 == 1
    if not is_whole or set(kinds[0::2]) != {STAGE} or not set(kinds[1::2]) <= set(resamplers):
        raise ModelError(
            f"the config in {section.file} lists {', '.join(kinds) or 'nothing'} in {section.name}.{key}, which are "
            f"{STAGE} and one of {', '.join(resamplers)} in turn, from {STAGE} to {STAGE}. {WHAT_WORKS}"
        )
    return blocks


def _factor(resamplers: list[str], *, without: str) -> int:
    return 2 ** sum(kind != without for kind in resamplers)


def _encoder(section: Section, blocks: list[Block], downsamplers: list[str]) -> Arguments:
    widths = [section.get("latent_channels", 128)]
    for _, block in blocks[1::2]:
        widths.append(widths[-1] * block.size("multiplier", 2))
    return {
        "block_out_channels": widths[1:],
        "down_block_types": ["LTX2VideoDownBlock3D"] * len(downsamplers),
        "layers_per_block": list(_layers(blocks)),
        "spatio_temporal_scaling": [True] * len(downsamplers),
        "downsample_type": downsamplers,
        "encoder_causal": True,
        "encoder_spatial_padding_mode": section.get("encoder_spatial_padding_mode", "zeros"),
    }


def _layers(blocks: list[Block]) -> Iterator[int]:
    return (block.get("num_layers", 1) for _, block in blocks[0::2])


def _decoder(section: Section, blocks: list[Block]) -> Arguments:
    """Say how to build the decoder, whose blocks the file lists as the encoder's: widest last, in the end built first.

    The library takes all of its lists in that order but the kinds of the upsamplers, which it takes as they are built.
    """
    upsamplers = blocks[1::2]
    width = WIDEST_DECODER_STAGE * section.get("decoder_base_channels", 128)
    widths: list[int] = []
    for _, block in reversed(upsamplers):
        widths.insert(0, width)
        width //= block.size("multiplier", 1)
    return {
        "decoder_block_out_channels": widths,
        "decoder_layers_per_block": list(_layers(blocks)),
        "decoder_spatio_temporal_scaling": [True] * len(upsamplers),
        "decoder_inject_noise": [block.get("inject_noise", default=False) for _, block in blocks[0::2]],
        "upsample_type": [UPSAMPLERS[kind] for kind, _ in reversed(upsamplers)],
        "upsample_residual": [block.get("residual", default=False) for _, block in upsamplers],
        "upsample_factor": [block.size("multiplier", 1) for _, block in upsamplers],
        "decoder_causal": section.get("causal_decoder", default=False),
        "decoder_spatial_padding_mode": section.get(
            "spatial_padding_mode", section.get("decoder_spatial_padding_mode", "reflect")
        ),
    }


def _audio_vae(section: Section) -> Arguments:
    parameters = section.inner("model").inner("params")
    network = parameters.inner("ddconfig")
    stft = section.inner("preprocessing").inner("stft")
    return {
        **_arguments(network, AUDIO),
        "ch_mult": network.get("ch_mult", [1, 2, 4]),
        "attn_resolutions": network.get("attn_resolutions", []) or None,
        "dropout": 0.0,
        "sample_rate": parameters.get("sampling_rate", 16000),
        "mel_hop_length": stft.get("hop_length", 160),
        "is_causal": stft.get("causal", default=True),
    }


def _arguments(section: Section, table: Mapping[str, tuple[str, Any]]) -> Arguments:
    return {argument: section.get(key, default) for argument, (key, default) in table.items()}


def _transformer(section: Section, vae: Arguments, audio_vae: Arguments) -> Arguments:
    seconds, height, width = section.sizes("positional_embedding_max_pos", [20, 2048, 2048])
    space = vae["spatial_compression_ratio"]
    return {
        **_arguments(section, TRANSFORMER),
        **TRANSFORMER_ALWAYS,
        "pos_embed_max_pos": seconds,
        "base_height": height,
        "base_width": width,
        "vae_scale_factors": [vae["temporal_compression_ratio"], space, space],
        "rope_double_precision": _is_double(section),
        "audio_pos_embed_max_pos": section.sizes("audio_positional_embedding_max_pos", [20])[0],
        "audio_scale_factor": 2 ** (len(audio_vae["ch_mult"]) - 1),
        "audio_sampling_rate": audio_vae["sample_rate"],
        "audio_hop_length": audio_vae["mel_hop_length"],
    }


def _is_double(section: Section) -> bool:
    return section.get("frequencies_precision", "float32") == "float64"


def _connectors(section: Section, shapes: Shapes) -> Arguments:
    heads, head_width = (
        section.get("connector_num_attention_heads", 30),
        section.get("connector_attention_head_dim", 128),
    )
    num_layers = section.get("connector_num_layers", 2)
    gated = section.get("connector_apply_gated_attention", default=False)
    return {
        "caption_channels": section.get("caption_channels", 3840),
        "text_proj_in_factor": _num_text_layers(section, shapes),
        "video_connector_num_attention_heads": heads,
        "video_connector_attention_head_dim": head_width,
        "video_connector_num_layers": num_layers,
        "video_connector_num_learnable_registers": _num_registers("video", section, shapes),
        "video_gated_attn": gated,
        "audio_connector_num_attention_heads": section.get("audio_connector_num_attention_heads", heads),
        "audio_connector_attention_head_dim": section.get("audio_connector_attention_head_dim", head_width),
        "audio_connector_num_layers": section.get("audio_connector_num_layers", num_layers),
        "audio_connector_num_learnable_registers": _num_registers("audio", section, shapes),
        "audio_gated_attn": gated,
        "connector_rope_base_seq_len": section.sizes("connector_positional_embedding_max_pos", [1])[0],
        "rope_theta": 10000.0,
        "rope_double_precision": _is_double(section),
        "rope_type": section.get("rope_type", ""),
        "causal_temporal_positioning": False,
        "per_modality_projections": True,
        "proj_bias": True,
        "video_hidden_dim": section.get("num_attention_heads", 32) * section.get("attention_head_dim", 128),
        "audio_hidden_dim": section.get("audio_num_attention_heads", 32) * section.get("audio_attention_head_dim", 64),
    }


def _num_text_layers(section: Section, shapes: Shapes) -> int:
    """Count the hidden states of the text encoder that a projection takes side by side."""
    width = _shape("text_embedding_projection.video_aggregate_embed.weight", 2, section, shapes)[1]
    num_layers, rest = divmod(width, section.size("caption_channels", 3840))
    if rest:
        raise section.error("caption_channels", f"a divisor of {width}, the inputs of the text projection")
    return num_layers


def _num_registers(stream: str, section: Section, shapes: Shapes) -> int:
    return _shape(f"model.diffusion_model.{stream}_embeddings_connector.learnable_registers", 2, section, shapes)[0]


def _shape(key: str, num_sizes: int, section: Section, shapes: Shapes) -> tuple[int, ...]:
    shape = shapes.get(key, ())
    if len(shape) != num_sizes:
        found = f"of sizes {list(shape)}" if key in shapes else "missing"
        raise ModelError(f"in {section.file}, {key} is {found}; it has {num_sizes} sizes. {WHAT_WORKS}")
    return shape


def _vocoder(section: Section, shapes: Shapes) -> Arguments:
    extension = section.inner("bwe")
    return {
        **_generator(section.inner("vocoder"), "vocoder", shapes),
        # What the extension adds to the sound is not squashed: the sum is.
        **{f"bwe_{key}": value for key, value in _generator(extension, "bwe_generator", shapes).items()},
        "bwe_final_act_fn": None,
        "filter_length": extension.get("n_fft", 512),
        "window_length": extension.get("n_fft", 512),
        "hop_length": extension.get("hop_length", 80),
        "num_mel_channels": extension.get("num_mels", 64),
        "input_sampling_rate": extension.get("input_sampling_rate", 16000),
        "output_sampling_rate": extension.get("output_sampling_rate", 48000),
    }


def _generator(section: Section, name: str, shapes: Shapes) -> Arguments:
    return {
        "in_channels": _shape(f"vocoder.{name}.conv_pre.weight", 3, section, shapes)[1],
        "out_channels": _shape(f"vocoder.{name}.conv_post.weight", 3, section, shapes)[0],
        "hidden_channels": section.get("upsample_initial_channel", 1024),
        "upsample_kernel_sizes": section.get("upsample_kernel_sizes", [16, 15, 8, 4, 4]),
        "upsample_factors": section.get("upsample_rates", [6, 5, 2, 2, 2]),
        "resnet_kernel_sizes": section.get("resblock_kernel_sizes", [3, 7, 11]),
        "resnet_dilations": section.get("resblock_dilation_sizes", [[1, 3, 5], [1, 3, 5], [1, 3, 5]]),
        "act_fn": section.get("activation", "snake"),
        "antialias": True,
        "final_act_fn": "tanh" if section.get("use_tanh_at_final", default=True) else None,
        "final_bias": section.get("use_bias_at_final", default=True),
    }
