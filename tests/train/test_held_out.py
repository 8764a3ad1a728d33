"""Clips that are never trained on."""

import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ltx_trainer.artifacts import CachedExample, CachedMedia
from ltx_trainer.config import Settings
from ltx_trainer.errors import ConfigError, Interrupted
from ltx_trainer.held_out import split_held_out
from ltx_trainer.train.held_out import turn_in
from tests.families import STREAMS, both_families

Load = Callable[..., Settings]


def scenes(*counts: int) -> list[CachedExample]:
    """Give examples of files with so many scenes each."""
    return [
        CachedExample(f"file-{file}#{scene}", f"file-{file}.mp4", "", None, CachedMedia({}, {}), Path("prompt"))
        for file, count in enumerate(counts)
        for scene in range(count)
    ]


@pytest.mark.parametrize(
    ("fraction", "num_files", "expected"), [(0.1, 3, 1), (0.1, 20, 2), (0.5, 2, 1), (0.5, 5, 2), (0.01, 40, 1)]
)
def test_the_share_of_files_asked_for_is_held_out_but_never_none_or_all(
    load: Load, fraction: float, num_files: int, expected: int
) -> None:
    examples = scenes(*[1] * num_files)

    trained, held_out = split_held_out(examples, load(f"held_out.fraction={fraction}"))

    assert len(held_out) == expected
    assert sorted((*trained, *held_out), key=examples.index) == examples
    assert list(trained) == sorted(trained, key=examples.index)


def test_scenes_of_one_video_stay_together(load: Load) -> None:
    for seed in range(5):
        trained, held_out = split_held_out(scenes(3, 1, 5, 2), load("held_out.fraction=0.5", f"training.seed={seed}"))
        files = [{example.source for example in part} for part in (trained, held_out)]
        assert files[0].isdisjoint(files[1])
        assert len(files[1]) == 2


def test_the_seed_chooses(load: Load) -> None:
    chosen = {
        split_held_out(scenes(*[1] * 10), load("held_out.fraction=0.1", f"training.seed={seed}"))[1][0].name
        for seed in range(20)
    }

    assert len(chosen) > 3


def test_nothing_is_held_out_unless_asked_for(load: Load) -> None:
    assert split_held_out(scenes(1, 2), load()) == (tuple(scenes(1, 2)), ())


def test_one_file_cannot_be_held_out(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"held_out\.fraction 0\.2 .*file-0\.mp4 is the only one\. 0 holds out none"):
        split_held_out(scenes(4), load("held_out.fraction=0.2"))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([3, 2, 1], None),
        ([3, 1, 2, 2], None),
        ([3, 1, 2, 2.5, 3], (10, 1, 2.5)),
        ([3, 1, 2, 2.5, 3, 3], None),
        ([1, 2, 3, 4], (0, 1, 3)),
        ([3, 2, 2.5, 3, 1, 2, 2, 2], (40, 1, 2)),
        ([3, 1, 2, float("nan"), 3], None),
        ([1, 1, 1, 1], (0, 1, 1)),
    ],
)
def test_a_turn_is_told_once_when_three_measurements_lie_above_the_smallest(
    losses: list[float], expected: tuple[int, float, float] | None
) -> None:
    assert turn_in([(10 * index, loss) for index, loss in enumerate(losses)]) == expected


MEASURED = ("held_out.fraction=0.25", "held_out.interval=3", "held_out.sigmas=[0.25, 0.5]", "lora.dropout=0.3")


@both_families
def test_a_held_out_clip_is_measured_and_never_trained_on(
    load: Load, training: Callable[[str], Any], family_name: str
) -> None:
    run = training("held-out")

    run.run(load(*MEASURED))

    trained = {clip for item in run.metrics for clip in item.clips}
    held_out = split_held_out(run.fill(load()).examples, load(*MEASURED))[1]
    assert trained == {f"clip-{index}" for index in range(4)} - {held_out[0].name}
    assert [event["step"] for event in run.told("held_out")] == [0, 3, 4]
    for event in run.told("held_out"):
        assert set(event["by_sigma"]) == {f"{name} {sigma}" for name in STREAMS[family_name] for sigma in (0.25, 0.5)}
        assert event["loss"] == pytest.approx(sum(event["by_sigma"].values()) / 2)


