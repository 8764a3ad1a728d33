"""The training loop. A step is one optimizer update."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from ltx_trainer.artifacts import Adapter, CachedSet
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings
from ltx_trainer.continuation import Identity
from ltx_trainer.errors import Interrupted
from ltx_trainer.interruption import deferred, noted
from ltx_trainer.models.family import Family
from ltx_trainer.train.run import Run, StepMetrics


@dataclass(frozen=True)
class Hook:
    """Something to do at some steps, with the transformer as it would be published.

    Attributes:
        interval: Steps between; it is also done at step 0. None: only there.
        do: Takes the step; leaves the transformer and all random state as they were, and finds done what is done.
    """

    interval: int | None
    do: Callable[[int], object]


def train_adapter(
    settings: Settings,
    family: Family,
    transformer: nn.Module,
    cached: CachedSet,
    folder: Path,
    *,
    terms: Terms,
    identity: Identity,
    accelerator: Accelerator,
    hooks: Sequence[Hook],
    observers: Sequence[Callable[[StepMetrics], None]],
    on_event: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Adapter:
    """Train the adapter on `transformer`, from the newest whole checkpoint in `folder` if there is one.

    At the end, the transformer holds the weights to publish.

    Args:
        settings: Of the run.
        family: The base model's family.
        transformer: The frozen base with the adapter attached.
        cached: What is trained on; a part of it is held out if the settings say so.
        folder: Where checkpoints lie.
        terms: What is given of every clip.
        identity: What a checkpoint must have been written with to be continued.
        accelerator: Device, precision and the other processes.
        hooks: Done between steps, and again at the step that training goes on from.
        observers: Told what each step measured.
        on_event: Told, on the main process, of what happens besides: `skipped`, `held_out`, `held_out_turn`,
            `dead_modules` and `checkpoint`, each a mapping with `event` and `step`.

    Raises:
        TrainingDiverged: Losses or gradients are not finite, many times in a row, or values of the adapter are not.
        CheckpointError: The newest whole checkpoint belongs to another run, or is past the last step.
        Interrupted: A signal to stop came; what was trained so far is saved.
    """
    run = Run(settings, family, transformer, cached, folder, terms, identity, accelerator, on_event)
    with deferred():
        run.continue_from_checkpoint()
        _train(run, settings, hooks, observers)
    # One that came after the last step.
    if noted():
        raise Interrupted(noted())
    return run.publish()


def _train(
    run: Run, settings: Settings, hooks: Sequence[Hook], observers: Sequence[Callable[[StepMetrics], None]]
) -> None:
    num_steps = settings.input.number_of_steps
    run.measure_held_out()
    run.save_what_is_new()
    _do_hooks(run, hooks)
    run.leave_if_told()
    while run.step < num_steps:
        metrics = run.take_step()
        if metrics is not None:
            for observe in observers:
                observe(metrics)
            run.measure_held_out()
            if run.step == 1:
                # What gets no gradient shows now, not when hours are lost.
                run.check_health()
            if run.step % settings.training.checkpoint_interval == 0 or run.step == num_steps:
                run.save()
            _do_hooks(run, hooks)
        run.leave_if_told()


def _do_hooks(run: Run, hooks: Sequence[Hook]) -> None:
    due = [hook for hook in hooks if run.step == 0 or (hook.interval is not None and run.step % hook.interval == 0)]
    if due:
        with run.averaged():
            for hook in due:
                hook.do(run.step)
