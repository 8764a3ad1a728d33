from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ltx_trainer.config import OptimizerSection
from ltx_trainer.train.optimizer import make_optimizer, rate_at, rate_of, set_rate

FALLING = ("linear", "cosine", "polynomial")


def rates(num_steps: int, **settings: object) -> list[float]:
    section = OptimizerSection.model_validate(settings)
    return [rate_at(step, peak=1.0, num_steps=num_steps, settings=section) for step in range(num_steps)]


def test_warm_up_rises_to_the_peak_and_the_constant_schedule_stays_there() -> None:
    assert rates(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_linear_schedule_falls_along_a_line_that_ends_at_0() -> None:
    assert rates(6, warmup_steps=2, schedule="linear") == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_the_cosine_schedule_is_half_way_down_in_the_middle() -> None:
    assert rates(8, schedule="cosine")[4] == pytest.approx(0.5)


def test_the_polynomial_schedule_falls_by_its_power() -> None:
    assert rates(4, schedule="polynomial", power=3) == [1.0, 0.75**3, 0.5**3, 0.25**3]
    assert rates(7, schedule="polynomial", power=1) == rates(7, schedule="linear")


@pytest.mark.parametrize("schedule", FALLING)
@given(num_steps=st.integers(2, 60), share=st.floats(0, 0.95))
def test_every_schedule_rises_to_the_peak_and_falls_from_it_without_reaching_0(
    schedule: str, num_steps: int, share: float
) -> None:
    warmup = int(share * num_steps)
    found = rates(num_steps, schedule=schedule, warmup_steps=warmup)

    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup] == 1.0
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    assert found[-1] > 0


def test_schedule_free_adamw_warms_up_by_itself() -> None:
    assert rates(4, name="schedule_free", warmup_steps=2) == [1.0, 1.0, 1.0, 1.0]
    weight, optimizer = made("schedule_free", 1.0, warmup_steps=2)
    optimizer.train()

    taken = [rate_after_a_step(optimizer, weight) for _ in range(3)]

    assert taken == [0.5, 1.0, 1.0]


def made(name: str, rate: float, **settings: Any) -> tuple[nn.Parameter, Any]:
    weight = nn.Parameter(torch.ones(2, 3))
    section = OptimizerSection.model_validate({"name": name, **settings})
    return weight, make_optimizer(section, [weight], rate)


def rate_after_a_step(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> float:
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    return rate_of(optimizer)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "schedule_free", "prodigy"])
def test_every_optimizer_takes_the_settings_and_says_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    _, optimizer = made(name, 0.5, betas=(0.5, 0.75), epsilon=1e-3, weight_decay=0.25)
    (group,) = optimizer.param_groups

    assert (group["lr"], tuple(group["betas"]), group["eps"], group["weight_decay"]) == (0.5, (0.5, 0.75), 1e-3, 0.25)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "schedule_free", "prodigy"])
def test_every_optimizer_goes_downhill_and_decays_what_has_no_gradient(name: str) -> None:
    weight, optimizer = made(name, 1.0 if name == "prodigy" else 0.1, weight_decay=0.1)
    if name == "schedule_free":
        optimizer.train()
    for _ in range(20):
        weight.grad = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, -1.0]])
        optimizer.step()

    moved = weight.detach() - 1
    assert (moved[0, :2] < 0).all()
    assert moved[1, 2] > 0
    assert moved[0, 2] < 0
    assert moved[0, 2] > moved[0, 0]


def test_prodigys_rate_is_told_with_what_it_found() -> None:
    weight, optimizer = made("prodigy", 1.0)
    set_rate(optimizer, 0.5)

    found = [rate_after_a_step(optimizer, weight) for _ in range(50)]

    assert found[0] == pytest.approx(0.5 * optimizer.param_groups[0]["d0"], rel=0.01)
    assert found[-1] > found[0]
