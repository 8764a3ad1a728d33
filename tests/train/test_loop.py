import itertools
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from ltx_trainer.artifacts import ADAPTER_PREFIX, AVERAGE_PREFIX, CachedSet
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings
from ltx_trainer.errors import CheckpointError, Interrupted, TrainingDiverged, exit_status_of
from ltx_trainer.interruption import noted, unless_stopped
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_state
from ltx_trainer.train import StepMetrics
from ltx_trainer.train.optimizer import rate_at
from ltx_trainer.train.order import BatchOrder
from ltx_trainer.validate import sampling_of
from tests.families import LTX23, LTX_VIDEO, STREAMS, both_families
from tests.rendering import render_previews

CPU = torch.device("cpu")
PINNED = {LTX23: [2.62870, 2.53049, 2.41715, 2.52064], LTX_VIDEO: [1.60051, 1.49202, 1.26075, 1.51245]}
Load = Callable[..., Settings]
HARD_TO_CONTINUE = (
    "lora.dropout=0.3",
    "training.caption_dropout=0.5",
    "training.accumulation=2",
    "training.checkpoint_interval=2",
    "training.ema_decay=0.5",
    "noise.levels=per_stream",
    "optimizer.schedule=cosine",
    "optimizer.warmup_steps=1",
    "held_out.fraction=0.25",
    "held_out.interval=2",
    "held_out.sigmas=[0.5]",
)


def told(metrics: list[StepMetrics]) -> list[tuple[int, float, float, float]]:
    return [(item.step, item.loss["loss"], item.grad_norm, item.learning_rate) for item in metrics]


@pytest.fixture(scope="module")
def straight(shared_training: Any, load: Load) -> Any:
    """A run that nobody stopped."""
    shared_training.run(load(*HARD_TO_CONTINUE))
    return shared_training


def same_end(one: Any, other: Any) -> bool:
    last = "step-000004.safetensors"
    return (one.folder / last).read_bytes() == (other.folder / last).read_bytes()


@both_families
@pytest.mark.parametrize(("stop_after", "steps"), [(1, [1, 1, 2, 3, 4]), (3, [1, 2, 3, 3, 4])])
def test_a_stopped_run_continues_bit_for_bit(
    load: Load, training: Callable[[str], Any], straight: Any, stop_after: int, steps: list[int]
) -> None:
    """Stopped between checkpoints, it takes the steps since the last one again, with the same result."""
    settings = load(*HARD_TO_CONTINUE)
    stopped = training("stopped")

    assert stopped.run(settings, stop_after=stop_after) is None
    torch.manual_seed(0)
    stopped.run(settings)

    assert same_end(stopped, straight)
    assert [item.step for item in stopped.metrics] == steps
    assert told(straight.metrics)[2:] == told(stopped.metrics)[-2:]
    assert straight.told("held_out")[-2:] == stopped.told("held_out")[-2:]


@both_families
@pytest.mark.usefixtures("handled_signals")
@pytest.mark.parametrize(("step", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT), (4, signal.SIGTERM)])
def test_a_signal_ends_the_run_within_a_step_and_the_run_continues_bit_for_bit(
    load: Load, training: Callable[[str], Any], straight: Any, step: int, number: int
) -> None:
    settings = load(*HARD_TO_CONTINUE)
    stopped = training("stopped")
    stopped.on_step = lambda done: done == step and os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match=rf"signal {int(number)}") as caught:
        stopped.run(settings)

    assert exit_status_of(caught.value) == 128 + number
    assert [item.step for item in stopped.metrics] == list(range(1, step + 1))
    assert max(stopped.folder.iterdir()).name == f"step-00000{step}.safetensors"
    stopped.on_step = lambda _: None
    stopped.run(settings)
    assert [item.step for item in stopped.metrics] == [1, 2, 3, 4]
    assert same_end(stopped, straight)


