"""The training of a part of the miniature: where it stops, it can be gone on with."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import train_miniature
from miniature.parts import Recipe, train_part
from miniature.scores import HELD_OUT
from miniature.transformer import Bucket, Draw, Loss, Pool, Stage, draw_trained_scenes
from rich.console import Console
from torch import Tensor, nn

from ltx_trainer import world
from ltx_trainer.errors import ConfigError

RECIPE = Recipe(steps=6, peak_rate=0.1, warmup=2, average=0.5)


class Stop(Exception):
    """What ends a training early."""


def linear() -> nn.Linear:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return layer


def loss_of(layer: nn.Module, *, stop_after: int | None = None) -> Callable[[torch.Generator], Tensor]:
    drawn = 0

    def measure(generator: torch.Generator) -> Tensor:
        nonlocal drawn
        if drawn == stop_after:
            raise Stop("the power went")
        drawn += 1
        batch = torch.randn(4, 3, generator=generator)
        return (layer(batch) - batch.flip(1)).square().mean()

    return measure


def train(
    work: Path, *, recipe: Recipe = RECIPE, seed: int = 1, basis: str = "code 1", stop_after: int | None = None
) -> nn.Linear:
    layer = linear()
    loss = loss_of(layer, stop_after=stop_after)
    train_part("ear", layer, recipe, loss, work, seed=seed, basis=basis, console=Console(quiet=True))
    return layer


def test_a_training_that_was_stopped_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miniature.parts.SAVE_SECONDS", 0)
    straight = train(tmp_path / "straight")

    with pytest.raises(Stop, match="power"):
        train(tmp_path / "stopped", stop_after=2)
    assert torch.load(tmp_path / "stopped/ear.pt", weights_only=True)["step"] == 2
    resumed = train(tmp_path / "stopped", stop_after=4)

    assert torch.equal(resumed.weight, straight.weight)
    assert torch.equal(resumed.bias, straight.bias)
    assert not torch.equal(straight.weight, linear().weight)


def test_a_finished_part_is_not_trained_again(tmp_path: Path) -> None:
    finished = train(tmp_path)

    again = train(tmp_path, stop_after=0)

    assert torch.equal(again.weight, finished.weight)
    assert not again.training


@pytest.mark.parametrize(
    ("recipe", "seed", "basis", "message"),
    [
        (replace(RECIPE, steps=9), 1, "code 1", r"its recipe is .*'steps': 6.*, not .*'steps': 9.*"),
        (RECIPE, 2, "code 1", "its seed is 1, not 2"),
        (RECIPE, 1, "code 2", "its basis is code 1, not code 2"),
    ],
)
def test_the_state_of_another_training_is_refused(
    tmp_path: Path, recipe: Recipe, seed: int, basis: str, message: str
) -> None:
    train(tmp_path)
    kept = (tmp_path / "ear.pt").read_bytes()

    with pytest.raises(ConfigError, match=rf"ear\.pt is of another training: {message}\. Give another --work, or"):
        train(tmp_path, recipe=recipe, seed=seed, basis=basis)

    assert (tmp_path / "ear.pt").read_bytes() == kept


def test_a_state_that_does_not_say_what_it_is_of_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    state = torch.load(tmp_path / "ear.pt", weights_only=True)
    del state["key"]
    torch.save(state, tmp_path / "ear.pt")

    with pytest.raises(ConfigError, match=r"ear\.pt does not say what it was trained by\. Give another --work, or"):
        train(tmp_path)


def test_the_digest_of_the_code_changes_with_every_file_that_decides_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = (
        "scripts/train_miniature.py",
        "scripts/miniature/vocoder.py",
        "scripts/miniature/scores.py",
        "ltx_trainer/world/scenes.py",
        "ltx_trainer/models/miniature.py",
        "ltx_trainer/models/log_mel.py",
        "ltx_trainer/diffusion/flow.py",
    )
    monkeypatch.setattr(train_miniature, "ROOT", tmp_path)
    digests = {train_miniature.source_digest()}
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("same")
        digests.add(train_miniature.source_digest())

    assert len(digests) == len(files) + 1
    (tmp_path / "ltx_trainer/cli.py").write_text("same")
    assert train_miniature.source_digest() in digests


def test_every_pattern_of_sources_finds_a_file() -> None:
    patterns = {pattern for patterns in train_miniature.SOURCES.values() for pattern in patterns}

    assert set(train_miniature.SOURCES) == set(train_miniature.PARTS)
    assert [pattern for pattern in patterns if not [*train_miniature.ROOT.glob(pattern)]] == []


@pytest.mark.parametrize(
    ("part", "slow", "line"),
    [
        ("video-vae", "miniature.video_vae.draw_clips", r"video-vae: drawing \d+ scenes\n$"),
        ("audio-vae", "miniature.audio_vae.draw_sounds", r"audio-vae: drawing \d+ scenes\n$"),
        ("vocoder", "miniature.vocoder.draw_tones", r"vocoder: drawing \d+ tones\n$"),
        ("transformer", "miniature.transformer.encode", r"transformer: encoding \d+ scenes\n$"),
        (None, "miniature.scores.sample_held_out", r"^sampling and scoring \d+ clips on the CPU\n$"),
    ],
)
def test_what_takes_minutes_is_said_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str | None, slow: str, line: str
) -> None:
    def stop(*_: object) -> None:
        raise Stop("that is enough")

    monkeypatch.setattr(slow, stop)
    said = StringIO()
    training = train_miniature.Training("ltx-2.3", tmp_path, torch.device("cpu"), Console(file=said))

    with pytest.raises(Stop, match="enough"):
        training.train(part) if part else training.write(tmp_path / "weights.safetensors")

    assert re.search(line, said.getvalue())


def test_a_finished_part_does_not_say_that_it_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = train_miniature.MINIATURES["ltx-2.3"]
    monkeypatch.setitem(train_miniature.MINIATURES, "ltx-2.3", replace(model, recipe=replace(model.recipe, steps=0)))
    monkeypatch.setattr("miniature.video_vae.draw_clips", None)
    monkeypatch.setattr("miniature.video_vae.fill_statistics", lambda _: None)
    said = StringIO()

    train_miniature.Training("ltx-2.3", tmp_path, torch.device("cpu"), Console(file=said)).train("video-vae")

    assert "video-vae: built on" in said.getvalue()
    assert "drawing" not in said.getvalue()


def test_ctrl_c_ends_with_its_status_and_with_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    work = tmp_path / "a-folder-with-a-name-that-is-longer-than-a-line-of-a-terminal-would-be-by-itself"
    monkeypatch.setattr("miniature.video_vae.draw_clips", interrupt)
    # As many threads as there are, which the tests after this one keep.
    options = ["--part", "video-vae", "--work", str(work), "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr("sys.argv", ["train_miniature.py", *options])

    with pytest.raises(SystemExit, match=r"^130$"):
        train_miniature.main()

    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Stopped. {work} has the state up to the last minute; give the same command to go on."


@pytest.mark.parametrize("twins", [False, True])
def test_no_scene_that_is_trained_on_is_of_a_composition_that_is_held_out(twins: bool) -> None:
    trained_on = {scene.composition for scene in draw_trained_scenes(train_miniature.SCENE_SEED, twins=twins)}

    assert len(trained_on) > len(HELD_OUT)
    assert trained_on.isdisjoint(HELD_OUT)


def test_a_twin_is_the_same_scene_going_the_other_way() -> None:
    scenes = draw_trained_scenes(train_miniature.SCENE_SEED, twins=True)
    half = len(scenes) // 2

    assert {scene.motion for scene in scenes[:half]} == set(world.MOTIONS)
    for scene, twin in zip(scenes[:half], scenes[half:], strict=True):
        assert replace(twin, motion=scene.motion) == scene
        (right, down), there = world.MOTIONS[scene.motion], world.MOTIONS[twin.motion]
        assert there == (-right, -down)


def drawn(monkeypatch: pytest.MonkeyPatch, *, twins: bool, whole_share: float = 0.0) -> tuple[list[world.Scene], Draw]:
    """Draw a batch of eight, all with their captions, from a pool that has nothing in it."""
    for name in ("CAPTION_DROPOUT", "CAPTION_DROPOUT_OF_WHOLE"):
        monkeypatch.setattr(f"miniature.transformer.{name}", 0.0)
    scenes = draw_trained_scenes(train_miniature.SCENE_SEED, twins=twins)
    bucket = Bucket(9, 24, batch_size=8)
    video, audio = torch.zeros(len(scenes), 1, 2, 2, 2), torch.zeros(len(scenes), 1, 3, 2)
    pool = Pool(bucket, {"video": video, "audio": audio})
    family: Any = SimpleNamespace(
        facts=SimpleNamespace(audio="some"),
        video_coordinates=lambda _: torch.zeros(3, 8, 2),
        audio_coordinates=lambda _: torch.zeros(1, 3, 2),
    )
    stage = Stage("some", RECIPE, seed=1, twins=twins, buckets=(bucket,), whole_share=whole_share)
    no_model: Any = None
    loss = Loss(family, no_model, no_model, scenes, [pool], stage)
    return scenes, loss.draw(torch.Generator().manual_seed(1))


def wordings_of(scenes: list[world.Scene], draw: Draw) -> list[int]:
    """Tell by its caption how each scene of a batch is worded."""
    chosen = [scenes[place] for place in draw.chosen.tolist()]
    return [
        [world.caption(scene, number) for number in range(len(world.WORDINGS))].index(caption)
        for scene, caption in zip(chosen, draw.captions, strict=True)
    ]


def test_twins_of_a_batch_differ_in_nothing_but_their_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, draw = drawn(monkeypatch, twins=True)

    wordings = wordings_of(scenes, draw)
    assert torch.equal(draw.chosen[4:], draw.chosen[:4] + len(scenes) // 2)
    assert wordings[4:] == wordings[:4]
    assert torch.equal(draw.sigma[4:], draw.sigma[:4])
    assert set(draw.noise) == {"video", "audio"}
    for noise in draw.noise.values():
        assert torch.equal(noise[4:], noise[:4])
        assert not torch.equal(noise[0], noise[1])


def test_one_stream_of_a_batch_is_given_whole_where_the_stage_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _, none = drawn(monkeypatch, twins=True)
    _, draw = drawn(monkeypatch, twins=True, whole_share=1.0)

    assert not any(stream.frozen for stream in none.streams.values())
    assert [stream.frozen for stream in draw.streams.values()].count(True) == 1


def test_a_batch_without_twins_is_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, draw = drawn(monkeypatch, twins=False)

    wordings = wordings_of(scenes, draw)
    assert wordings[4:] != wordings[:4]
    for values in (draw.chosen, draw.sigma, *draw.noise.values()):
        assert len(torch.unique(values, dim=0)) == 8


def test_a_batch_that_cannot_be_halved_has_no_twins() -> None:
    buckets = (Bucket(9, 24, batch_size=12), Bucket(17, 24, batch_size=7))

    assert not Stage("some", RECIPE, seed=1, buckets=buckets).twins
    with pytest.raises(
        ValueError, match=r"^some: a batch of 7 cannot be halved into twins\. Give it an even batch_size"
    ):
        Stage("some", RECIPE, seed=1, twins=True, buckets=buckets)
