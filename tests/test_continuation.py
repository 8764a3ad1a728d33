"""Which runs are one: what must agree before a checkpoint is continued."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ltx_trainer.artifacts import Clips, Role
from ltx_trainer.config import Settings
from ltx_trainer.continuation import check_newest, newest_whole, run_identity
from ltx_trainer.errors import CheckpointError
from ltx_trainer.pipeline import Space, look
from ltx_trainer.tensorfile import write_sealed_tensors, write_tensors
from ltx_trainer.train.state import TrainingState, write_checkpoint

Load = Callable[..., Settings]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, load: Load) -> Clips:
    folder = tmp_path_factory.mktemp("look")
    return look(load(), Space(folder / "out", folder / "cache")).clips


@pytest.mark.parametrize(
    "change",
    [
        "training.checkpoint_interval=7",
        "training.keep_checkpoints=9",
        "validation.steps=3",
        "input.number_of_steps=9",
        "held_out.sigmas=[0.5]",
        "report.wandb_project=mine",
        "downloads.max_gigabytes=1",
        "data.max_left_out=1",
        "paths.cache=/elsewhere",
        "model.base=elsewhere",
    ],
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
        "noise.levels=per_stream",
        "training.seed=7",
        "training.batch_size=2",
        "training.video_loss_weight=2",
        "training.audio_loss_weight=2",
        "training.ema_decay=0.9",
        "optimizer.weight_decay=0.1",
        "optimizer.name=adamw_8bit",
        "optimizer.power=3",
    ],
)
def test_what_changes_the_adapter_parts_two_runs(load: Load, clips: Clips, change: str) -> None:
    name = change.partition("=")[0]
    here, there = run_identity(load(change), clips, 1), run_identity(load(), clips, 1)

    assert here[name] != there[name]
    # Alpha follows the rank where it is not given.
    assert {key for key in here if here[key] != there[key]} <= {name, "lora.alpha"}


def test_held_out_clips_part_two_runs_but_not_when_they_are_measured(load: Load, clips: Clips) -> None:
    def identity(*changes: str) -> object:
        return run_identity(load("held_out.fraction=0.25", *changes), clips, 1)

    assert identity() != run_identity(load(), clips, 1)
    assert identity() != identity("held_out.sigmas=[0.5]")
    assert identity() == identity("held_out.interval=7")


def test_an_edited_caption_is_named_by_its_clip(load: Load, clips: Clips, tmp_path: Path) -> None:
    first, *others = clips.clips
    edited = replace(clips, clips=(replace(first, caption="something else"), *others[:-1]))
    write_checkpoint(
        tmp_path, TrainingState(2, {}, {"state": {}, "param_groups": []}, ()), run_identity(load(), clips, 1)
    )

    with pytest.raises(CheckpointError, match=r"clips: 1 gone \(clip-3\); 1 changed \(clip-0\)"):
        check_newest(tmp_path, run_identity(load(), edited, 1), num_steps=4)


@pytest.mark.parametrize("change", [{"gain": 0.5}, {"preserve_pitch": False}], ids=["gain", "preserve_pitch"])
def test_a_sound_made_otherwise_parts_two_runs(load: Load, clips: Clips, change: dict[str, Any]) -> None:
    first, *others = clips.clips
    sound = first.soundtrack[Role.TARGET]
    changed = replace(first, soundtrack={Role.TARGET: replace(sound, **change)})
    assert changed != first

    here = run_identity(load(), replace(clips, clips=(changed, *others)), 1)
    there = run_identity(load(), clips, 1)

    assert {name for name in here if here[name] != there[name]} == {"clips"}
    assert {name for name in here["clips"] if here["clips"][name] != there["clips"][name]} == {first.name}


def test_a_checkpoint_of_another_base_model_is_refused(load: Load, clips: Clips, tmp_path: Path) -> None:
    identity = dict(run_identity(load(), clips, 1))
    state = TrainingState(2, {}, {"state": {}, "param_groups": []}, ())
    write_checkpoint(tmp_path, state, {**identity, "model.base": "one"})

    check_newest(tmp_path, {**identity, "model.base": "one"}, num_steps=4)
    with pytest.raises(CheckpointError, match=r'model\.base: "one" there, "another" here'):
        check_newest(tmp_path, {**identity, "model.base": "another"}, num_steps=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small checkpoint."""
    state = TrainingState(4, {"a": torch.arange(6.0)}, {"state": {0: {"m": torch.ones(3)}}, "param_groups": []}, ())
    return write_checkpoint(tmp_path_factory.mktemp("whole"), state, {"input.rank": 8}).read_bytes()


