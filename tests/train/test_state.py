from pathlib import Path

import pytest
import torch

from ltx_trainer.continuation import newest_checkpoint
from ltx_trainer.errors import CheckpointError
from ltx_trainer.train.state import (
    TrainingState,
    random_state,
    read_checkpoint,
    remove_old_checkpoints,
    restore_random_state,
    write_checkpoint,
)

IDENTITY = {"input.rank": 8, "lora.targets": ("attn1",)}


@pytest.fixture
def state() -> TrainingState:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.full((2, 3), 0.5)
    optimizer.step()
    draws = torch.Generator().manual_seed(4)
    return TrainingState(7, {"a.lora_A.weight": weight.detach()}, optimizer.state_dict(), (random_state(draws),))


def test_a_checkpoint_comes_back_equal(tmp_path: Path, state: TrainingState) -> None:
    back = read_checkpoint(write_checkpoint(tmp_path, state, IDENTITY), IDENTITY)

    assert back.step == 7
    assert torch.equal(back.adapter["a.lora_A.weight"], state.adapter["a.lora_A.weight"])
    assert back.optimizer["param_groups"][0]["lr"] == 0.1
    assert torch.equal(back.optimizer["state"][0]["exp_avg"], state.optimizer["state"][0]["exp_avg"])
    assert torch.equal(back.optimizer["state"][0]["step"], torch.tensor(1.0))


def test_restored_generators_draw_on_where_they_stood() -> None:
    draws = torch.Generator().manual_seed(4)
    torch.manual_seed(5)
    torch.randn(3, generator=draws)
    torch.randn(2)
    taken = random_state(draws)
    expected = torch.randn(3, generator=draws), torch.randn(2)

    torch.manual_seed(99)
    draws.manual_seed(99)
    restore_random_state(taken, draws)

    assert torch.equal(torch.randn(3, generator=draws), expected[0])
    assert torch.equal(torch.randn(2), expected[1])


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path: Path, state: TrainingState) -> None:
    path = write_checkpoint(tmp_path, state, IDENTITY)

    with pytest.raises(CheckpointError, match=r"belongs to another run:\n  input\.rank: 8 there, 16 here\n"):
        read_checkpoint(path, {**IDENTITY, "input.rank": 16})


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, state: TrainingState) -> None:
    path = write_checkpoint(tmp_path, state, IDENTITY)
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(CheckpointError, match=r"step-000007\.safetensors is damaged"):
        read_checkpoint(path, IDENTITY)


def test_the_newest_is_that_of_the_highest_step_and_old_ones_go(tmp_path: Path, state: TrainingState) -> None:
    for step in (900, 1000, 20):
        write_checkpoint(tmp_path, TrainingState(step, state.adapter, state.optimizer, state.random), IDENTITY)

    (tmp_path / "step-000900-best.safetensors").touch()

    remove_old_checkpoints(tmp_path, keep=2)

    assert newest_checkpoint(tmp_path) == tmp_path / "step-001000.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000900-best.safetensors",
        "step-000900.safetensors",
        "step-001000.safetensors",
    ]


def test_a_folder_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None
