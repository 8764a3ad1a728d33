import pytest

from ltx_trainer.config import OptimizerSection
from ltx_trainer.train.optimizer import rate_at


def rates(num_steps: int, **settings: object) -> list[float]:
    section = OptimizerSection.model_validate(settings)
    return [rate_at(step, peak=1.0, num_steps=num_steps, settings=section) for step in range(num_steps)]


def test_warm_up_rises_to_the_peak_and_the_constant_schedule_stays_there() -> None:
    assert rates(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_linear_schedule_falls_along_a_line_that_ends_at_0() -> None:
    assert rates(6, warmup_steps=2, schedule="linear") == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_the_cosine_schedule_is_half_way_down_in_the_middle() -> None:
    cosine = rates(8, schedule="cosine")

    assert cosine[0] == 1.0
    assert cosine[4] == pytest.approx(0.5)
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[-1] > 0
