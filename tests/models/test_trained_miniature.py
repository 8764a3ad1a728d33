"""The miniatures as they come with the package: what they make of captions, by the engine's sampler at its defaults.

The compositions were held out of its training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from miniature.audio_vae import draw_sounds
from miniature.scores import (
    SHAPE,
    Made,
    defaults,
    held_out_scenes,
    reconstruction,
    sample_held_out,
    share,
)
from safetensors import safe_open

from ltx_trainer import world
from ltx_trainer.media import write_video
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.locate import trained_weights
from ltx_trainer.models.miniature import write_miniature
from tests.families import BOTH, LTX23, LTX_VIDEO

CPU = torch.device("cpu")
SHORT = replace(SHAPE, num_frames=9)
NUM_CLIPS = 4
MOTION = 0.85
CHANCES = {
    "colour": 1 / len(world.KNOWN_COLOURS),
    "shape": 1 / len(world.SHAPES),
    "motion": 1 / len(world.MOTIONS),
}


@dataclass(frozen=True)
class Sampled:
    """Clips, and the scenes that their captions describe."""

    made: Sequence[Made]
    scenes: Sequence[world.Scene]


@pytest.fixture(scope="module", params=BOTH)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("trained") / request.param
    write_miniature(request.param, folder)
    return open_family(read_model(folder, request.param))


@pytest.fixture(scope="module")
def sampled(trained: Family, tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    scratch = tmp_path_factory.mktemp("prompts")
    return Sampled(*sample_held_out(trained, SHAPE, NUM_CLIPS, scratch, defaults(trained)))


def check_share(found: Mapping[str, float]) -> None:
    """Hold what was read of clips to what can be asked: colour, motion and, of sound, pitch."""
    assert found["colour"] >= 0.95
    assert found["motion"] >= MOTION
    assert found.get("pitch", 1.0) >= 0.95


@pytest.mark.parametrize(("name", "most_bytes"), [(LTX23, 12e6), (LTX_VIDEO, 6e6)])
def test_it_is_small_and_says_what_it_was_made_by_and_how_well_it_draws(name: str, most_bytes: float) -> None:
    weights = trained_weights(name)
    assert weights.stat().st_size <= most_bytes
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    assert len(metadata["script"]) == 64
    scores = json.loads(metadata["scores"])
    check_share(scores["held-out compositions"])
    assert ("pitch" in scores["held-out compositions"]) == (name == LTX23)
    others = {name: scores["captions of others"][name] for name in CHANCES}
    assert others == pytest.approx(CHANCES, abs=0.1)


def test_its_video_vae_keeps_what_it_is_shown(trained: Family) -> None:
    with trained.video_codec(CPU) as codec:
        assert reconstruction(codec, held_out_scenes(8), SHAPE)["psnr"] >= 28


def test_latents_of_pictures_are_normalised(trained: Family) -> None:
    with trained.video_codec(CPU) as codec:
        clips = [world.render(scene, 64, 64, 17) for scene in world.draw_scenes(24, 5)]
        latents = torch.stack([codec.encode(torch.from_numpy(clip)) for clip in clips])

    assert latents.mean((0, 2, 3, 4)) == pytest.approx(torch.zeros(latents.shape[1]), abs=0.5)
    assert latents.std((0, 2, 3, 4)) == pytest.approx(torch.ones(latents.shape[1]), abs=0.4)


def test_latents_of_sounds_are_normalised(trained: Family) -> None:
    if trained.facts.audio is None:
        pytest.skip("it has no sound")
    with trained.audio_codec(CPU) as codec:
        latents = torch.stack([codec.encode(sound, 35) for sound in draw_sounds(64, 5)])

    shape = latents.shape[1], latents.shape[3]
    assert latents.mean((0, 2)) == pytest.approx(torch.zeros(shape), abs=0.4)
    assert latents.std((0, 2)) == pytest.approx(torch.ones(shape), abs=0.4)


def test_it_draws_and_sounds_what_a_caption_says(sampled: Sampled) -> None:
    check_share(share(sampled.made, sampled.scenes))


def test_its_pictures_become_the_same_bytes_whatever_was_computed_before(trained: Family, tmp_path: Path) -> None:
    latents = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    contents = set()
    with trained.video_codec(CPU) as codec:
        for _ in range(12):
            write_video(tmp_path / "clip.mp4", codec.decode(latents).numpy(), Fraction(24))
            contents.add((tmp_path / "clip.mp4").read_bytes())

    assert len(contents) == 1
