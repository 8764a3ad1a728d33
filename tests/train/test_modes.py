"""Batches and short trainings of every mode, on random latents and the miniature with random weights."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltx_trainer.artifacts import CachedExample, CachedMedia, CachedSet, Role
from ltx_trainer.conditions import Terms, terms_of
from ltx_trainer.config import NoiseSection, Settings
from ltx_trainer.diffusion import ModelStream, draw_sigmas
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models.family import Family
from ltx_trainer.modes import MODES, Condition, Mode
from ltx_trainer.tensorfile import write_tensors
from ltx_trainer.train.batch import Batch, BatchMaker
from ltx_trainer.train.step import loss_of, stream_weights
from tests.families import LTX_VIDEO, both_families

CPU = torch.device("cpu")
SHAPE = ClipShape(17, FrameSize(64, 64), Fraction(24))
BY_NAME = {mode.name: mode for mode in MODES}
FIELDS: Mapping[str, Mapping[str, object]] = {
    "v2v": {"reference_downscale_factor": 2, "reference_temporal_scale_factor": 2, "first_frame_conditioning_p": 1},
    "i2v": {"first_frame_conditioning_p": 1},
    "ltx-video-trainer": {"first_frame_conditioning_p": 1},
    "ltx-video/v2v": {"reference_downscale_factor": 2, "first_frame_conditioning_p": 1},
    "outpaint": {"crop_top_left": [8, 8], "crop_bottom_right": [56, 56]},
    "interpolate": {"include_middle_keyframe": True},
    "extend-prefix": {"with_audio": True},
    "extend-suffix": {"with_audio": True},
}
GIVEN: Mapping[str, Mapping[str, int]] = {
    "t2v": {"video": 0, "audio": 0},
    "i2v": {"video": 64, "audio": 0},
    "v2v": {"video": 64 + 3 * 4 * 4},
    "v2v-masked": {"video": 5 * 64 // 2 + 5 * 64},
    "inpaint": {"video": 5 * 64 // 2},
    "outpaint": {"video": 5 * 6 * 6},
    "interpolate": {"video": 3 * 64},
    # Of 18 tokens, number k lasts from 4 k - 3 to 4 k + 1 hundredths of a second; 37.5 of them are kept, or left out.
    "extend-prefix": {"video": 3 * 64, "audio": 10},
    "extend-suffix": {"video": 2 * 64, "audio": 7},
    "a2v": {"video": 64, "audio": 18},
    "v2a": {"video": 5 * 64, "audio": 0},
    "t2a": {"audio": 0},
    "a2a": {"audio": 50},
    "audio-extend-prefix": {"audio": 25},
    "audio-extend-suffix": {"audio": 24},
    "audio-inpaint": {"audio": 24},
    "av2av": {"video": 5 * 64, "audio": 18},
    "av2av-masked": {"video": 5 * 64 // 2 + 5 * 64, "audio": 18},
    "ltx-video-trainer": {"video": 64},
    "ltx-video/v2v": {"video": 64 + 5 * 4 * 4},
}
"""Tokens of the first sample that are given, joined ones too, by stream."""
every_mode = pytest.mark.parametrize(
    ("family_name", "name"),
    [pytest.param(BY_NAME[name].family, name, id=name) for name in GIVEN],
    indirect=["family_name"],
)


def settings_of(mode: Mode, *, base: Path, **training: object) -> Settings:
    body = {"training_data_url": "clips.zip", "rank": 8, "number_of_steps": 2, "number_of_frames": 17}
    if not mode.has_video:
        body["audio_duration_seconds"] = 2
    return Settings.model_validate(
        {
            "endpoint": mode.endpoint,
            "input": {**body, "learning_rate": 1e-2, **FIELDS.get(mode.name, {})},
            "model": {"base": str(base)},
            "held_out": {"fraction": 0.3, "interval": 1, "sigmas": [0.5]},
            "training": {"gradient_checkpointing": False, "checkpoint_interval": 1, **training},
        }
    )


@dataclass(frozen=True)
class Material:
    """Three examples of a mode.

    Attributes:
        settings: Of the run.
        cached: Random latents.
        terms: What is given of them.
    """

    settings: Settings
    cached: CachedSet
    terms: Terms


@pytest.fixture
def material(family: Family, miniature_folder: Path, tmp_path: Path) -> Callable[..., Material]:
    """Give a function that makes three examples of a mode, with sound where the mode can have it."""

    def make(name: str, *, with_audio: bool | None = None, **training: object) -> Material:
        mode = BY_NAME[name]
        settings = settings_of(mode, base=miniature_folder, **training)
        shape = SHAPE if mode.has_video else None
        terms = terms_of(mode, settings.input, family.facts.factors, shape, trained_size=None)
        generator = torch.Generator().manual_seed(3)

        def written(**tensors: Tensor) -> Path:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
            write_tensors(path, tensors)
            return path

        def latents(*size: int) -> Path:
            return written(latents=torch.randn(size, generator=generator))

        def prompt() -> Path:
            if mode.family == LTX_VIDEO:
                return written(video=torch.randn(8, 32, generator=generator), mask=torch.arange(8) < 5)
            embeddings = {"video": torch.randn(8, 128, generator=generator), "audio": torch.randn(8, 64)}
            return written(**embeddings)

        def video() -> dict[Role, Path]:
            if not mode.has_video:
                return {}
            found = {Role.TARGET: latents(16, 5, 8, 8)}
            if Role.REFERENCE in {part.role for part in mode.parts}:
                grid = terms.reference_shape.latent_grid(family.facts.factors)
                found[Role.REFERENCE] = latents(16, grid.frames, grid.rows, grid.columns)
            if Condition.START in mode.conditions:
                found[Role.START] = latents(16, 1, 8, 8)
            if Condition.MASK in mode.conditions:
                found[Role.MASK] = written(kept=(torch.arange(8) < 4).expand(5, 8, 8).contiguous())
            return found | {role: latents(16, 1, 8, 8) for role, _ in terms.keyframes}

        def audio() -> dict[Role, Path]:
            if not heard:
                return {}
            num_tokens = round(terms.duration_seconds * 25)
            found = {Role.TARGET: latents(2, num_tokens, 16)}
            if Condition.REFERENCE in mode.conditions:
                found[Role.REFERENCE_SOUND] = latents(2, num_tokens, 16)
            return found

        heard = "audio" in GIVEN[name] if with_audio is None else with_audio
        ranges = ((Fraction(1, 2), Fraction(3, 2)),) if Condition.RANGES in mode.conditions else ()
        examples = tuple(
            CachedExample(str(index), f"{index}.mp4", "", shape, CachedMedia(video(), audio(), ranges), prompt())
            for index in range(3)
        )
        cached = CachedSet(examples, (), prompt(), prompt(), (), with_audio=heard, computed=0)
        return Material(settings, cached, terms)

    return make


def batch_of(family: Family, made: Material, generator: torch.Generator | None = None) -> Batch:
    maker = BatchMaker(made.settings, family, made.cached, CPU, made.terms)
    return maker.make(made.cached.examples, generator or torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def transformer(family: Family) -> Iterator[nn.Module]:
    with family.transformer(CPU, torch.float32) as transformer:
        yield transformer


@dataclass
class Watched:
    """What the model was shown and what it answered, by stream."""

    shown: dict[str, ModelStream] = field(default_factory=dict)
    velocities: dict[str, Tensor] = field(default_factory=dict)


@pytest.fixture
def watched(family: Family, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Watch the predictions of the family."""
    found, predict = Watched(), family.predict

    def watch(transformer: nn.Module, streams: Mapping[str, ModelStream], prompt: Any) -> dict[str, Tensor]:
        found.shown = dict(streams)
        found.velocities = predict(transformer, streams, prompt)
        for velocity in found.velocities.values():
            velocity.requires_grad_().retain_grad()
        return found.velocities

    monkeypatch.setattr(family, "predict", watch)
    return found