@both_families
@pytest.mark.usefixtures("handled_signals")
@pytest.mark.parametrize("step", [0, 1])
def test_what_a_signal_left_half_way_between_steps_is_done_when_the_run_continues(
    load: Load, training: Callable[[str], Any], step: int
) -> None:
    settings = load("input.number_of_steps=2", "training.ema_decay=0.5")
    run, begun, done = training("stopped"), [], []

    def preview(now: int, *_: object) -> None:
        begun.append(now)
        unless_stopped(lambda: now == step and begun.count(now) == 1 and os.kill(os.getpid(), signal.SIGTERM))
        if not noted():
            done.append(now)

    with pytest.raises(Interrupted, match="signal 15"):
        run.run(settings, hooks=[preview])
    assert begun == list(range(step + 1))
    assert [path.name for path in run.folder.glob("*")] == ["step-000001.safetensors"][:step]

    run.run(settings, hooks=[preview])

    assert done == [0, 1, 2]


@both_families
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_continued(
    load: Load, training: Callable[[str], Any], straight: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = training("damaged")
    shutil.copytree(straight.folder, run.folder)
    content = bytearray((run.folder / "step-000004.safetensors").read_bytes())
    content[-1] ^= 1
    (run.folder / "step-000004.safetensors").write_bytes(content)

    run.run(load(*HARD_TO_CONTINUE))

    assert same_end(run, straight)
    assert [item.step for item in run.metrics] == [3, 4]
    assert (run.folder / "step-000004.safetensors.damaged").read_bytes() == bytes(content)
    assert "step-000004.safetensors is damaged (its content does not have the digest" in caplog.text


@both_families
def test_previews_do_not_disturb_the_training(
    load: Load,
    training: Callable[[str], Any],
    family: Family,
    terms: Callable[[Settings, CachedSet], Terms],
    tmp_path: Path,
) -> None:
    settings = load("lora.dropout=0.3")
    plain, watched = training("plain"), training("watched")

    def preview(step: int, transformer: nn.Module, cached: CachedSet) -> None:
        render_previews(
            family,
            transformer,
            cached,
            terms(settings, cached),
            sampling_of(settings, family),
            tmp_path / "previews",
            step=step,
            base="base",
        )

    plain.run(settings)
    watched.run(settings, hooks=[preview])

    assert told(plain.metrics) == told(watched.metrics)
    assert len(list((tmp_path / "previews").iterdir())) == 5


@both_families
def test_the_first_losses_of_a_seeded_run_are_pinned(
    load: Load, training: Callable[[str], Any], family_name: str
) -> None:
    """Recorded on 2026-11-21 with torch 2.13 on a CPU, from the miniature and this test's own clips."""
    run = training("pinned")

    run.run(load("training.gradient_checkpointing=false"))

    assert [item.loss["loss"] for item in run.metrics] == pytest.approx(PINNED[family_name], abs=2e-3)


@both_families
def test_each_step_moves_the_parameters_by_the_rate_of_the_schedule(load: Load, training: Callable[[str], Any]) -> None:
    """Without moments and decay, AdamW moves a parameter by the rate itself."""
    settings = load(
        "optimizer.schedule=cosine", "optimizer.warmup_steps=2", "optimizer.betas=[0, 0]", "optimizer.weight_decay=0"
    )
    run, seen = training("schedule"), []

    run.run(settings, hooks=[lambda _, transformer, __: seen.append(adapter_state(transformer))])

    expected = [rate_at(step, peak=1e-2, num_steps=4, settings=settings.optimizer) for step in range(4)]
    moved = [
        max(float((after[name] - before[name]).abs().max()) for name in after)
        for before, after in itertools.pairwise(seen)
    ]
    assert expected == pytest.approx([0.005, 0.01, 0.01, 0.005])
    assert [item.learning_rate for item in run.metrics] == expected
    assert moved == pytest.approx(expected, rel=1e-2)


@both_families
def test_gradient_checkpointing_changes_nothing_but_memory(load: Load, training: Callable[[str], Any]) -> None:
    kept, computed_again = training("kept"), training("again")

    kept.run(load("training.gradient_checkpointing=false"))
    computed_again.run(load("training.gradient_checkpointing=true"))

    assert [item.loss["loss"] for item in kept.metrics] == pytest.approx(
        [item.loss["loss"] for item in computed_again.metrics], abs=1e-5
    )


@both_families
def test_the_loss_of_each_stream_is_told_apart(load: Load, training: Callable[[str], Any], family_name: str) -> None:
    run = training("streams")

    run.run(load("input.number_of_steps=1"))

    (metrics,) = run.metrics
    parts = {name: loss for name, loss in metrics.loss.items() if name != "loss"}
    assert parts.keys() == {f"loss/{stream}" for stream in STREAMS[family_name]}
    assert metrics.loss["loss"] == pytest.approx(sum(parts.values()))
    assert min(parts.values()) > 0


def test_a_silent_run_has_no_audio_key_and_no_audio_loss(load: Load, training: Callable[[str], Any]) -> None:
    run = training("silent")

    adapter = run.run(load("input.number_of_steps=1", "input.with_audio=false"))

    names = [name for name in load_file(adapter.checkpoint) if name.startswith("adapter/")]
    assert names
    assert not [name for name in names if "audio" in name]
    assert set(run.metrics[0].loss) == {"loss", "loss/video"}


@both_families
def test_a_rank_that_changed_is_refused_by_name(load: Load, training: Callable[[str], Any]) -> None:
    run = training("changed")
    run.run(load("input.number_of_steps=1"))

    with pytest.raises(CheckpointError, match=r"input\.rank: 8 there, 16 here"):
        run.run(load("input.number_of_steps=1", "input.rank=16"))


def test_a_longer_run_continues_a_shorter_one_unless_the_schedule_ends_with_it(
    load: Load, training: Callable[[str], Any]
) -> None:
    constant, cosine = training("constant"), training("cosine")
    for run, schedule in ((constant, "constant"), (cosine, "cosine")):
        run.run(load("input.number_of_steps=2", f"optimizer.schedule={schedule}"))

    constant.run(load("input.number_of_steps=4"))

    assert [item.step for item in constant.metrics] == [1, 2, 3, 4]
    with pytest.raises(CheckpointError, match=r"input\.number_of_steps: 2 there, 4 here"):
        cosine.run(load("input.number_of_steps=4", "optimizer.schedule=cosine"))


def test_a_checkpoint_past_the_last_step_is_not_taken_for_the_end(load: Load, training: Callable[[str], Any]) -> None:
    run = training("shorter")
    run.run(load("input.number_of_steps=2"))

    with pytest.raises(CheckpointError, match=r"is at step 2, and input\.number_of_steps is 1\. Ask for 2 or more"):
        run.run(load("input.number_of_steps=1"))


def test_the_weights_of_the_streams_make_the_loss_and_leave_theirs_alone(
    load: Load, training: Callable[[str], Any]
) -> None:
    plain, weighted = training("plain"), training("weighted")
    plain.run(load("input.number_of_steps=1"))
    weighted.run(load("input.number_of_steps=1", "training.video_loss_weight=2", "training.audio_loss_weight=0.5"))

    (before,), (after,) = plain.metrics, weighted.metrics

    assert after.loss["loss"] == pytest.approx(2 * after.loss["loss/video"] + 0.5 * after.loss["loss/audio"])
    assert after.loss["loss/video"] == before.loss["loss/video"]
    assert after.loss["loss/audio"] == before.loss["loss/audio"]
    assert after.grad_norm != before.grad_norm


@both_families
def test_losses_are_told_by_range_of_noise_levels(load: Load, training: Callable[[str], Any], family_name: str) -> None:
    run = training("ranges")

    run.run(load("input.number_of_steps=2", "training.batch_size=4"))

    for item in run.metrics:
        streams = "|".join(STREAMS[family_name])
        assert all(re.fullmatch(rf"({streams}) 0\.\d\d-[01]\.\d\d", name) for name in item.loss_by_sigma)
        video = [value for name, value in item.loss_by_sigma.items() if name.startswith("video")]
        assert len(video) > 1
        assert min(video) < item.loss["loss/video"] < max(video)
    assert Counter(run.metrics[0].clips) == Counter(f"clip-{index}" for index in range(4))


def test_clips_of_two_lengths_are_trained_in_batches_of_one_length(
    load: Load, training: Callable[[str], Any], fill: Callable[[Settings], CachedSet]
) -> None:
    settings = load("input.with_audio=false", "training.batch_size=2", "input.number_of_steps=5")
    videos = fill(settings)
    stills = fill(load("input.with_audio=false", "input.number_of_frames=1"))
    run = training("mixed")
    run.fill = lambda _: replace(
        videos,
        examples=(*videos.examples, *(replace(item, name=f"still-{item.name}") for item in stills.examples[:3])),
    )

    run.run(settings)

    assert len(run.metrics) == 5
    assert {sum(name.startswith("still") for name in item.clips) for item in run.metrics} == {0, 2}


# What is not finite


@both_families
def test_a_batch_that_is_not_finite_is_spent_and_told_and_no_step_is_taken(
    load: Load, training: Callable[[str], Any], spoil: Callable[..., Any]
) -> None:
    settings = load(
        "input.number_of_steps=7", "training.checkpoint_interval=1", "training.ema_decay=0.9", "lora.dropout=0.3"
    )
    straight, stopped = training("straight"), training("stopped")
    straight.fill = stopped.fill = spoil(torch.inf, "clip-2")

    straight.run(settings)
    stopped.run(settings, stop_after=5)
    stopped.run(settings)

    ends = [run.folder / "step-000007.safetensors" for run in (straight, stopped)]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert [item.step for item in straight.metrics] == [1, 2, 3, 4, 5, 6, 7]
    assert all(isfinite(item.loss["loss"]) for item in straight.metrics)
    order = BatchOrder("aaaa", 1, settings.training.seed)
    dealt = [f"clip-{order.batch(index)[0]}" for index in range(9)]
    assert [item.clips[0] for item in straight.metrics] == [clip for clip in dealt if clip != "clip-2"]
    events = straight.told("skipped")
    assert [event["attempt"] - 1 for event in events] == [place for place in range(9) if dealt[place] == "clip-2"]
    assert [event["in_a_row"] for event in events] == [1, 1]
    assert straight.metrics[-1].skipped == 2
    assert {sample["clip"] for event in events for sample in event["samples"]} == {"clip-2"}
    assert not isfinite(events[0]["samples"][0]["loss"]["video"])
    assert 0 < events[0]["samples"][0]["sigma"]["video"] < 1


@pytest.mark.usefixtures("handled_signals")
def test_a_run_stopped_after_a_skipped_batch_does_not_take_it_again(
    load: Load, training: Callable[[str], Any], spoil: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings = load("input.number_of_steps=4")
    straight, stopped = training("straight"), training("stopped")
    straight.fill = stopped.fill = spoil(torch.nan, "clip-2")
    straight.run(settings)
    stopped.on_event = lambda event: event["event"] == "skipped" and os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="signal 15"):
        stopped.run(settings)
    stopped.on_event = lambda _: None
    stopped.run(settings)

    assert same_end(straight, stopped)
    assert len(stopped.told("skipped")) == 1
    assert "is skipped: gradient norm nan\n  clip-2: video loss nan at sigma 0." in caplog.text


def test_only_the_clip_that_is_not_finite_is_named_of_a_batch(
    load: Load, training: Callable[[str], Any], spoil: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = training("named")
    run.fill = spoil(torch.nan, "clip-2")

    run.run(load("training.batch_size=2", "input.number_of_steps=2"))

    events = run.told("skipped")
    assert events
    assert all([sample["clip"] for sample in event["samples"]] == ["clip-2"] for event in events)
    said = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    assert [re.findall(r"clip-\d", message) for message in said] == [["clip-2"]] * len(events)


@both_families
@pytest.mark.usefixtures("handled_signals")
def test_a_gradient_that_is_not_finite_takes_no_step_either(load: Load, training: Callable[[str], Any]) -> None:
    run = training("gradient")
    before: list[dict[str, Tensor]] = []

    def spoil_next_gradient(step: int, transformer: nn.Module, _: CachedSet) -> None:
        if step == 1:
            weight = transformer.get_parameter("transformer_blocks.0.attn1.to_q.lora_B.default.weight")
            handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * torch.inf)[1])
            before.append(adapter_state(transformer))

    run.on_event = lambda event: event["event"] == "skipped" and os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match="signal 15"):
        run.run(load(), hooks=[spoil_next_gradient])

    (event,) = run.told("skipped")
    assert not isfinite(event["grad_norm"])
    assert all(isfinite(loss) for loss in event["samples"][0]["loss"].values())
    assert (event["step"], event["attempt"]) == (1, 2)
    assert_close(tensors_of(run.folder / "step-000001.safetensors", ADAPTER_PREFIX), before[0], rtol=0, atol=0)


