"""Which runs are one: what must agree before a checkpoint is continued."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ltx_trainer.artifacts import Clips
from ltx_trainer.config import Settings
from ltx_trainer.continuation import check_newest, run_identity
from ltx_trainer.errors import CheckpointError
from ltx_trainer.pipeline import Space, look
from ltx_trainer.tensorfile import write_tensors
from ltx_trainer.train.state import TrainingState, write_checkpoint

Load = Callable[..., Settings]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, load: Load) -> Clips:
    folder = tmp_path_factory.mktemp("look")
    return look(load(), Space(folder / "out", folder / "cache")).clips


@pytest.mark.parametrize(
    "change",
    ["training.checkpoint_interval=7", "training.keep_checkpoints=9", "validation.steps=3", "input.number_of_steps=9"],
)
def test_what_does_not_change_the_adapter_does_not_part_two_runs(load: Load, clips: Clips, change: str) -> None:
    assert run_identity(load(change), clips, 1) == run_identity(load(), clips, 1)


@pytest.mark.parametrize(
    "change",
    [
        "input.frame_rate=12",
        "input.auto_scale_input=true",
        "input.rank=16",
        "lora.alpha=4",
        "lora.targets=[attn1]",
        "noise.uniform_fraction=0.5",
        "training.seed=7",
        "optimizer.weight_decay=0.1",
    ],
)
def test_what_changes_the_adapter_parts_two_runs(load: Load, clips: Clips, change: str) -> None:
    name = change.partition("=")[0]
    here, there = run_identity(load(change), clips, 1), run_identity(load(), clips, 1)

    assert here[name] != there[name]
    # Alpha follows the rank where it is not given.
    assert {key for key in here if here[key] != there[key]} <= {name, "lora.alpha"}


def test_an_edited_caption_is_named_by_its_clip(load: Load, clips: Clips, tmp_path: Path) -> None:
    first, *others = clips.clips
    edited = replace(clips, clips=(replace(first, caption="something else"), *others[:-1]))
    write_checkpoint(
        tmp_path, TrainingState(2, {}, {"state": {}, "param_groups": []}, ()), run_identity(load(), clips, 1)
    )

    with pytest.raises(CheckpointError, match=r"clips: 1 gone \(clip-3\); 1 changed \(clip-0\)"):
        check_newest(tmp_path, run_identity(load(), edited, 1), num_steps=4)


def test_a_checkpoint_of_another_base_model_is_refused(load: Load, clips: Clips, tmp_path: Path) -> None:
    identity = dict(run_identity(load(), clips, 1))
    state = TrainingState(2, {}, {"state": {}, "param_groups": []}, ())
    write_checkpoint(tmp_path, state, {**identity, "model.base": "one"})

    check_newest(tmp_path, {**identity, "model.base": "one"}, num_steps=4)
    with pytest.raises(CheckpointError, match=r'model\.base: "one" there, "another" here'):
        check_newest(tmp_path, {**identity, "model.base": "another"}, num_steps=4)


def test_a_damaged_checkpoint_is_told_before_anything_is_computed(load: Load, clips: Clips, tmp_path: Path) -> None:
    path = tmp_path / "step-000002.safetensors"
    write_tensors(path, {"a": torch.zeros(4)})
    path.write_bytes(path.read_bytes()[:20])

    with pytest.raises(CheckpointError, match=r"step-000002\.safetensors is damaged: .* Delete it"):
        check_newest(tmp_path, run_identity(load(), clips, 1), num_steps=4)
