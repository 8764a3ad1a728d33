import pytest
import torch

from ltx_trainer.diffusion import GuidanceScales, guide

GENERATOR = torch.Generator().manual_seed(0)
PLAIN, OTHER = torch.randn(2, 1, 6, 4, generator=GENERATOR)


def test_without_weaker_versions_the_estimate_stays() -> None:
    scales = GuidanceScales(cfg=3, stg=1, modality=3, rescale=0)

    assert torch.equal(guide(PLAIN, scales, negative=None, perturbed=None, isolated=None), PLAIN)


@pytest.mark.parametrize(("weaker", "strength"), [("negative", 3 - 1), ("perturbed", 0.5), ("isolated", 2 - 1)])
def test_each_term_pushes_away_from_its_version_by_its_scale(weaker: str, strength: float) -> None:
    scales = GuidanceScales(cfg=3, stg=0.5, modality=2, rescale=0)
    versions = {name: OTHER if name == weaker else None for name in ("negative", "perturbed", "isolated")}

    torch.testing.assert_close(guide(PLAIN, scales, **versions), PLAIN + strength * (PLAIN - OTHER))


def test_full_rescaling_gives_the_spread_of_the_plain_estimate() -> None:
    scales = GuidanceScales(cfg=5, stg=0, modality=1, rescale=1)

    guided = guide(PLAIN, scales, negative=OTHER, perturbed=None, isolated=None)

    torch.testing.assert_close(guided.std(), PLAIN.std())