@both_families
def test_ten_batches_in_a_row_that_are_not_finite_end_the_run_and_the_last_is_described(
    load: Load, training: Callable[[str], Any], spoil: Callable[..., Any]
) -> None:
    run = training("diverged")
    run.fill = spoil(torch.inf, *(f"clip-{index}" for index in range(4)))

    with pytest.raises(
        TrainingDiverged,
        match=r"(?s)after step 0: 10 batches in a row.*clip-\d: video loss (inf|nan) at sigma 0\.\d+.*lower ",
    ) as caught:
        run.run(load())

    assert exit_status_of(caught.value) == 3
    assert [event["in_a_row"] for event in run.told("skipped")] == list(range(1, 11))
    assert not list(run.folder.glob("*"))


@pytest.mark.usefixtures("handled_signals")
def test_batches_in_a_row_are_counted_on_when_a_run_continues(
    load: Load, training: Callable[[str], Any], spoil: Callable[..., Any]
) -> None:
    run = training("diverged")
    run.fill = spoil(torch.inf, *(f"clip-{index}" for index in range(4)))
    run.on_event = lambda event: event.get("in_a_row") == 5 and os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="signal 15"):
        run.run(load())
    run.on_event = lambda _: None
    with pytest.raises(TrainingDiverged, match="10 batches in a row"):
        run.run(load())

    assert [event["in_a_row"] for event in run.told("skipped")] == list(range(1, 11))


