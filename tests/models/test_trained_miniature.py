"""The miniature as it comes with the package: what it makes of captions, by the engine's own sampler at its defaults.

The compositions were held out of its training.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from miniature.scores import Made, against_others, defaults, held_out_scenes, reconstruction, sample_held_out, share
from safetensors import safe_open

from ltx_trainer import world
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import TRAINED_LTX23
from ltx_trainer.models.weights import read_weight

SHAPE = ClipShape(17, FrameSize(64, 64), Fraction(24))
NUM_CLIPS = 24


@dataclass(frozen=True)
class Sampled:
    """Clips, and the scenes that their captions describe."""

    made: Sequence[Made]
    scenes: Sequence[world.Scene]


@pytest.fixture(scope="module")
def trained(trained_folder: Path) -> Family:
    return open_family(read_model(trained_folder, "ltx-2.3"))


@pytest.fixture(scope="module")
def sampled(trained: Family, tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    scratch = tmp_path_factory.mktemp("prompts")
    return Sampled(*sample_held_out(trained, SHAPE, NUM_CLIPS, scratch, defaults(trained)))


def metadata() -> dict[str, str]:
    with safe_open(TRAINED_LTX23, "pt") as file:
        return file.metadata()


def test_it_is_small_and_says_what_it_was_made_by_and_how_well_it_draws() -> None:
    assert TRAINED_LTX23.stat().st_size <= 12e6
    assert len(metadata()["script"]) == 64
    scores = json.loads(metadata()["scores"])
    assert scores["held-out compositions"]["colour"] >= 0.95
    assert scores["held-out compositions"]["motion"] >= 0.85
    assert scores["held-out compositions"]["pitch"] >= 0.95


def test_its_video_vae_keeps_what_it_is_shown(trained: Family) -> None:
    with trained.video_codec(torch.device("cpu")) as codec:
        assert reconstruction(codec, held_out_scenes(16), SHAPE)["psnr"] >= 28


@pytest.mark.parametrize("component", ["vae", "audio_vae"])
def test_forgetting_its_statistics_would_show(trained: Family, component: str) -> None:
    mean, std = (read_weight(trained.facts.components[component], f"latents_{name}") for name in ("mean", "std"))

    assert mean.abs().mean() > 0.1
    assert (std - 1).abs().mean() > 0.1


def test_its_latents_are_normalised(trained: Family) -> None:
    with trained.video_codec(torch.device("cpu")) as codec:
        clips = [world.render(scene, 64, 64, 17) for scene in world.draw_scenes(24, 5)]
        latents = torch.stack([codec.encode(torch.from_numpy(clip)) for clip in clips])

    assert latents.mean((0, 2, 3, 4)) == pytest.approx(torch.zeros(latents.shape[1]), abs=0.25)
    assert latents.std((0, 2, 3, 4)) == pytest.approx(torch.ones(latents.shape[1]), abs=0.25)


def test_it_draws_and_sounds_what_a_caption_says(sampled: Sampled) -> None:
    found = share(sampled.made, sampled.scenes)

    assert found["colour"] >= 0.95
    assert found["motion"] >= 0.85
    assert found["pitch"] >= 0.95


def test_against_the_captions_of_others_it_scores_at_chance(sampled: Sampled) -> None:
    """A clip fits the caption of another no oftener than the scene of that other does."""
    found = against_others(sampled.made, sampled.scenes)

    expected = by_chance(sampled.scenes)
    assert found["colour"] == pytest.approx(expected["colour"], abs=0.05)
    assert found["motion"] == pytest.approx(expected["motion"], abs=0.08)


def by_chance(scenes: Sequence[world.Scene]) -> dict[str, float]:
    pairs = [(one, other) for one in scenes for other in scenes if one is not other]
    return {
        name: sum(getattr(one, name) == getattr(other, name) for one, other in pairs) / len(pairs)
        for name in ("colour", "motion")
    }
