"""The training loop. A step is one optimizer update."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ltx_trainer.artifacts import Adapter, CachedSet
from ltx_trainer.config import Settings
from ltx_trainer.continuation import Identity, check_newest, newest_checkpoint
from ltx_trainer.errors import TrainingDiverged
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_state, load_adapter_state
from ltx_trainer.train.batch import BatchMaker
from ltx_trainer.train.optimizer import make_optimizer, rate_at, set_rate
from ltx_trainer.train.order import derived_seed, examples_of_pass, generator_for
from ltx_trainer.train.state import (
    TrainingState,
    checkpoint_path,
    random_state,
    read_checkpoint,
    remove_old_checkpoints,
    restore_random_state,
    write_checkpoint,
)
from ltx_trainer.train.step import PassLoss, loss_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hook:
    """Something to do at some steps.

    Attributes:
        interval: Steps between; it is also done at step 0. None: only there.
        do: Takes the step; leaves the transformer and all random state as they were.
    """

    interval: int | None
    do: Callable[[int], object]


@dataclass(frozen=True)
class StepMetrics:
    """What a step measured, over all processes.

    Attributes:
        step: Optimizer updates done, this one included.
        loss: By name: `loss`, `loss/video` and, with sound, `loss/audio`.
        learning_rate: Of this step.
        grad_norm: Before clipping.
        seconds: Wall time of the step.
        memory_bytes: Most device memory reserved so far; 0 on a CPU.
    """

    step: int
    loss: Mapping[str, float]
    learning_rate: float
    grad_norm: float
    seconds: float
    memory_bytes: int


def train_adapter(
    settings: Settings,
    family: Family,
    transformer: nn.Module,
    cached: CachedSet,
    folder: Path,
    *,
    identity: Identity,
    accelerator: Accelerator,
    hooks: Sequence[Hook],
    observers: Sequence[Callable[[StepMetrics], None]],
) -> Adapter:
    """Train the adapter on `transformer`, from the newest checkpoint in `folder` if there is one.

    Args:
        settings: Of the run.
        family: The base model's family.
        transformer: The frozen base with the adapter attached.
        cached: What is trained on.
        folder: Where checkpoints lie.
        identity: What a checkpoint must have been written with to be continued.
        accelerator: Device, precision and the other processes.
        hooks: Done between steps.
        observers: Told what each step measured.

    Raises:
        TrainingDiverged: A loss or gradient is not finite.
        CheckpointError: The newest checkpoint belongs to another run, is damaged, or is past the last step.
    """
    run = _Run(settings, family, transformer, cached, folder, identity, accelerator)
    num_steps = settings.input.number_of_steps
    run.continue_from_checkpoint()
    _do_hooks(hooks, run.step)
    while run.step < num_steps:
        metrics = run.take_step()
        for observe in observers:
            observe(metrics)
        if run.step % settings.training.checkpoint_interval == 0 or run.step == num_steps:
            run.save()
        _do_hooks(hooks, run.step)
    return Adapter(checkpoint_path(folder, run.step), run.step)


def _do_hooks(hooks: Sequence[Hook], step: int) -> None:
    for hook in hooks:
        if step == 0 or (hook.interval is not None and step % hook.interval == 0):
            hook.do(step)


class _Run:
    """The state of a training: what a step reads and changes."""

    def __init__(
        self,
        settings: Settings,
        family: Family,
        transformer: nn.Module,
        cached: CachedSet,
        folder: Path,
        identity: Identity,
        accelerator: Accelerator,
    ) -> None:
        self._settings = settings
        self._family = family
        self._transformer = transformer
        self._accelerator = accelerator
        self._folder = folder
        self._num_examples = len(cached.examples)
        self._identity = identity
        self._batches = BatchMaker(settings, family, cached, accelerator.device)
        self._parameters = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
        self._optimizer = make_optimizer(settings.optimizer, self._parameters, settings.input.learning_rate)
        self._model = accelerator.prepare_model(transformer)
        seed, rank = settings.training.seed, accelerator.process_index
        self._draws = generator_for(seed, "draws", rank)
        torch.manual_seed(derived_seed(seed, "global", rank))
        self.step = 0

    def continue_from_checkpoint(self) -> None:
        """Take up the newest checkpoint, or leave the fresh state as it is."""
        path = newest_checkpoint(self._folder)
        if path is None:
            return
        check_newest(self._folder, self._identity, self._settings.input.number_of_steps)
        state = read_checkpoint(path, self._identity)
        load_adapter_state(self._transformer, state.adapter)
        self._optimizer.load_state_dict(dict(state.optimizer))
        restore_random_state(state.random[self._accelerator.process_index], self._draws)
        self.step = state.step
        logger.info("Continuing from step %d (%s).", self.step, path)

    def save(self) -> None:
        """Write a checkpoint, from the main process."""
        random = gather_object([random_state(self._draws)])
        if self._accelerator.is_main_process:
            state = TrainingState(
                self.step, adapter_state(self._transformer), self._optimizer.state_dict(), tuple(random)
            )
            write_checkpoint(self._folder, state, self._identity)
            remove_old_checkpoints(self._folder, self._settings.training.keep_checkpoints)
        self._accelerator.wait_for_everyone()

    def take_step(self) -> StepMetrics:
        """Make one optimizer update."""
        began = time.perf_counter()
        rate = rate_at(
            self.step,
            peak=self._settings.input.learning_rate,
            num_steps=self._settings.input.number_of_steps,
            settings=self._settings.optimizer,
        )
        set_rate(self._optimizer, rate)
        self._model.train()
        losses = [self._take_pass(index) for index in range(self._settings.training.accumulation)]
        grad_norm = self._clipped_norm()
        means = self._means(losses)
        if not math.isfinite(grad_norm + sum(means.values())):
            raise TrainingDiverged(_diagnosis(self.step + 1, grad_norm, losses))
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return StepMetrics(self.step, means, rate, grad_norm, time.perf_counter() - began, _memory_bytes())

    def _take_pass(self, index: int) -> PassLoss:
        training = self._settings.training
        indices = examples_of_pass(
            self.step * training.accumulation + index,
            num_examples=self._num_examples,
            batch_size=training.batch_size,
            rank=self._accelerator.process_index,
            num_processes=self._accelerator.num_processes,
            seed=training.seed,
        )
        batch = self._batches.make(indices, self._draws)
        last = index == training.accumulation - 1
        with nullcontext() if last else self._accelerator.no_sync(self._model):
            loss = loss_of(self._family, self._model, batch, self._settings.noise, self._draws)
            self._accelerator.backward(loss.total / training.accumulation)
        return loss

    def _clipped_norm(self) -> float:
        limit = self._settings.optimizer.max_grad_norm
        return float(torch.nn.utils.clip_grad_norm_(self._parameters, math.inf if limit is None else limit))

    def _means(self, losses: Sequence[PassLoss]) -> dict[str, float]:
        means = {f"loss/{name}": self._mean([loss.streams[name] for loss in losses]) for name in losses[0].streams}
        return {"loss": sum(means.values()), **means}

    def _mean(self, values: Sequence[Tensor]) -> float:
        gathered = self._accelerator.gather(torch.cat(list(values)))
        assert isinstance(gathered, Tensor)
        return float(gathered.mean())


def _diagnosis(step: int, grad_norm: float, losses: Sequence[PassLoss]) -> str:
    rows = [
        f"  {name}: sigma {float(loss.sigma[index]):.3f}, "
        + ", ".join(f"{stream} loss {float(values[index]):.4g}" for stream, values in loss.streams.items())
        for loss in losses
        for index, name in enumerate(loss.names)
    ]
    return (
        f"Step {step} diverged: gradient norm {grad_norm:.4g}.\n"
        + "\n".join(rows)
        + "\nA lower input.learning_rate or a longer optimizer.warmup_steps is the usual remedy; "
        "the checkpoints before this step are whole."
    )


def _memory_bytes() -> int:
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
