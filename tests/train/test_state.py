import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltx_trainer.config import OptimizerSection
from ltx_trainer.continuation import newest_whole
from ltx_trainer.errors import CheckpointError
from ltx_trainer.train.optimizer import make_optimizer
from ltx_trainer.train.state import (
    TrainingState,
    random_state,
    read_checkpoint,
    remove_old_checkpoints,
    restore_random_state,
    set_damaged_aside,
    write_checkpoint,
)

IDENTITY = {"input.rank": 8, "lora.targets": ("attn1",)}
STEPS = 9


def state_at(step: int, optimizer: dict[str, Any] | None = None) -> TrainingState:
    return TrainingState(
        step=step,
        adapter={"a.lora_A.weight": torch.full((2, 3), float(step))},
        optimizer=optimizer or {"state": {}, "param_groups": []},
        random=(random_state(torch.Generator().manual_seed(4)),),
        average={"a.lora_A.weight": torch.full((2, 3), 0.5)},
        attempts=step + 3,
        skipped=3,
        in_a_row=2,
        held_out=((0, 1.25), (2, 0.1)),
    )


def stepped(name: str, sizes: tuple[int, ...] = (5000, 6)) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Give an optimizer that has taken a step; the first weight is large enough for 8 bits."""
    weights = [nn.Parameter(torch.linspace(-1, 1, size)) for size in sizes]
    optimizer: Any = make_optimizer(OptimizerSection.model_validate({"name": name}), weights, 0.1)
    if name == "schedule_free":
        optimizer.train()
    step(weights, optimizer)
    return weights, optimizer


def step(weights: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    for weight in weights:
        weight.grad = weight.detach() ** 2 + 0.1
    optimizer.step()


def equal(one: Any, other: Any) -> bool:
    """Compare states down to types and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_a_checkpoint_comes_back_equal(tmp_path: Path) -> None:
    state = state_at(7)

    back = read_checkpoint(write_checkpoint(tmp_path, state, IDENTITY), IDENTITY, STEPS)

    assert equal(vars(back), vars(state))


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "schedule_free", "prodigy"])
def test_an_optimizer_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path, name: str) -> None:
    weights, optimizer = stepped(name)
    before = optimizer.state_dict()
    path = write_checkpoint(tmp_path, state_at(1, before), IDENTITY)
    kept = read_checkpoint(path, IDENTITY, STEPS).optimizer
    assert equal(kept, before)

    others, continued = stepped(name)
    for weight, other in zip(weights, others, strict=True):
        other.data.copy_(weight)
    continued.load_state_dict(dict(kept))
    for _ in range(3):
        step(weights, optimizer)
        step(others, continued)

    assert equal([weight.detach() for weight in weights], [other.detach() for other in others])
    assert equal(optimizer.state_dict(), continued.state_dict())


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


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, state_at(7), IDENTITY)

    with pytest.raises(CheckpointError, match=r"belongs to another run:\n  input\.rank: 8 there, 16 here\n"):
        read_checkpoint(path, {**IDENTITY, "input.rank": 16}, STEPS)


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / name, state_at(7), IDENTITY) for name in ("one", "other")]

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_damaged_checkpoints_are_set_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = write_checkpoint(tmp_path, state_at(2), IDENTITY)
    for number in (4, 5):
        path = write_checkpoint(tmp_path, state_at(number), IDENTITY)
        path.write_bytes(path.read_bytes()[:-1])

    with caplog.at_level(logging.WARNING):
        assert set_damaged_aside(tmp_path).path == whole

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000002.safetensors",
        "step-000004.safetensors.damaged",
        "step-000005.safetensors.damaged",
    ]
    assert caplog.messages[0].endswith("and now called step-000005.safetensors.damaged.")
    assert caplog.messages[-1] == f"Training goes on from {whole}."
    caplog.clear()
    assert set_damaged_aside(tmp_path).path == whole
    assert not caplog.messages


def test_without_a_whole_checkpoint_training_is_said_to_begin_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "step-000004.safetensors").touch()

    assert set_damaged_aside(tmp_path).path is None

    assert caplog.messages[-1] == "Training goes on from step 0: no checkpoint is whole."


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (None, ["000020", "000900", "000950", "001000", "001100"]),
        (3, ["000900", "000950", "001000", "001100"]),
        (1, ["001000", "001100"]),
    ],
)
def test_the_newest_checkpoints_up_to_the_one_just_written_stay(
    tmp_path: Path, keep: int | None, left: list[str]
) -> None:
    for number in (900, 1100, 20, 950):
        write_checkpoint(tmp_path, state_at(number), IDENTITY)
    others = ["step-000900-best.safetensors", "step-000010.safetensors.damaged", "step-5.safetensors"]
    for name in others:
        (tmp_path / name).touch()

    remove_old_checkpoints(write_checkpoint(tmp_path, state_at(1000), IDENTITY), keep)

    assert {path.name for path in tmp_path.iterdir()} == {*others, *(f"step-{name}.safetensors" for name in left)}


def test_a_folder_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "absent").path is None
