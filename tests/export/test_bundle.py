"""The published files, held against what training left."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ltx_trainer.artifacts import ADAPTER_PREFIX, AVERAGE_PREFIX, Bundle
from ltx_trainer.errors import CheckpointError, ConfigError, OutOfResources
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.modes import ALL_ATTENTION
from ltx_trainer.tensorfile import write_tensors
from tests.families import both_families, ltx_video_only


def test_keys_are_those_of_the_original_checkpoint_in_every_block(published: Any, family: Any) -> None:
    keys = set(load_file(published.bundle.lora))

    assert len(keys) == len(published.trained)
    for block in range(family.facts.num_blocks):
        for module in ("attn1.to_q", "attn2.to_out.0", "audio_attn1.to_k", "video_to_audio_attn.to_v"):
            for matrix in "AB":
                assert f"diffusion_model.transformer_blocks.{block}.{module}.lora_{matrix}.weight" in keys


def test_tensors_are_bf16_and_the_product_carries_the_strength(published: Any) -> None:
    tensors = load_file(published.bundle.lora)
    name = "transformer_blocks.1.attn1.to_q"

    down, up = (tensors[f"diffusion_model.{name}.lora_{matrix}.weight"] for matrix in "AB")

    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert torch.equal(down, published.trained[f"{name}.lora_A.weight"].bfloat16())
    # alpha 12, rank 8
    assert torch.equal(up, (1.5 * published.trained[f"{name}.lora_B.weight"]).bfloat16())


def test_alpha_equals_the_rank_unless_it_is_given(publish: Callable[..., Bundle], silent: Any) -> None:
    up = "transformer_blocks.0.attn1.to_q.lora_B.weight"

    tensors = load_file(publish(silent.trained, with_audio=False, alpha=None).lora)

    assert torch.equal(tensors[f"diffusion_model.{up}"], silent.trained[up].bfloat16())


def test_a_silent_run_publishes_no_tensor_of_sound(silent: Any) -> None:
    keys = load_file(silent.bundle.lora).keys()

    assert len(keys) == 4 * 2 * 4 * 2
    assert not [key for key in keys if "audio" in key]


def test_the_file_says_what_it_is(published: Any, silent: Any) -> None:
    with safe_open(published.bundle.lora, "pt") as sounding, safe_open(silent.bundle.lora, "pt") as mute:
        metadata = sounding.metadata()

        assert mute.metadata()["with_audio"] == "false"
    assert metadata.pop("trained_with").startswith("ltx-trainer ")
    assert metadata == {
        "format": "pt",
        "endpoint": "fal-ai/ltx23-trainer-v2/t2v",
        "mode": "t2v",
        "family": "ltx-2.3",
        "base_model": "miniature ltx-2.3-random",
        "rank": "8",
        "steps": "7",
        "trigger_phrase": "TOK",
        "with_audio": "true",
    }


@ltx_video_only
def test_a_file_of_a_family_without_sound_says_so(silent: Any) -> None:
    with safe_open(silent.bundle.lora, "pt") as lora:
        metadata = lora.metadata()

    assert (metadata["family"], metadata["mode"], metadata["with_audio"]) == ("ltx-video", "ltx-video-trainer", "false")
    assert metadata["base_model"] == "miniature ltx-video-random"


def test_the_config_file_knows_the_lora_by_its_digest(published: Any) -> None:
    config = json.loads(published.bundle.config.read_text())

    assert config["lora_sha256"] == hashlib.sha256(published.bundle.lora.read_bytes()).hexdigest()
    assert config["training"] == {"num_frames": 9, "frame_rate": 24.0, "width": 64, "height": 64}
    assert config["inference"] == {
        "num_frames": 17,
        "frame_rate": pytest.approx(29.97, abs=1e-3),
        "width": 96,
        "height": 64,
        "num_steps": 30,
        "lora_scale": 1.0,
        "negative_prompt": "blurry",
        "reverse": False,
    }
    assert (config["rank"], config["steps"], config["trigger_phrase"]) == (8, 7, "TOK")


V2V, T2A = "fal-ai/ltx23-trainer-v2/v2v", "fal-ai/ltx23-trainer-v2/t2a"


def test_a_mode_with_references_says_how_much_smaller_and_slower_they_are(
    publish: Callable[..., Bundle], family: Family, silent: Any
) -> None:
    request = {"reference_downscale_factor": 2, "reference_temporal_scale_factor": 2}

    bundle = publish(
        silent.trained, endpoint=V2V, request=request, targets=["attn1", "attn2"], with_audio=False, base=family
    )

    with safe_open(bundle.lora, "pt") as lora:
        metadata = lora.metadata()
    factors = (metadata["reference_downscale_factor"], metadata["reference_temporal_scale_factor"])
    assert factors == ("2", "2")
    assert json.loads(bundle.config.read_text())["conditions"] == [
        {"condition": "reference", "downscale_factor": 2, "temporal_scale_factor": 2},
        {"condition": "first frame", "share": 0.1},
    ]
    with safe_open(silent.bundle.lora, "pt") as lora:
        assert "reference_downscale_factor" not in lora.metadata()


def test_a_mode_without_video_publishes_its_preview_as_audio_and_its_length_in_seconds(
    publish: Callable[..., Bundle], published: Any
) -> None:
    groups = ("audio_attn1", "audio_attn2")
    state = {name: weight for name, weight in published.trained.items() if name.split(".")[2] in groups}

    bundle = publish(state, endpoint=T2A, request={"audio_duration_seconds": 2.5}, targets=groups)

    assert bundle.video is None
    assert bundle.audio is not None
    config = json.loads(bundle.config.read_text())
    assert config["training"] == {"duration_seconds": 2.5}
    assert config["inference"]["duration_seconds"] == 2.5
    assert published.bundle.audio is None
    assert published.bundle.video is not None


def test_what_only_the_prediction_of_a_frozen_stream_depends_on_is_not_part_of_the_lora(family: Family) -> None:
    last = family.facts.num_blocks - 1
    given_sound = family.lora_modules(ALL_ATTENTION, frozen={"audio"})

    lacking = set(family.lora_modules(ALL_ATTENTION)).difference(given_sound)

    assert {module.rsplit(".to_", 1)[0] for module in lacking} == {f"transformer_blocks.{last}.video_to_audio_attn"}
    assert family.lora_modules(["ff", "attn1"], frozen={"video"})[-1].startswith(f"transformer_blocks.{last}.attn1")


@both_families
def test_the_same_adapter_is_published_as_the_same_bytes(publish: Callable[..., Bundle], silent: Any) -> None:
    again = publish(silent.trained, with_audio=False)

    assert again.lora.read_bytes() == silent.bundle.lora.read_bytes()


@both_families
@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "not finite in 64 of 64"), (0.0, r"32 modules .* learnt nothing")]
)
def test_a_lora_that_does_not_work_is_not_published(
    publish: Callable[..., Bundle], silent: Any, value: float, message: str
) -> None:
    whole = publish(silent.trained, with_audio=False)
    before = whole.lora.read_bytes()
    broken = {name: torch.full_like(weight, value) for name, weight in silent.trained.items()}

    with pytest.raises(CheckpointError, match=message):
        publish(broken, with_audio=False)

    assert whole.lora.read_bytes() == before
    assert {path.name for path in whole.lora.parent.iterdir()} == {"checkpoints", "config.json", "lora.safetensors"}


def test_a_moving_average_is_published_in_place_of_what_it_is_the_average_of(
    publish: Callable[..., Bundle], silent: Any, tmp_path: Path
) -> None:
    average = {name: weight + 1 for name, weight in silent.trained.items()}
    checkpoint = tmp_path / "checkpoint.safetensors"
    both = ((ADAPTER_PREFIX, silent.trained), (AVERAGE_PREFIX, average), ("optimizer/", silent.trained))
    write_tensors(checkpoint, {f"{prefix}{name}": item for prefix, state in both for name, item in state.items()})
    down = "transformer_blocks.1.attn1.to_q.lora_A.weight"

    for prefix, state in both[:2]:
        found = load_file(publish({}, checkpoint=checkpoint, prefix=prefix, with_audio=False).lora)

        assert len(found) == len(state)
        assert torch.equal(found[f"diffusion_model.{down}"], state[down].bfloat16())


def test_the_config_file_names_the_commit_of_a_model_from_the_hub(
    publish: Callable[..., Bundle], silent: Any, family: Family
) -> None:
    fetched = open_family(replace(family.facts, revision="0123abc"))

    # Each is read before the next one takes its place.
    configs = [
        json.loads(publish(silent.trained, base=base, with_audio=False).config.read_text())
        for base in (family, fetched)
    ]

    assert [config["base_model_revision"] for config in configs] == [None, "0123abc"]
    assert {config["base_model_version"] for config in configs} == {family.facts.version}


def test_the_config_file_names_the_lora_of_a_warm_start(
    publish: Callable[..., Bundle], silent: Any, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(b"a LoRA")

    cold, warm = (
        json.loads(publish(silent.trained, model=model, with_audio=False).config.read_text())
        for model in ({}, {"lora": str(start)})
    )

    assert cold["warm_start"] is None
    assert warm["warm_start"] == {"file_name": "start.safetensors", "sha256": hashlib.sha256(b"a LoRA").hexdigest()}


def test_nothing_is_published_with_a_warm_start_that_cannot_be_named(
    publish: Callable[..., Bundle], silent: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora .*gone\.safetensors cannot be read any more.* Put it back"):
        publish(silent.trained, tmp_path / "out", model={"lora": str(tmp_path / "gone.safetensors")}, with_audio=False)

    assert not list((tmp_path / "out").glob("*.*"))


def test_a_checkpoint_that_cannot_be_read_is_named(publish: Callable[..., Bundle], silent: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step-000007.safetensors"
    checkpoint.write_bytes(b"no tensors")

    with pytest.raises(CheckpointError, match=r"step-000007\.safetensors cannot be read"):
        publish(silent.trained, checkpoint=checkpoint, with_audio=False)


@both_families
@pytest.mark.parametrize(("kib", "left"), [(12, []), (140, ["lora.safetensors"])])
def test_a_full_disk_leaves_whole_files_only(
    publish: Callable[..., Bundle], silent: Any, small_disk: Callable[[int], Path], kib: int, left: list[str]
) -> None:
    disk = small_disk(kib)
    checkpoint = silent.bundle.lora.parent / "checkpoints/step-000007.safetensors"

    with pytest.raises(OutOfResources, match="No space left on the disk"):
        publish(silent.trained, disk, checkpoint=checkpoint, with_audio=False)

    assert [path.name for path in disk.iterdir()] == left
    assert [path.read_bytes() for path in disk.iterdir()] == [silent.bundle.lora.read_bytes() for _ in left]


def test_a_folder_that_cannot_be_written_to_is_refused(
    publish: Callable[..., Bundle], silent: Any, read_only_disk: Path
) -> None:
    checkpoint = silent.bundle.lora.parent / "checkpoints/step-000007.safetensors"

    with pytest.raises(ConfigError, match=r"lora\.safetensors cannot be written: Read-only file system"):
        publish(silent.trained, read_only_disk, checkpoint=checkpoint, with_audio=False)