@both_families
def test_measuring_leaves_no_trace_and_gives_the_same_each_time(load: Load, training: Callable[[str], Any]) -> None:
    seldom, often = training("seldom"), training("often")

    seldom.run(load(*MEASURED))
    often.run(load(*MEASURED, "held_out.interval=1"))

    assert [item.loss for item in seldom.metrics] == [item.loss for item in often.metrics]
    assert [item.grad_norm for item in seldom.metrics] == [item.grad_norm for item in often.metrics]
    assert [event for event in often.told("held_out") if event["step"] in (0, 3, 4)] == seldom.told("held_out")


def test_the_loss_is_weighted_as_in_training(load: Load, training: Callable[[str], Any]) -> None:
    run = training("weighted")

    run.run(load(*MEASURED, "training.video_loss_weight=2", "training.audio_loss_weight=4", "input.number_of_steps=1"))

    event = run.told("held_out")[0]
    found = event["by_sigma"]
    video, audio = found["video 0.25"] + found["video 0.5"], found["audio 0.25"] + found["audio 0.5"]
    assert event["loss"] == pytest.approx(video + 2 * audio)


TURNED = ("held_out.fraction=0.25", "held_out.interval=1", "training.checkpoint_interval=1")


def words_of(caplog: pytest.LogCaptureFixture) -> str:
    (said,) = [message for message in caplog.messages if "held-out" in message]
    return said


def test_a_turn_at_the_start_is_said_in_words(
    load: Load, training: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """At a rate of 1 the loss rises from the first step on."""
    run = training("turned")

    run.run(load(*TURNED, "input.learning_rate=1", "input.number_of_steps=3"))

    losses = [event["loss"] for event in run.told("held_out")]
    (event,) = run.told("held_out_turn")
    assert losses[0] == min(losses)
    assert (event["step"], event["best_step"], event["best"]) == (3, 0, losses[0])
    assert words_of(caplog) == (
        f"The loss on held-out clips is lowest at step 0 ({losses[0]:.3f}) and has been higher in the 3 measurements "
        f"since ({sum(losses[1:4]) / 3:.3f} on average): training has not brought the LoRA nearer to them so far."
    )


@pytest.mark.parametrize(
    ("keep", "said"), [(9, r"step-000002\.safetensors holds it\."), (1, "no checkpoint of it is kept: training.keep")]
)
def test_a_turn_is_said_with_the_checkpoint_that_is_better(
    load: Load, training: Callable[[str], Any], caplog: pytest.LogCaptureFixture, keep: int, said: str
) -> None:
    """From step 3 on, the weights are thrown about."""
    run = training("turned")
    parameters: list[nn.Parameter] = []

    def throw_about(step: int) -> None:
        for parameter in parameters if step > 2 else ():
            parameter.data.normal_(generator=torch.Generator().manual_seed(step))

    run.on_step = throw_about
    run.run(
        load(*TURNED, "input.number_of_steps=5", f"training.keep_checkpoints={keep}"),
        hooks=[lambda _, transformer, __: parameters.extend(p for p in transformer.parameters() if p.requires_grad)],
    )

    assert re.search(rf"lowest at step 2 .*: the LoRA of step 2 is probably the better one; .*{said}", words_of(caplog))


def test_a_held_out_clip_that_is_not_finite_is_named(
    load: Load, training: Callable[[str], Any], spoil: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = training("spoiled")
    (clip,) = split_held_out(run.fill(load()).examples, load(*MEASURED))[1]
    run.fill = spoil(float("inf"), clip.name)

    with caplog.at_level(logging.WARNING):
        run.run(load(*MEASURED, "input.number_of_steps=1"))

    assert f"The loss on a held-out clip is not finite: {clip.name}: video loss" in caplog.text


@both_families
@pytest.mark.usefixtures("handled_signals")
def test_a_signal_ends_measuring_and_it_is_done_when_the_run_continues(
    load: Load, training: Callable[[str], Any]
) -> None:
    run = training("stopped")
    run.on_step = lambda step: step == 3 and os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="signal 15"):
        run.run(load(*MEASURED))
    assert [event["step"] for event in run.told("held_out")] == [0]
    run.on_step = lambda _: None
    run.run(load(*MEASURED))

    assert [event["step"] for event in run.told("held_out")] == [0, 3, 4]
