"""The miniature of LTX-Video: version 0.9.6-dev with a tiny transformer, a tiny video VAE and a tiny T5.

The library's transformer measures positions by 20 seconds and 2048 pixels, whatever its size, so a clip of the
miniature lies in a corner of what it looks at; only its finer frequencies tell one place of it from another.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from ltx_trainer.models.locate import trained_weights
from ltx_trainer.models.miniature_parts import (
    MAX_TEXT_TOKENS,
    NUM_BLOCKS,
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

LTX_VIDEO_VERSION = "0.9.6-dev"
TRAINED_LTX_VIDEO = trained_weights("ltx-video")
TRAINED = ("transformer", "vae", "text_encoder")

SPECIAL_PIECES = ("<pad>", "</s>", "<unk>")
WORD_SCORE, CHARACTER_SCORE = -1.0, -10.0
"""A word is read as one piece where it is known, and letter by letter where it is not."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What a T5 has in place of a space; a word begins with it."""

Vocabulary = Sequence[tuple[str, float]]


def random_ltx_video() -> LTXConditionPipeline:
    """Build the miniature of LTX-Video with random weights, the same every time."""
    vocabulary = _list_vocabulary()
    return LTXConditionPipeline(
        transformer=seeded(_transformer),
        vae=seeded(_video_vae),
        text_encoder=seeded(lambda: _text_encoder(len(vocabulary))),
        tokenizer=_tokenizer(vocabulary),
        # As folders of these versions have it; the pipeline brings its own noise levels.
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False),
    )


def trained_ltx_video(file: Path = TRAINED_LTX_VIDEO) -> LTXConditionPipeline:
    """Build the miniature of LTX-Video with trained weights, those of the package unless told otherwise, in float32.

    Raises:
        ModelError: The file cannot be read, lacks a tensor or the vocabulary, or was made for other classes than those
            that are built here.
    """
    pipeline = random_ltx_video()
    metadata = read_trained(pipeline, TRAINED, file)
    pipeline.register_modules(tokenizer=_tokenizer(json.loads(metadata[VOCABULARY])))
    return pipeline


def write_trained_ltx_video(pipeline: LTXConditionPipeline, file: Path, metadata: Mapping[str, str]) -> None:
    """Write what `trained_ltx_video` reads.

    Args:
        pipeline: Built by `random_ltx_video`, then trained.
        file: Whole or absent.
        metadata: Goes with it.
    """
    vocabulary = json.loads(pipeline.tokenizer.backend_tokenizer.to_str())["model"]["vocab"]
    write_trained(pipeline, TRAINED, json.dumps(vocabulary), file, metadata)


def _transformer() -> LTXVideoTransformer3DModel:
    return LTXVideoTransformer3DModel(
        in_channels=VIDEO_LATENT_CHANNELS,
        out_channels=VIDEO_LATENT_CHANNELS,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=VIDEO_HEADS,
        attention_head_dim=VIDEO_HEAD_WIDTH,
        cross_attention_dim=VIDEO_HEADS * VIDEO_HEAD_WIDTH,
        num_layers=NUM_BLOCKS,
        activation_fn="gelu-approximate",
        qk_norm="rms_norm_across_heads",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=TEXT_WIDTH,
        attention_bias=True,
        attention_out_bias=True,
    )


def _video_vae() -> AutoencoderKLLTXVideo:
    vae = AutoencoderKLLTXVideo(
        latent_channels=VIDEO_LATENT_CHANNELS,
        block_out_channels=(16, 32, 64),
        down_block_types=("LTXVideo095DownBlock3D",) * 2,
        decoder_block_out_channels=(32, 64),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False, False, False),
        downsample_type=("spatiotemporal", "spatiotemporal"),
        upsample_residual=(True, True),
        upsample_factor=(2, 2),
        timestep_conditioning=True,
        patch_size=2,
        patch_size_t=1,
        spatial_compression_ratio=SPACE_FACTOR,
        temporal_compression_ratio=TIME_FACTOR,
    )
    fill_statistics(vae)
    return vae


def _text_encoder(vocabulary_size: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=vocabulary_size,
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=2 * TEXT_WIDTH,
        num_layers=TEXT_LAYERS,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return T5EncoderModel(config)


def _list_vocabulary() -> Vocabulary:
    """List the world's words, then every letter and sign of ASCII, as pieces and their scores."""
    words = Counter(
        f"{SPACE}{word.strip(',.')}" for text in (*sample_captions(), *SAMPLE_TEXTS) for word in text.split()
    )
    signs = [SPACE, *(chr(code) for code in range(33, 127))]
    return [
        *((piece, 0.0) for piece in SPECIAL_PIECES),
        *((word, WORD_SCORE) for word in sorted(words)),
        *((sign, CHARACTER_SCORE) for sign in signs),
    ]


def _tokenizer(vocabulary: Vocabulary) -> T5Tokenizer:
    pieces = [(str(piece), float(score)) for piece, score in vocabulary]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=MAX_TEXT_TOKENS)
