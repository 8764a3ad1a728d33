"""Sampling of LTX-Video, held against the library's pipelines, and guided as the versions are."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXPipeline
from torch import Tensor

from ltx_trainer.config import Settings
from ltx_trainer.diffusion import GuidanceScales, fitted, generated_stream, video_tokens
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models import ModelFacts, read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature
from ltx_trainer.validate import Sampling, sampling_of
from ltx_trainer.validate.denoise import denoise

CPU = torch.device("cpu")
SHAPE = ClipShape(9, FrameSize(64, 64), Fraction(24))
LATENTS = (1, 16, 3, 8, 8)
NUM_STEPS = 5
PROMPT, NEGATIVE = "a red ball rolls", "blurry"
CFG = Sampling(NUM_STEPS, 0, {"video": GuidanceScales(cfg=3.0, stg=0.0, modality=1.0, rescale=0.7)}, ())

# The library's pipeline hands its levels to numpy as a tensor.
HANDS_OVER_A_TENSOR = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

Prompts = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ltx-video") / "miniature"
    write_miniature("ltx-video-random", folder)
    return folder


@pytest.fixture(scope="module")
def video_facts(folder: Path) -> ModelFacts:
    return read_model(folder, "ltx-video")


@pytest.fixture(scope="module")
def prompts(video_facts: ModelFacts, tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    encoded = open_family(video_facts).encode_prompts([PROMPT, NEGATIVE], CPU, scratch=tmp_path_factory.mktemp("s"))
    return {text: {name: value[None] for name, value in prompt.items()} for text, prompt in encoded}


@pytest.fixture
def sampled(video_facts: ModelFacts, prompts: Prompts) -> Callable[..., Tensor]:
    """Sample with our own code as a version does."""

    def run(version: str, noise: Tensor, sampling: Sampling = CFG) -> Tensor:
        family = open_family(replace(video_facts, version=version))
        stream = generated_stream(torch.zeros_like(noise), family.video_coordinates(SHAPE))
        with family.transformer(CPU, torch.float32) as transformer:
            return denoise(
                family, transformer, {"video": stream}, {"video": noise}, prompts[PROMPT], prompts[NEGATIVE], sampling
            )["video"]

    return run


def asked(prompts: Prompts) -> dict[str, Any]:
    return {
        "prompt_embeds": prompts[PROMPT]["video"],
        "prompt_attention_mask": prompts[PROMPT]["mask"],
        "negative_prompt_embeds": prompts[NEGATIVE]["video"],
        "negative_prompt_attention_mask": prompts[NEGATIVE]["mask"],
        "height": 64,
        "width": 64,
        "num_frames": 9,
        "frame_rate": 24,
        "num_inference_steps": NUM_STEPS,
        "guidance_scale": 3.0,
        "guidance_rescale": 0.7,
        "output_type": "latent",
        "return_dict": False,
    }


def test_the_first_versions_sample_what_their_pipeline_does(
    folder: Path, prompts: Prompts, sampled: Callable[..., Tensor]
) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    pipeline = LTXPipeline.from_pretrained(folder, scheduler=scheduler, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 192, 16, generator=torch.Generator().manual_seed(3))

    expected = pipeline(latents=noise, **asked(prompts))[0]

    for version in ("0.9.0", "0.9.1"):
        torch.testing.assert_close(sampled(version, noise), expected, atol=1e-4, rtol=0)
    assert (sampled("0.9.5", noise) - expected).abs().max() > 0.01


@HANDS_OVER_A_TENSOR
@pytest.mark.parametrize("version", ["0.9.5", "0.9.6-dev"])
def test_later_versions_sample_what_their_pipeline_does(
    version: str, folder: Path, prompts: Prompts, sampled: Callable[..., Tensor]
) -> None:
    pipeline = LTXConditionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(LATENTS, generator=torch.Generator().manual_seed(3))

    expected = pipeline(generator=torch.Generator().manual_seed(3), **asked(prompts))[0]

    torch.testing.assert_close(sampled(version, video_tokens(noise)), video_tokens(expected), atol=1e-4, rtol=0)


@HANDS_OVER_A_TENSOR
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 30, 40])
def test_later_versions_descend_the_levels_of_their_pipeline(
    num_steps: int, video_facts: ModelFacts, folder: Path, prompts: Prompts
) -> None:
    pipeline = LTXConditionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    family = open_family(replace(video_facts, version="0.9.8-dev"))

    pipeline(**asked(prompts) | {"num_inference_steps": num_steps, "guidance_scale": 1.0})

    assert family.sigmas(num_steps, 192) == pytest.approx(pipeline.scheduler.sigmas.tolist(), abs=1e-6)


def test_large_models_are_guided_as_published(video_facts: ModelFacts) -> None:
    family = open_family(replace(video_facts, version="0.9.7-dev"))
    own = family.sampling
    sampling = Sampling(30, 0, own.scales, own.stg_blocks, own.levels)
    cfg = {1.0: 1, 0.9983: 1, 0.995: 6, 0.985: 8, 0.98: 6, 0.9: 1, 0.3: 1}
    stg = {1.0: 0, 0.9983: 0, 0.995: 4, 0.985: 4, 0.98: 4, 0.95: 2, 0.9: 1, 0.3: 1}

    assert {sigma: sampling.at(sigma).scales["video"].cfg for sigma in cfg} == cfg
    assert {sigma: sampling.at(sigma).scales["video"].stg for sigma in stg} == stg
    # A level of single precision, as a schedule gives it.
    assert sampling.at(float(torch.tensor(0.985))).scales["video"].cfg == 8


def test_the_negative_prediction_is_fitted_and_velocities_are_combined(
    video_facts: ModelFacts, prompts: Prompts, sampled: Callable[..., Tensor]
) -> None:
    family = open_family(replace(video_facts, version="0.9.8-dev"))
    noise = torch.randn(1, 192, 16, generator=torch.Generator().manual_seed(3))
    scales = GuidanceScales(cfg=4.0, stg=2.0, modality=1.0, rescale=0.5)

    found = sampled("0.9.8-dev", noise, Sampling(1, 0, {"video": scales}, (1, 2)))

    stream = generated_stream(torch.zeros_like(noise), family.video_coordinates(SHAPE))
    seen = {"video": stream.at(noise, torch.ones(1))}
    with torch.no_grad(), family.transformer(CPU, torch.float32) as transformer:
        plain = family.predict(transformer, seen, prompts[PROMPT])["video"]
        negative = family.predict(transformer, seen, prompts[NEGATIVE])["video"]
        values = family.predict(transformer, seen, prompts[PROMPT], stg_blocks=(1, 2))["video"]
    negative = negative * (plain * negative).sum() / negative.square().sum()
    guided = negative + 4 * (plain - negative) + 2 * (plain - values)
    rescaled = guided * (0.5 * plain.std() / guided.std() + 0.5)
    torch.testing.assert_close(found, noise - rescaled, atol=1e-5, rtol=0)


def test_what_is_left_beside_a_fitted_prediction_is_at_right_angles() -> None:
    positive, negative = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))

    rest = positive - fitted(negative, positive)

    torch.testing.assert_close((rest * negative).sum(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    assert fitted(torch.zeros_like(negative), positive).abs().max() == 0


def test_settings_hold_at_every_noise_level(video_facts: ModelFacts, load: Callable[..., Settings]) -> None:
    family = open_family(replace(video_facts, version="0.9.8-dev"))

    mode = ("endpoint=ltx-video/v2v", "input.validation=[]")
    own = sampling_of(load(*mode, "validation.steps=null"), family)
    wishes = ("validation.steps=4", "validation.video_cfg=2", "validation.stg_blocks=[1]", "input.stg_scale=0.5")
    chosen = sampling_of(load(*mode, *wishes), family)

    assert (own.num_steps, own.levels) == (30, family.sampling.levels)
    assert chosen.num_steps == 4
    for sigma in (1.0, 0.99, 0.98, 0.1):
        level = chosen.at(sigma)
        assert (level.scales["video"].cfg, level.scales["video"].stg, level.stg_blocks) == (2, 0.5, (1,))
        assert level.scales["video"].rescale == own.at(sigma).scales["video"].rescale


def test_another_family_keeps_its_own_steps(load: Callable[..., Settings], family: Family) -> None:
    sampling = sampling_of(load("validation.steps=null"), family)

    assert (sampling.num_steps, sampling.levels) == (30, ())
    assert sampling.at(0.5).scales == sampling.scales == family.sampling.scales