@every_mode
def test_what_is_given_is_shown_clean_at_timestep_0_and_has_no_gradient(
    family: Family, transformer: nn.Module, material: Callable[..., Material], watched: Watched, name: str
) -> None:
    made = material(name)
    batch = batch_of(family, made)
    weights = stream_weights(made.settings.training)

    loss = loss_of(family, transformer, batch, NoiseSection(), weights, torch.Generator().manual_seed(2))
    loss.total.backward()

    assert {stream: int(item.given[0].sum()) for stream, item in batch.streams.items()} == GIVEN[name]
    for stream, item in batch.streams.items():
        shown, gradient = watched.shown[stream], watched.velocities[stream].grad
        assert torch.equal(shown.tokens[item.given], item.clean[item.given])
        assert not shown.timesteps[item.given].any()
        if item.frozen:
            assert gradient is None
            assert not shown.sigma.any()
            assert stream not in loss.streams
            continue
        assert gradient is not None
        assert not gradient[item.given].any()
        assert gradient[~item.given].any(dim=-1).all()
        assert torch.equal(shown.sigma, loss.sigma[stream])
        assert (shown.timesteps[~item.given] > 0).all()
    assert loss.streams.keys() == loss.sigma.keys() == set(GIVEN[name]) - made.terms.frozen


