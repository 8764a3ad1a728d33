"""The transformer call, held against numbers recorded from the original implementation."""

import gc
import json
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTX2VideoTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family

GOLDEN = Path(__file__).parents[1] / "golden"
RECORD = json.loads((GOLDEN / "ltx23_transformer.json").read_text())
CASES = RECORD["cases"]
TOLERANCE = 1e-5
CPU = torch.device("cpu")
Load = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(GOLDEN / "ltx23_transformer.safetensors")


@pytest.fixture(scope="module")
def golden_family(
    recorded: dict[str, Tensor], miniature_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Family:
    """The recorded transformer in a model's folder. Its config says no STG, as an older folder's does."""
    folder = Path(shutil.copytree(miniature_folder, tmp_path_factory.mktemp("golden") / "model"))
    weights = {name.removeprefix("weights."): t for name, t in recorded.items() if name.startswith("weights.")}
    model = LTX2VideoTransformer3DModel(**RECORD["config"] | {"perturbed_attn": False})
    model.load_state_dict(weights)
    model.save_pretrained(folder / "transformer")
    return open_family(read_model(folder, "ltx-2.3"))


@pytest.fixture(scope="module")
def golden_transformer(golden_family: Family) -> Iterator[nn.Module]:
    with golden_family.transformer(CPU, torch.float32) as transformer:
        yield transformer


def streams(recorded: dict[str, Tensor], case: str) -> dict[str, ModelStream]:
    tokens, coordinates = recorded["video_tokens"], recorded["video_coords"]
    if CASES[case]["reference"]:
        tokens = torch.cat([tokens, recorded["reference_tokens"]], dim=1)
        coordinates = torch.cat([coordinates, recorded["reference_coords"]], dim=2)
    video = ModelStream(tokens, recorded[f"{case}.video_timesteps"], recorded[f"{case}.video_sigma"], coordinates)
    audio = ModelStream(
        recorded["audio_tokens"],
        recorded[f"{case}.audio_timesteps"],
        recorded[f"{case}.audio_sigma"],
        recorded["audio_coords"],
    )
    return {"video": video, "audio": audio}


def prompt(recorded: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"video": recorded["video_text"], "audio": recorded["audio_text"]}


@torch.no_grad()
def predict(family: Family, transformer: nn.Module, recorded: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    return family.predict(
        transformer,
        streams(recorded, case),
        prompt(recorded),
        stg_blocks=tuple(CASES[case]["stg_blocks"]),
        isolate=CASES[case]["modalities_isolated"],
    )


def assert_as_recorded(found: dict[str, Tensor], recorded: dict[str, Tensor], case: str) -> None:
    expected = {stream: recorded[f"{case}.{stream}_velocity"] for stream in ("video", "audio")}
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_nine_cases_were_recorded() -> None:
    assert len(CASES) == 9


@pytest.mark.parametrize("case", CASES)
def test_velocities_equal_those_of_the_original_implementation(
    case: str, golden_family: Family, golden_transformer: nn.Module, recorded: dict[str, Tensor]
) -> None:
    assert_as_recorded(predict(golden_family, golden_transformer, recorded, case), recorded, case)


def test_gradient_checkpointing_changes_neither_velocities_nor_gradients(
    golden_family: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    case = "first_frame_clean_two_sigmas"
    gradients = []
    for checkpointing in (False, True):
        transformer = load_transformer(golden_family, gradient_checkpointing=checkpointing)
        weight = transformer.get_parameter("transformer_blocks.0.attn1.to_q.weight").requires_grad_()
        found = golden_family.predict(transformer, streams(recorded, case), prompt(recorded))
        assert_as_recorded(found, recorded, case)
        found["video"].square().mean().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0


def test_calls_in_parallel_threads_keep_their_own_timesteps(
    golden_family: Family, golden_transformer: nn.Module, recorded: dict[str, Tensor]
) -> None:
    cases = ["two_sigmas", "video_frozen", "audio_frozen", "one_sigma"]
    found: dict[str, dict[str, Tensor]] = {}

    def run(case: str) -> None:
        for _ in range(5):
            found[case] = predict(golden_family, golden_transformer, recorded, case)

    threads = [threading.Thread(target=run, args=(case,)) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for case in cases:
        assert_as_recorded(found[case], recorded, case)


def test_a_failed_call_leaves_nothing_behind(golden_transformer: nn.Module) -> None:
    timestep = torch.zeros(2, 12)
    alive = weakref.ref(timestep)
    narrow = dict.fromkeys(
        ("hidden_states", "audio_hidden_states", "encoder_hidden_states", "audio_encoder_hidden_states"),
        torch.zeros(2, 12, 1),
    )

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        golden_transformer(
            **narrow,
            timestep=timestep,
            video_coords=torch.zeros(2, 3, 12, 2),
            audio_coords=torch.zeros(2, 1, 12, 2),
        )

    del timestep
    gc.collect()
    assert alive() is None


def test_a_wrapper_for_several_processes_changes_nothing(
    golden_family: Family, recorded: dict[str, Tensor], load_transformer: Load, tmp_path: Path
) -> None:
    case = "first_frame_clean_two_sigmas"
    transformer = load_transformer(golden_family)
    transformer.get_parameter("transformer_blocks.0.attn1.to_q.weight").requires_grad_()
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(transformer)
        assert_as_recorded(predict(golden_family, wrapped, recorded, case), recorded, case)
    finally:
        distributed.destroy_process_group()


def test_half_precision_weights_take_and_give_float32(
    golden_family: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    case = "first_frame_clean_two_sigmas"
    transformer = load_transformer(golden_family, torch.bfloat16)

    found = predict(golden_family, transformer, recorded, case)

    assert transformer.get_parameter("proj_in.weight").dtype == torch.bfloat16
    for stream, velocity in found.items():
        expected = recorded[f"{case}.{stream}_velocity"]
        torch.testing.assert_close(velocity, expected, atol=0.05 * expected.std().item(), rtol=0.05)


def random_stream(num_channels: int, num_tokens: int, num_axes: int, generator: torch.Generator) -> ModelStream:
    starts = torch.rand(2, num_axes, num_tokens, generator=generator)
    return ModelStream(
        tokens=torch.randn(2, num_tokens, num_channels, generator=generator),
        timesteps=torch.rand(2, num_tokens, generator=generator),
        sigma=torch.rand(2, generator=generator),
        coordinates=torch.stack([starts, starts + 0.1], dim=-1),
    )


def random_prompt(generator: torch.Generator) -> dict[str, Tensor]:
    return {"video": torch.randn(2, 16, 128, generator=generator), "audio": torch.randn(2, 16, 64, generator=generator)}


@torch.no_grad()
def test_what_stands_in_for_absent_sound_touches_no_bit_of_the_picture(
    family: Family, transformer: nn.Module, generator: torch.Generator
) -> None:
    video, noise = random_stream(16, 12, 3, generator), random_stream(32, 1, 1, generator)
    prompt = random_prompt(generator)

    silent = family.predict(transformer, {"video": video}, prompt)
    noisy = family.predict(transformer, {"video": video, "audio": noise}, prompt, isolate=True)

    assert set(silent) == {"video"}
    assert torch.equal(silent["video"], noisy["video"])
    assert silent["video"].std() > 0


@torch.no_grad()
def test_what_stands_in_for_absent_pictures_touches_no_bit_of_the_sound(
    family: Family, transformer: nn.Module, generator: torch.Generator
) -> None:
    audio, noise = random_stream(32, 7, 1, generator), random_stream(16, 1, 3, generator)
    prompt = random_prompt(generator)

    unseen = family.predict(transformer, {"audio": audio}, prompt)
    noisy = family.predict(transformer, {"video": noise, "audio": audio}, prompt, isolate=True)

    assert set(unseen) == {"audio"}
    assert torch.equal(unseen["audio"], noisy["audio"])
    assert unseen["audio"].std() > 0


def test_coordinates_equal_those_of_the_librarys_transformer(family: Family, transformer: nn.Module) -> None:
    shape = ClipShape(17, FrameSize(96, 64), Fraction(30000, 1001))
    library: Any = transformer
    video = library.rope.prepare_video_coords(1, 5, 8, 12, CPU, fps=float(shape.frame_rate))
    audio = library.audio_rope.prepare_audio_coords(1, 14, CPU)

    assert torch.equal(family.video_coordinates(shape), video[0])
    assert torch.equal(family.audio_coordinates(14), audio[0])


def test_the_transformers_memory_is_given_back_though_it_is_still_named(family: Family) -> None:
    with family.transformer(CPU, torch.float32) as transformer:
        assert {weight.device.type for weight in transformer.parameters()} == {"cpu"}

    assert {weight.device.type for weight in transformer.parameters()} == {"meta"}


def test_the_transformer_comes_frozen_and_without_checkpointing(transformer: nn.Module) -> None:
    assert not any(weight.requires_grad for weight in transformer.parameters())
    assert not transformer.training
    assert not transformer.gradient_checkpointing


def test_stg_defaults_to_the_last_block_of_a_shallow_model(family: Family) -> None:
    assert family.sampling.stg_blocks == (family.facts.num_blocks - 1,)
