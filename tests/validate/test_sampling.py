"""The sampler of previews, held against the library's own pipeline and against the base model."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline
from torch import Tensor

from ltx_trainer.config import Settings
from ltx_trainer.diffusion import (
    GuidanceScales,
    audio_tokens,
    generated_stream,
    give,
    sampling_sigmas,
    video_latents,
    video_tokens,
)
from ltx_trainer.geometry import ClipShape, FrameSize, num_audio_tokens
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.validate import Sampling, denoise, sampling_of

CPU = torch.device("cpu")
SHAPE = ClipShape(9, FrameSize(96, 64), Fraction(24))
SAMPLING = Sampling(
    num_steps=5,
    seed=11,
    scales={"video": GuidanceScales(3, 1, 3, 0.7), "audio": GuidanceScales(7, 1, 3, 0.7)},
    stg_blocks=(1,),
)
PROMPT, NEGATIVE = "a red ball rolls", "blurry"


@pytest.fixture(scope="module")
def prompts(family: Family, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    encoded = family.encode_prompts([PROMPT, NEGATIVE], CPU, scratch=tmp_path_factory.mktemp("scratch"))
    return {text: {name: tensor[None] for name, tensor in embeddings.items()} for text, embeddings in encoded}


@pytest.fixture
def noise(family: Family) -> dict[str, Tensor]:
    """As the pipeline draws it: latents of the pictures, then of the sound."""
    generator = torch.Generator().manual_seed(SAMPLING.seed)
    grid, audio = SHAPE.latent_grid(family.facts.factors), family.facts.audio
    assert audio is not None
    video = torch.randn(1, family.facts.video_channels, grid.frames, grid.rows, grid.columns, generator=generator)
    steps = num_audio_tokens(SHAPE.duration_seconds, audio.tokens_per_second)
    sound = torch.randn(1, audio.latent_channels, steps, audio.latent_mel_bins, generator=generator)
    return {"video": video_tokens(video), "audio": audio_tokens(sound)}


def sample(
    family: Family, transformer: torch.nn.Module, noise: dict[str, Tensor], prompts: dict[str, dict[str, Tensor]]
) -> dict[str, Tensor]:
    coordinates = {
        "video": family.video_coordinates(SHAPE),
        "audio": family.audio_coordinates(noise["audio"].shape[1]),
    }
    streams = {name: generated_stream(torch.zeros_like(noise[name]), coordinates[name]) for name in noise}
    return denoise(family, transformer, streams, noise, prompts[PROMPT], prompts[NEGATIVE], SAMPLING)


def test_plain_sampling_equals_the_library_pipeline(
    family: Family, miniature_folder: Path, noise: dict[str, Tensor], prompts: dict[str, dict[str, Tensor]]
) -> None:
    pipeline = LTX2Pipeline.from_pretrained(miniature_folder)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, use_dynamic_shifting=False, shift_terminal=None
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        width=SHAPE.size.width,
        height=SHAPE.size.height,
        num_frames=SHAPE.num_frames,
        frame_rate=float(SHAPE.frame_rate),
        sigmas=sampling_sigmas(SAMPLING.num_steps)[:-1],
        num_inference_steps=SAMPLING.num_steps,
        guidance_scale=3.0,
        audio_guidance_scale=7.0,
        stg_scale=1.0,
        audio_stg_scale=1.0,
        modality_scale=3.0,
        audio_modality_scale=3.0,
        guidance_rescale=0.7,
        audio_guidance_rescale=0.7,
        spatio_temporal_guidance_blocks=[1],
        generator=torch.Generator().manual_seed(SAMPLING.seed),
        max_sequence_length=family.facts.max_text_tokens,
        output_type="latent",
        return_dict=False,
    )

    with family.transformer(CPU, torch.float32) as transformer:
        ours = sample(family, transformer, noise, prompts)

    grid = SHAPE.latent_grid(family.facts.factors)
    video = video_latents(ours["video"], grid)
    mean, std = (value.view(1, -1, 1, 1, 1) for value in (pipeline.vae.latents_mean, pipeline.vae.latents_std))
    torch.testing.assert_close(video * std + mean, theirs[0], atol=1e-4, rtol=0)
    bins = audio_bins(theirs[1])
    sound = ours["audio"] * pipeline.audio_vae.latents_std + pipeline.audio_vae.latents_mean
    torch.testing.assert_close(sound, bins, atol=1e-4, rtol=0)


def audio_bins(latents: Tensor) -> Tensor:
    return audio_tokens(latents) if latents.ndim == 4 else latents


def test_a_fresh_adapter_samples_what_the_base_samples(
    family: Family, noise: dict[str, Tensor], prompts: dict[str, dict[str, Tensor]]
) -> None:
    with family.transformer(CPU, torch.float32) as transformer:
        base = sample(family, transformer, noise, prompts)
        generator = torch.Generator().manual_seed(0)
        attach_lora(transformer, family.lora_modules(["attn1"]), rank=8, alpha=8, dropout=0.5, generator=generator)
        adapted = sample(family, transformer, noise, prompts)

    assert all(torch.equal(base[name], adapted[name]) for name in base)


def test_a_given_first_frame_leaves_sampling_bit_equal_and_changes_the_rest(
    family: Family, noise: dict[str, Tensor], prompts: dict[str, dict[str, Tensor]]
) -> None:
    grid = SHAPE.latent_grid(family.facts.factors)
    first = grid.rows * grid.columns
    clean = torch.randn(noise["video"].shape, generator=torch.Generator().manual_seed(2))
    plain = generated_stream(clean, family.video_coordinates(SHAPE))
    given = give(plain, torch.arange(clean.shape[1])[None] < first)

    with family.transformer(CPU, torch.float32) as transformer:
        sampled = [
            denoise(
                family,
                transformer,
                {"video": stream},
                {"video": noise["video"]},
                prompts[PROMPT],
                prompts[NEGATIVE],
                SAMPLING,
            )["video"]
            for stream in (given, plain)
        ]

    assert torch.equal(sampled[0][:, :first], clean[:, :first])
    assert not torch.equal(sampled[1][:, :first], clean[:, :first])
    assert not torch.allclose(sampled[0][:, first:], sampled[1][:, first:])


def test_perturbing_no_block_would_be_no_guidance_and_a_block_is(
    family: Family, noise: dict[str, Tensor], prompts: dict[str, dict[str, Tensor]]
) -> None:
    with family.transformer(CPU, torch.float32) as transformer:
        streams = {"video": generated_stream(noise["video"], family.video_coordinates(SHAPE))}
        seen = {name: stream.at(noise[name], torch.ones(1)) for name, stream in streams.items()}
        with torch.no_grad():
            plain = family.predict(transformer, seen, prompts[PROMPT])
            perturbed = family.predict(transformer, seen, prompts[PROMPT], stg_blocks=(1,))

    assert not torch.allclose(plain["video"], perturbed["video"], atol=1e-4)


def test_what_the_settings_say_goes_before_the_familys_own(load: Callable[..., Settings], family: Family) -> None:
    sampling = sampling_of(load("validation.audio_cfg=2", "validation.rescale=0", "input.stg_scale=0.5"), family)

    assert (sampling.scales["video"].cfg, sampling.scales["audio"].cfg) == (3, 2)
    assert {(scale.stg, scale.modality, scale.rescale) for scale in sampling.scales.values()} == {(0.5, 3, 0)}
