import json
from pathlib import Path

import pytest
import torch

from ltx_trainer.diffusion import draw_sigmas, sampling_sigmas, shifted_logit_normal

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("num_steps", [4, 8, 20, 30])
def test_sampling_levels_are_the_recorded_ones(num_steps: int) -> None:
    recorded = json.loads((GOLDEN / "sampling_sigmas.json").read_text())[str(num_steps)]

    assert sampling_sigmas(num_steps) == pytest.approx(recorded, abs=1e-6)


def test_one_step_goes_from_noise_to_the_clip() -> None:
    assert sampling_sigmas(1) == [1.0, 0.0]


@pytest.mark.parametrize("num_tokens", [126, 1024, 2816, 4096, 8192])
def test_training_levels_are_the_recorded_ones(num_tokens: int) -> None:
    recorded = json.loads((GOLDEN / "training_sigmas.json").read_text())[str(num_tokens)]
    normal = torch.tensor([float(value) for value in recorded])

    levels = shifted_logit_normal(normal, num_tokens)

    torch.testing.assert_close(levels, torch.tensor(list(recorded.values())), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("num_tokens", "mean"), [(4096, 0.743), (126, 0.581)])
def test_drawn_levels_have_the_published_mean(num_tokens: int, mean: float) -> None:
    generator = torch.Generator().manual_seed(0)

    levels = draw_sigmas(
        200_000, num_tokens, distribution="shifted_logit_normal", uniform_fraction=0.1, generator=generator
    )

    assert float(levels.mean()) == pytest.approx(mean, abs=2e-3)
    assert 0 <= float(levels.min()) < float(levels.max()) <= 1


def test_a_draw_takes_as_much_from_the_generator_whatever_the_distribution() -> None:
    states = []
    for distribution in ("shifted_logit_normal", "uniform"):
        generator = torch.Generator().manual_seed(3)
        draw_sigmas(5, 100, distribution=distribution, uniform_fraction=0.0, generator=generator)
        states.append(generator.get_state())

    assert torch.equal(*states)


def test_uniform_levels_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)

    levels = draw_sigmas(100_000, 4096, distribution="uniform", uniform_fraction=0.0, generator=generator)

    deciles = torch.quantile(levels, torch.linspace(0.1, 0.9, 9))
    torch.testing.assert_close(deciles, torch.linspace(0.1, 0.9, 9), atol=0.01, rtol=0)