def damage_seen(path: Path, content: bytes) -> bool:
    """Tell whether a file of this content is found to be damaged."""
    path.write_bytes(content)
    newest = newest_whole(path.parent)
    assert newest.path is None or not newest.damaged
    return newest.path is None and list(newest.damaged) == [path]


def test_every_changed_byte_is_found(checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "step-000004.safetensors"
    assert not damage_seen(path, checkpoint)

    for place in range(len(checkpoint)):
        changed = bytearray(checkpoint)
        changed[place] ^= 1 << place % 8
        assert damage_seen(path, bytes(changed)), f"byte {place}"


def test_every_cut_and_anything_added_is_found(checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "step-000004.safetensors"

    assert all(damage_seen(path, checkpoint[:length]) for length in range(len(checkpoint)))
    assert damage_seen(path, checkpoint + b"\0")
    assert damage_seen(path, b"\xff" * len(checkpoint))
    assert damage_seen(path, (20000).to_bytes(8, "little") + b"[" * 20000)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        path = write_checkpoint(tmp_path, TrainingState(step, {}, {"state": {}, "param_groups": []}, ()), {})
        path.write_bytes(path.read_bytes()[: None if step == 2 else 20])

    assert check_newest(tmp_path, {}, num_steps=6) == 2
    assert len(newest_whole(tmp_path).damaged) == 2


def test_a_checkpoint_that_the_disk_does_not_give_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, TrainingState(2, {}, {"state": {}, "param_groups": []}, ()), {})

    def refuse_to_read(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse_to_read)
    with pytest.raises(CheckpointError, match=r"step-000002\.safetensors cannot be read: Input/output error"):
        check_newest(tmp_path, {}, num_steps=4)
    assert path.is_file()


def test_damaged_checkpoints_alone_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "step-000002.safetensors").touch()

    assert check_newest(tmp_path, {}, num_steps=4) == 0


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({"step": "2", "identity": "{}"}, "names no format"), ({"format": "99", "sha256": "0" * 64}, "has the format 99")],
)
def test_a_checkpoint_of_another_release_is_refused(tmp_path: Path, metadata: dict[str, str], said: str) -> None:
    path = tmp_path / "step-000002.safetensors"
    if "sha256" in metadata:
        write_sealed_tensors(path, {"a": torch.zeros(4)}, metadata, placeholder=metadata["sha256"])
    else:
        write_tensors(path, {"a": torch.zeros(4)}, metadata)

    with pytest.raises(CheckpointError, match=rf"{said}; this release continues checkpoints of format 1\. Continue it"):
        check_newest(tmp_path, {}, num_steps=4)


def test_the_newest_of_more_than_a_million_steps_is_found(tmp_path: Path) -> None:
    for step in (999999, 1000000):
        path = write_checkpoint(tmp_path, TrainingState(step, {}, {"state": {}, "param_groups": []}, ()), {})

    assert newest_whole(tmp_path).path == path


def test_a_warm_start_from_another_file_parts_two_runs(load: Load, clips: Clips, tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("first", "copy", "other"))
    for path, content in ((first, b"a"), (copy, b"a"), (other, b"b")):
        path.write_bytes(content)

    def identity(path: Path) -> object:
        return run_identity(load(f"model.lora={path}"), clips, 1)

    assert identity(first) == identity(copy)
    assert identity(first) != identity(other)
    assert identity(first) != run_identity(load(), clips, 1)
    with pytest.raises(CheckpointError, match=r"model\.lora .*absent cannot be read: No such file"):
        identity(tmp_path / "absent")
