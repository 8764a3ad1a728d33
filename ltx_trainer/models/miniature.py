"""Tiny base models in the layout and with the flags of the real ones, trained on the world of `ltx_trainer.world`.

Everything that runs on a real model runs on them in seconds on a CPU. They draw what captions in the words of their
world ask for, and their weights come with the package. With random weights their pictures and sounds are noise.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2VocoderWithBWE
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GemmaTokenizer

from ltx_trainer.atomic import whole_folder
from ltx_trainer.errors import ModelError
from ltx_trainer.models.folder import OVERRIDES_FILE
from ltx_trainer.models.locate import MINIATURES, trained_weights
from ltx_trainer.models.miniature_ltx_video import LTX_VIDEO_VERSION, random_ltx_video, trained_ltx_video
from ltx_trainer.models.miniature_parts import (
    MAX_TEXT_TOKENS,
    NUM_BLOCKS,
    RESOLUTIONS,
    SAMPLE_TEXTS,
    SPACE_FACTOR,
    TEXT_LAYERS,
    TEXT_WIDTH,
    TIME_FACTOR,
    VIDEO_HEAD_WIDTH,
    VIDEO_HEADS,
    VIDEO_LATENT_CHANNELS,
    VOCABULARY,
    fill_statistics,
    read_trained,
    sample_captions,
    seeded,
    write_trained,
)

RATE_HZ, OUTPUT_RATE_HZ, HOP_LENGTH, MEL_BINS = 16000, 48000, 160, 64
AUDIO_LATENT_CHANNELS, AUDIO_LATENT_BINS = 2, 16
AUDIO_TOKEN_CHANNELS = AUDIO_LATENT_CHANNELS * AUDIO_LATENT_BINS

AUDIO_HEADS, AUDIO_HEAD_WIDTH = 4, 16
SECONDS_IN_VIEW, SIDE_IN_VIEW, ROPE_THETA = 2, 64, 100.0
"""The lengths that positions are measured by; a model for small things looks closely."""
NUM_REGISTERS = 16
VOCABULARY_SIZE = 512

TRAINED_LTX23 = trained_weights("ltx-2.3")
TRAINED = ("transformer", "vae", "audio_vae", "vocoder", "connectors", "text_encoder")

SPECIAL_TOKENS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)


def write_miniature(name: str, folder: Path) -> None:
    """Write a tiny model of a family; the same bytes every time with the same library versions.

    Args:
        name: The family, or the family and `-random`.
        folder: Where to; made if need be, whole or not at all.

    Raises:
        ModelError: The family is not known, or the folder is not empty.
        ConfigError: The folder cannot be made there.
        OutOfResources: The disk is full.
    """
    if name not in MINIATURES:
        raise ModelError(f"there is no miniature of {name!r}. Known: {', '.join(MINIATURES)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not empty. Name a folder that does not exist yet.")
    with whole_folder(folder) as unfinished:
        save_miniature(KINDS[name].build(), name, unfinished)


def save_miniature(pipeline: DiffusionPipeline, name: str, folder: Path) -> None:
    """Write a miniature that was built, with what its folder says beside its components.

    Args:
        pipeline: The miniature.
        name: As `write_miniature` takes it.
        folder: Where to.
    """
    pipeline.save_pretrained(folder)
    version = KINDS[name].version
    overrides = {
        "name": f"miniature {name}",
        **({} if version is None else {"version": version}),
        "resolutions": RESOLUTIONS,
    }
    (folder / OVERRIDES_FILE).write_text(json.dumps(overrides, indent=2) + "\n", encoding="utf-8")


def random_ltx23() -> LTX2Pipeline:
    """Build the miniature of LTX-2.3 with random weights, the same every time."""
    return LTX2Pipeline(
        transformer=seeded(_transformer),
        vae=seeded(_video_vae),
        audio_vae=seeded(_audio_vae),
        vocoder=seeded(_vocoder),
        connectors=seeded(_connectors),
        text_encoder=seeded(_text_encoder),
        tokenizer=_tokenizer(_learn_vocabulary()),
        scheduler=_scheduler(),
    )


def trained_ltx23(file: Path = TRAINED_LTX23) -> LTX2Pipeline:
    """Build the miniature of LTX-2.3 with trained weights, those of the package unless told otherwise, in float32.

    Raises:
        ModelError: The file cannot be read, lacks a tensor or the vocabulary, or was made for other classes than those
            that are built here.
    """
    pipeline = random_ltx23()
    metadata = read_trained(pipeline, TRAINED, file)
    pipeline.register_modules(tokenizer=_tokenizer(json.loads(metadata[VOCABULARY])))
    return pipeline


def write_trained_ltx23(pipeline: LTX2Pipeline, file: Path, metadata: Mapping[str, str]) -> None:
    """Write what `trained_ltx23` reads.

    Args:
        pipeline: Built by `random_ltx23`, then trained.
        file: Whole or absent.
        metadata: Goes with it.
    """
    vocabulary = json.loads(pipeline.tokenizer.backend_tokenizer.to_str())["model"]
    kept = {key: vocabulary[key] for key in ("vocab", "merges")}
    write_trained(pipeline, TRAINED, json.dumps(kept), file, metadata)


@dataclass(frozen=True)
class _Kind:
    """One miniature that can be written.

    Attributes:
        build: Makes it.
        version: Which of the family's versions it is.
    """

    build: Callable[[], DiffusionPipeline]
    version: str | None = None


KINDS: Mapping[str, _Kind] = dict(
    zip(
        MINIATURES,
        (
            _Kind(trained_ltx23),
            _Kind(random_ltx23),
            _Kind(trained_ltx_video, LTX_VIDEO_VERSION),
            _Kind(random_ltx_video, LTX_VIDEO_VERSION),
        ),
        strict=True,
    )
)


def _transformer() -> LTX2VideoTransformer3DModel:
    return LTX2VideoTransformer3DModel(
        in_channels=VIDEO_LATENT_CHANNELS,
        out_channels=VIDEO_LATENT_CHANNELS,
        num_attention_heads=VIDEO_HEADS,
        attention_head_dim=VIDEO_HEAD_WIDTH,
        cross_attention_dim=VIDEO_HEADS * VIDEO_HEAD_WIDTH,
        vae_scale_factors=(TIME_FACTOR, SPACE_FACTOR, SPACE_FACTOR),
        pos_embed_max_pos=SECONDS_IN_VIEW,
        audio_pos_embed_max_pos=SECONDS_IN_VIEW,
        base_height=SIDE_IN_VIEW,
        base_width=SIDE_IN_VIEW,
        rope_theta=ROPE_THETA,
        gated_attn=True,
        cross_attn_mod=True,
        audio_in_channels=AUDIO_TOKEN_CHANNELS,
        audio_out_channels=AUDIO_TOKEN_CHANNELS,
        audio_num_attention_heads=AUDIO_HEADS,
        audio_attention_head_dim=AUDIO_HEAD_WIDTH,
        audio_cross_attention_dim=AUDIO_HEADS * AUDIO_HEAD_WIDTH,
        audio_sampling_rate=RATE_HZ,
        audio_hop_length=HOP_LENGTH,
        audio_gated_attn=True,
        audio_cross_attn_mod=True,
        num_layers=NUM_BLOCKS,
        caption_channels=TEXT_WIDTH,
        rope_double_precision=True,
        rope_type="split",
        use_prompt_embeddings=False,
        perturbed_attn=True,
    )


def _video_vae() -> AutoencoderKLLTX2Video:
    vae = AutoencoderKLLTX2Video(
        latent_channels=VIDEO_LATENT_CHANNELS,
        block_out_channels=(32, 64),
        down_block_types=("LTX2VideoDownBlock3D",) * 2,
        decoder_block_out_channels=(32, 64),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False, False, False),
        downsample_type=("spatiotemporal", "temporal"),
        upsample_type=("temporal", "spatiotemporal"),
        upsample_residual=(True, True),
        upsample_factor=(2, 2),
        timestep_conditioning=False,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
        encoder_spatial_padding_mode="zeros",
        decoder_spatial_padding_mode="zeros",
        spatial_compression_ratio=SPACE_FACTOR,
        temporal_compression_ratio=TIME_FACTOR,
    )
    fill_statistics(vae)
    return vae


def _audio_vae() -> AutoencoderKLLTX2Audio:
    vae = AutoencoderKLLTX2Audio(
        # The library sizes the latents' statistics by this number.
        base_channels=AUDIO_TOKEN_CHANNELS,
        ch_mult=(1, 1, 2),
        num_res_blocks=1,
        attn_resolutions=None,
        latent_channels=AUDIO_LATENT_CHANNELS,
        norm_type="pixel",
        causality_axis="height",
        mid_block_add_attention=False,
        sample_rate=RATE_HZ,
        mel_hop_length=HOP_LENGTH,
        is_causal=True,
        mel_bins=MEL_BINS,
    )
    fill_statistics(vae)
    return vae


def _vocoder() -> LTX2VocoderWithBWE:
    """Build a vocoder of three stages, at 100 Hz, at 500 Hz and at 16 kHz, and the least of a bandwidth extension."""
    vocoder = LTX2VocoderWithBWE(
        hidden_channels=96,
        upsample_kernel_sizes=[1, 15, 64],
        upsample_factors=[1, 5, 32],
        # A block of these can add up 4 ** 6 steps of the past.
        resnet_kernel_sizes=[7],
        resnet_dilations=[[1, 4, 16, 64, 256, 1024]],
        # Its filters would blur those sums; the last activation has them all the same.
        antialias=False,
        bwe_hidden_channels=8,
        bwe_upsample_kernel_sizes=[17, 32],
        bwe_upsample_factors=[15, 16],
        bwe_resnet_kernel_sizes=[3],
        bwe_resnet_dilations=[[1]],
        filter_length=160,
        window_length=160,
        num_mel_channels=MEL_BINS,
        input_sampling_rate=RATE_HZ,
        output_sampling_rate=OUTPUT_RATE_HZ,
    )
    spectrogram = vocoder.mel_stft
    _fill_fourier_basis(spectrogram.stft_fn.get_buffer("forward_basis"))
    _fill_mel_basis(spectrogram.get_buffer("mel_basis"))
    return vocoder


def _fill_fourier_basis(basis: Tensor) -> None:
    """Fill a basis `[2 * frequencies, 1, samples]` that a fresh vocoder leaves at zero: windowed cosines, sines."""
    num_samples = basis.shape[-1]
    frequencies, samples = torch.arange(num_samples // 2 + 1), torch.arange(num_samples)
    angles = frequencies[:, None] * samples * (2 * math.pi / num_samples)
    window = torch.hann_window(num_samples)
    basis.copy_(torch.cat([angles.cos() * window, -angles.sin() * window])[:, None])


def _fill_mel_basis(basis: Tensor) -> None:
    """Fill a filter bank `[bins, frequencies]` that a fresh vocoder leaves at zero: triangles of equal width."""
    num_bins, num_frequencies = basis.shape
    corners = torch.linspace(0, num_frequencies - 1, num_bins + 2)[:, None]
    frequencies = torch.arange(num_frequencies)
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    basis.copy_(torch.minimum(rising, falling).clamp(min=0))


def _connectors() -> LTX2TextConnectors:
    return LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=TEXT_LAYERS + 1,
        video_connector_num_attention_heads=VIDEO_HEADS,
        video_connector_attention_head_dim=VIDEO_HEAD_WIDTH,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=NUM_REGISTERS,
        video_gated_attn=True,
        audio_connector_num_attention_heads=AUDIO_HEADS,
        audio_connector_attention_head_dim=AUDIO_HEAD_WIDTH,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=NUM_REGISTERS,
        audio_gated_attn=True,
        rope_type="split",
        per_modality_projections=True,
        video_hidden_dim=VIDEO_HEADS * VIDEO_HEAD_WIDTH,
        audio_hidden_dim=AUDIO_HEADS * AUDIO_HEAD_WIDTH,
        proj_bias=True,
    )


def _text_encoder() -> Gemma3ForConditionalGeneration:
    text = {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 2048,
        "sliding_window": 64,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=SPECIAL_TOKENS.index("<start_of_image>"),
        eoi_token_index=SPECIAL_TOKENS.index("<end_of_image>"),
        image_token_index=SPECIAL_TOKENS.index("<image_soft_token>"),
    )
    return Gemma3ForConditionalGeneration(config)


def _learn_vocabulary() -> Mapping[str, Any]:
    """Learn the world's words, as `vocab` and `merges`; bytes stand in for the rest, so any text can be encoded."""
    pieces = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    pieces.normalizer = normalizers.Replace(" ", "▁")
    # So that no piece is longer than a word.
    pieces.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    pieces.train_from_iterator([*sample_captions(), *SAMPLE_TEXTS], trainer)
    return json.loads(pieces.to_str())["model"]


def _tokenizer(vocabulary: Mapping[str, Any]) -> GemmaTokenizer:
    return GemmaTokenizer(
        vocab=vocabulary["vocab"],
        merges=[tuple(merge) for merge in vocabulary["merges"]],  # pyright: ignore[reportArgumentType] - declared as text
        add_bos_token=True,
        padding_side="left",
        model_max_length=MAX_TEXT_TOKENS,
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