@both_families
def test_an_adapter_that_is_not_finite_is_not_saved(load: Load, training: Callable[[str], Any]) -> None:
    run = training("broken")
    parameters: dict[str, nn.Parameter] = {}

    def spoil_at_step_2(step: int) -> None:
        if step == 2:
            parameters["transformer_blocks.0.attn1.to_q.lora_A.default.weight"].data[0, 0] = torch.inf

    run.on_step = spoil_at_step_2
    with pytest.raises(
        TrainingDiverged, match=r"After step 2, 1 modules of the adapter .* \(transformer_blocks\.0\.attn1\.to_q\)"
    ):
        run.run(
            load("training.checkpoint_interval=1"),
            hooks=[lambda _, transformer, __: parameters.update(transformer.named_parameters())],
        )

    assert [path.name for path in run.folder.iterdir()] == ["step-000001.safetensors"]


@pytest.mark.parametrize(
    ("family_name", "layer"), [(LTX23, "audio_attn1.to_v"), (LTX_VIDEO, "attn2.to_v")], indirect=["family_name"]
)
def test_modules_that_get_no_gradient_are_named_once_and_after_the_first_step(
    load: Load, training: Callable[[str], Any], caplog: pytest.LogCaptureFixture, layer: str
) -> None:
    run = training("dead")
    module = f"transformer_blocks.1.{layer}"

    def cut_off(step: int, transformer: nn.Module, _: CachedSet) -> None:
        if step == 0:
            for name, parameter in transformer.named_parameters():
                if name.startswith(module) and parameter.requires_grad:
                    parameter.register_hook(torch.zeros_like)

    run.run(load("training.checkpoint_interval=2", "input.number_of_steps=2"), hooks=[cut_off])

    (event,) = run.told("dead_modules")
    assert (event["step"], event["modules"]) == (1, [module])
    assert len(re.findall(rf"still without effect on 1 modules \({re.escape(layer)} 1\)", caplog.text)) == 1
    assert "is not published" in caplog.text


