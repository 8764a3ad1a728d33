from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ltx_trainer.artifacts import CachedSet
from ltx_trainer.config import Settings
from ltx_trainer.errors import CheckpointError, TrainingDiverged
from ltx_trainer.models.family import Family
from ltx_trainer.train import StepMetrics
from ltx_trainer.validate import render_previews, sampling_of

CPU = torch.device("cpu")
PINNED = [2.94505, 2.74853, 2.44667, 2.59635]
Load = Callable[..., Settings]
HARD_TO_CONTINUE = (
    "lora.dropout=0.3",
    "training.caption_dropout=0.5",
    "training.accumulation=2",
    "training.checkpoint_interval=2",
    "optimizer.schedule=cosine",
    "optimizer.warmup_steps=1",
)


def told(metrics: list[StepMetrics]) -> list[tuple[int, float, float, float]]:
    return [(item.step, item.loss["loss"], item.grad_norm, item.learning_rate) for item in metrics]


@pytest.mark.parametrize(("stop_after", "steps"), [(1, [1, 1, 2, 3, 4]), (3, [1, 2, 3, 3, 4])])
def test_a_stopped_run_continues_bit_for_bit(
    load: Load, training: Callable[[str], Any], stop_after: int, steps: list[int]
) -> None:
    """Stopped between checkpoints, it takes the steps since the last one again, with the same result."""
    settings = load(*HARD_TO_CONTINUE)
    straight, stopped = training("straight"), training("stopped")

    whole = straight.run(settings)
    assert stopped.run(settings, stop_after=stop_after) is None
    torch.manual_seed(0)
    continued = stopped.run(settings)

    assert whole.checkpoint.read_bytes() == continued.checkpoint.read_bytes()
    assert [item.step for item in stopped.metrics] == steps
    assert told(straight.metrics)[2:] == told(stopped.metrics)[-2:]


def test_previews_do_not_disturb_the_training(
    load: Load, training: Callable[[str], Any], family: Family, tmp_path: Path
) -> None:
    settings = load("lora.dropout=0.3")
    plain, watched = training("plain"), training("watched")

    def preview(step: int, transformer: nn.Module, cached: CachedSet) -> None:
        render_previews(
            family,
            transformer,
            cached,
            sampling_of(settings, family),
            tmp_path / "previews",
            step=step,
            base="base",
            device=CPU,
        )

    plain.run(settings)
    watched.run(settings, hooks=[preview])

    assert told(plain.metrics) == told(watched.metrics)
    assert len(list((tmp_path / "previews").iterdir())) == 5


def test_the_first_losses_of_a_seeded_run_are_pinned(load: Load, training: Callable[[str], Any]) -> None:
    """Recorded on 2026-11-20 with torch 2.13 on a CPU, from the miniature and this test's own clips."""
    run = training("pinned")

    run.run(load("training.gradient_checkpointing=false"))

    assert [item.loss["loss"] for item in run.metrics] == pytest.approx(PINNED, abs=2e-3)


def test_gradient_checkpointing_changes_nothing_but_memory(load: Load, training: Callable[[str], Any]) -> None:
    kept, computed_again = training("kept"), training("again")

    kept.run(load("training.gradient_checkpointing=false"))
    computed_again.run(load("training.gradient_checkpointing=true"))

    assert [item.loss["loss"] for item in kept.metrics] == pytest.approx(
        [item.loss["loss"] for item in computed_again.metrics], abs=1e-5
    )


def test_the_loss_of_each_stream_is_told_apart(load: Load, training: Callable[[str], Any]) -> None:
    run = training("sound")

    run.run(load("input.number_of_steps=1"))

    (metrics,) = run.metrics
    assert metrics.loss["loss"] == pytest.approx(metrics.loss["loss/video"] + metrics.loss["loss/audio"])
    assert metrics.loss["loss/video"] > 0
    assert metrics.loss["loss/audio"] > 0


def test_a_silent_run_has_no_audio_key_and_no_audio_loss(load: Load, training: Callable[[str], Any]) -> None:
    run = training("silent")

    adapter = run.run(load("input.number_of_steps=1", "input.with_audio=false"))

    names = [name for name in load_file(adapter.checkpoint) if name.startswith("adapter/")]
    assert names
    assert not [name for name in names if "audio" in name]
    assert set(run.metrics[0].loss) == {"loss", "loss/video"}


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


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_clip(
    load: Load, training: Callable[[str], Any], fill: Callable[[Settings], CachedSet], tmp_path: Path
) -> None:
    settings = load("input.number_of_steps=1")
    cached = fill(settings)
    clean = cached.examples[0].video
    assert clean is not None
    poisoned = tmp_path / "poisoned.safetensors"
    save_file({"latents": torch.full_like(load_file(clean)["latents"], torch.inf)}, poisoned)
    examples = tuple(replace(example, video=poisoned) for example in cached.examples)
    run = training("diverged")
    run._fill = lambda _: replace(cached, examples=examples)  # noqa: SLF001 - a set that no file gives

    with pytest.raises(TrainingDiverged, match=r"(?s)Step 1 diverged.*clip-\d: sigma 0\.\d+, video loss (inf|nan)"):
        run.run(settings)

    assert not list(run.folder.glob("*"))