@both_families
def test_every_mode_draws_the_same_numbers_before_its_noise(family: Family, material: Callable[..., Material]) -> None:
    """So that a condition more or less moves nothing that is drawn after it."""
    states = set()
    for name in (name for name in GIVEN if BY_NAME[name].family == family.facts.family):
        generator = torch.Generator().manual_seed(1)
        batch_of(family, material(name), generator)
        states.add(bytes(generator.get_state().tolist()))

    assert len(states) == 1


def test_a_silent_run_is_shown_no_sound_that_lies_in_the_cache(
    family: Family, material: Callable[..., Material]
) -> None:
    made = material("t2v")
    silent = Material(made.settings, CachedSet(**{**vars(made.cached), "with_audio": False}), made.terms)

    assert batch_of(family, made).streams.keys() == {"video", "audio"}
    assert batch_of(family, silent).streams.keys() == {"video"}


@pytest.mark.parametrize(("name", "num_tokens"), [("v2v", 5 * 64), ("a2v", 5 * 64), ("v2a", 18), ("a2a", 50)])
@pytest.mark.parametrize("levels", ["shared", "per_stream"])
def test_levels_are_drawn_for_the_tokens_of_generated_targets_alone(
    family: Family,
    transformer: nn.Module,
    material: Callable[..., Material],
    name: str,
    num_tokens: int,
    levels: Any,
) -> None:
    made = material(name)
    noise = NoiseSection(levels=levels, uniform_fraction=0)
    weights = stream_weights(made.settings.training)

    with torch.no_grad():
        loss = loss_of(family, transformer, batch_of(family, made), noise, weights, torch.Generator().manual_seed(2))

    expected = draw_sigmas(
        3,
        num_tokens,
        distribution=noise.distribution,
        uniform_fraction=0,
        generator=torch.Generator().manual_seed(2),
    )
    (found,) = loss.sigma.values()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "streams"),
    [
        ("t2a", ["audio"]),
        ("audio-inpaint", ["audio"]),
        ("v2a", ["audio"]),
        ("a2v", ["video"]),
        ("av2av", ["video", "audio"]),
    ],
)
def test_a_training_tells_the_losses_of_what_it_generates_and_goes_on_where_it_was_stopped(
    material: Callable[..., Material], training: Callable[[str], Any], name: str, streams: list[str]
) -> None:
    made = material(name, accumulation=2, batch_size=2)
    straight, stopped = training("straight"), training("stopped")
    for run in (straight, stopped):
        run.fill = lambda _: made.cached

    straight.run(made.settings)
    stopped.run(made.settings, stop_after=2)
    stopped.run(made.settings)

    names = [f"loss/{stream}" for stream in streams]
    assert [sorted(item.loss) for item in straight.metrics] == [sorted(["loss", *names])] * 2
    assert [sorted(event["by_sigma"]) for event in straight.told("held_out")] == [
        sorted(f"{stream} 0.5" for stream in streams)
    ] * 3
    last = "step-000002.safetensors"
    assert (straight.folder / last).read_bytes() == (stopped.folder / last).read_bytes()


@every_mode
def test_the_default_targets_of_a_mode_all_learn(
    material: Callable[..., Material], training: Callable[[str], Any], name: str
) -> None:
    run = training("run")
    made = material(name)
    run.fill = lambda _: made.cached

    run.run(made.settings)

    assert run.told("dead_modules") == []