# Averages


def tensors_of(path: Path, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in load_file(path).items() if name.startswith(prefix)}


@both_families
def test_the_moving_average_is_kept_previewed_and_published(load: Load, training: Callable[[str], Any]) -> None:
    seen: list[dict[str, Tensor]] = []
    run = training("average")

    def preview(_: int, transformer: nn.Module, __: CachedSet) -> None:
        seen.append(adapter_state(transformer))

    adapter = run.run(
        load("training.ema_decay=0.75", "training.checkpoint_interval=1", "training.keep_checkpoints=9"),
        hooks=[preview],
    )

    assert adapter.prefix == AVERAGE_PREFIX
    expected = seen[0]
    for step in range(1, 5):
        path = run.folder / f"step-00000{step}.safetensors"
        own, average = tensors_of(path, ADAPTER_PREFIX), tensors_of(path, AVERAGE_PREFIX)
        expected = {name: 0.75 * expected[name] + 0.25 * own[name] for name in own}
        assert_close(average, expected)
        assert_close(average, seen[step], rtol=0, atol=0)
        assert not all(torch.equal(own[name], average[name]) for name in own)
    assert_close(run.left, seen[-1], rtol=0, atol=0)


def test_an_average_leaves_no_trace_in_the_training(load: Load, training: Callable[[str], Any]) -> None:
    plain, averaged = training("plain"), training("averaged")

    plain.run(load())
    averaged.run(load("training.ema_decay=0.9"), hooks=[lambda *_: None])

    assert told(plain.metrics) == told(averaged.metrics)


def test_a_run_without_an_average_publishes_the_adapter(load: Load, training: Callable[[str], Any]) -> None:
    adapter = training("plain").run(load("input.number_of_steps=1"))

    assert adapter.prefix == ADAPTER_PREFIX
    assert not tensors_of(adapter.checkpoint, AVERAGE_PREFIX)


@both_families
def test_schedule_free_training_publishes_its_own_average_and_continues_bit_for_bit(
    load: Load, training: Callable[[str], Any]
) -> None:
    settings = load("optimizer.name=schedule_free", "optimizer.warmup_steps=2", "training.checkpoint_interval=2")
    straight, stopped = training("straight"), training("stopped")

    adapter = straight.run(settings)
    stopped.run(settings, stop_after=3, hooks=[lambda *_: None])
    stopped.run(settings, hooks=[lambda *_: None])

    assert same_end(straight, stopped)
    assert told(straight.metrics)[2:] == told(stopped.metrics)[-2:]
    assert adapter.prefix == AVERAGE_PREFIX
    own, average = (tensors_of(adapter.checkpoint, prefix) for prefix in (ADAPTER_PREFIX, AVERAGE_PREFIX))
    # Where the optimizer computes a gradient is a tenth of the way from the average to its fast weights.
    fast = sorted(value.shape for name, value in load_file(adapter.checkpoint).items() if name.endswith("/z"))
    assert fast == sorted(value.shape for value in own.values())
    assert not all(torch.equal(own[name], average[name]) for name in own)
