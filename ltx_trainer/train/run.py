"""The state of a training: what a step reads and changes, and what a checkpoint keeps of it."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ltx_trainer.artifacts import ADAPTER_PREFIX, AVERAGE_PREFIX, Adapter, CachedSet
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings
from ltx_trainer.continuation import Identity
from ltx_trainer.errors import Interrupted, TrainingDiverged, some_of
from ltx_trainer.held_out import split_held_out
from ltx_trainer.interruption import noted
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_health, adapter_state, group_of, load_adapter_state
from ltx_trainer.processes import on_main
from ltx_trainer.seeds import derived_seed
from ltx_trainer.train.average import make_average
from ltx_trainer.train.batch import BatchMaker
from ltx_trainer.train.held_out import TURN, HeldOut, turn_in
from ltx_trainer.train.optimizer import make_optimizer, rate_at, rate_of, set_rate
from ltx_trainer.train.order import BatchOrder, generator_for
from ltx_trainer.train.samples import Sample, gather_samples, losses_by_sigma, mean_losses
from ltx_trainer.train.state import (
    TrainingState,
    checkpoint_path,
    random_state,
    read_checkpoint,
    remove_old_checkpoints,
    restore_random_state,
    set_damaged_aside,
    write_checkpoint,
)
from ltx_trainer.train.step import PassLoss, loss_of, stream_weights

logger = logging.getLogger(__name__)

SKIPPED_AT_MOST = 10
"""Batches in a row without an update that end a run."""

Event = Mapping[str, Any]


@dataclass(frozen=True)
class StepMetrics:
    """What a step measured, over all processes.

    Attributes:
        step: Optimizer updates done, this one included.
        loss: By name: `loss`, which is optimised, and `loss/video`, `loss/audio` or both, which are not weighted: those
            of the streams that are generated.
        loss_by_sigma: Of the samples of this step by stream and range of noise levels, such as `video 0.50-0.75`.
        learning_rate: Of this step.
        grad_norm: Before clipping.
        seconds: Wall time of the step.
        memory_bytes: Most device memory reserved so far; 0 on a CPU.
        skipped: Batches so far that were spent on no update, since their loss or gradient was not finite.
        clips: Names of the samples, in the order of the data.
    """

    step: int
    loss: Mapping[str, float]
    loss_by_sigma: Mapping[str, float]
    learning_rate: float
    grad_norm: float
    seconds: float
    memory_bytes: int
    skipped: int
    clips: tuple[str, ...]


class Run:
    """A training on its way.

    Attributes:
        step: Optimizer updates done.
    """

    def __init__(
        self,
        settings: Settings,
        family: Family,
        transformer: nn.Module,
        cached: CachedSet,
        folder: Path,
        terms: Terms,
        identity: Identity,
        accelerator: Accelerator,
        on_event: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._family = family
        self._transformer = transformer
        self._accelerator = accelerator
        self._folder = folder
        self._identity = identity
        self._on_event = on_event
        self._weights = stream_weights(settings.training)
        self._examples, held_out = split_held_out(cached.examples, settings)
        training = settings.training
        self._order = BatchOrder([example.shape for example in self._examples], training.batch_size, training.seed)
        self._batches = BatchMaker(settings, family, cached, accelerator.device, terms)
        self._held_out = HeldOut(settings, family, self._batches, held_out, accelerator)
        self._history: tuple[tuple[int, float], ...] = ()
        self._parameters = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
        self._optimizer = make_optimizer(settings.optimizer, self._parameters, settings.input.learning_rate)
        self._average = make_average(self._parameters, self._optimizer, training.ema_decay)
        self._model = accelerator.prepare_model(transformer)
        self._draws = generator_for(training.seed, "draws", accelerator.process_index)
        torch.manual_seed(derived_seed(training.seed, "global", accelerator.process_index))
        self._attempts = self._skipped = self._in_a_row = 0
        self._saved = self._progress
        self._told_of_dead = False
        self.step = 0

    def continue_from_checkpoint(self) -> None:
        """Take up the newest whole checkpoint, or leave the fresh state as it is."""
        path = on_main(lambda: set_damaged_aside(self._folder).path)
        if path is None:
            return
        state = read_checkpoint(path, self._identity, self._settings.input.number_of_steps)
        if state.average:
            load_adapter_state(self._transformer, state.average)
            if self._average is not None:
                self._average.restore()
        load_adapter_state(self._transformer, state.adapter)
        self._optimizer.load_state_dict(dict(state.optimizer))
        restore_random_state(state.random[self._accelerator.process_index], self._draws)
        self.step, self._history = state.step, state.held_out
        self._attempts, self._skipped, self._in_a_row = state.attempts, state.skipped, state.in_a_row
        self._saved = self._progress
        logger.info("Continuing from step %d (%s).", self.step, path)

    def take_step(self) -> StepMetrics | None:
        """Spend the next batches on one optimizer update; None if they allow none.

        Raises:
            TrainingDiverged: None of the last batches allowed one.
        """
        began = time.perf_counter()
        set_rate(self._optimizer, self._rate())
        self._model.train()
        samples, clips = self._spend_batches()
        grad_norm = self._clipped_norm()
        if not (math.isfinite(grad_norm) and all(sample.is_finite for sample in samples)):
            self._skip(samples, grad_norm)
            return None
        self._update()
        return StepMetrics(
            step=self.step,
            loss=mean_losses(samples, self._weights),
            loss_by_sigma=losses_by_sigma(samples),
            learning_rate=rate_of(self._optimizer),
            grad_norm=grad_norm,
            seconds=time.perf_counter() - began,
            memory_bytes=_memory_bytes(),
            skipped=self._skipped,
            clips=clips,
        )

    def measure_held_out(self) -> None:
        """Measure the loss on held-out clips if that is due and not done, and say so when it has turned."""
        measured = self._history and self._history[-1][0] == self.step
        if measured or not self._held_out.is_due(self.step):
            return
        with self.averaged():
            found = self._held_out.measure(self._transformer, self.step)
        if found is None:
            return
        self._history = (*self._history, (self.step, found.loss))
        self._tell({"event": "held_out", "step": self.step, "loss": found.loss, "by_sigma": found.by_sigma})
        if found.not_finite:
            logger.warning("The loss on a held-out clip is not finite: %s.", found.not_finite[0])
        self._tell_of_turn()

    def save(self) -> None:
        """Write a checkpoint, from the main process.

        Raises:
            TrainingDiverged: A value of the adapter is not finite; nothing was written.
        """
        self.check_health()
        random = gather_object([random_state(self._draws)])
        on_main(lambda: self._write(random))
        self._saved = self._progress

    def save_what_is_new(self) -> None:
        """Write a checkpoint if the last one lacks something; a run that has spent no batch yet needs none."""
        if self._attempts > 0 and self._progress != self._saved:
            self.save()

    def check_health(self) -> None:
        """Find modules of the adapter that are without effect, which is said once, or broken.

        Raises:
            TrainingDiverged: A value is not finite.
        """
        dead, broken = adapter_health(self._transformer)
        if broken:
            raise TrainingDiverged(
                f"After step {self.step}, {len(broken)} modules of the adapter hold values that are not finite "
                f"({some_of(broken)}). No checkpoint was written; the one before it is whole. "
                "A lower input.learning_rate is the usual remedy."
            )
        if dead and self.step > 0 and not self._told_of_dead:
            self._told_of_dead = True
            self._tell({"event": "dead_modules", "step": self.step, "modules": dead})
            logger.warning(
                "After step %d, the LoRA is still without effect on %d modules (%s): they get no gradient. A LoRA with "
                "such modules is not published. Stop the run, and leave them out of lora.targets.",
                self.step,
                len(dead),
                ", ".join(f"{group} {count}" for group, count in Counter(map(group_of, dead)).items()),
            )

    def leave_if_told(self) -> None:
        """Save and leave, all processes at once, if one of them has been told to stop.

        Raises:
            Interrupted: One has.
        """
        signal = self._agreed(noted())
        if not signal:
            return
        self.save_what_is_new()
        logger.warning("Told to stop: training goes on from step %d with the same command.", self.step)
        raise Interrupted(signal)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the transformer the weights to publish for the length of the `with`: the average, if one is kept."""
        with nullcontext() if self._average is None else self._average.in_place():
            yield

    def publish(self) -> Adapter:
        """End the training: leave the weights to publish in the transformer, and say where they lie."""
        path = checkpoint_path(self._folder, self.step)
        if self._average is None:
            return Adapter(path, ADAPTER_PREFIX, self.step)
        self._average.put()
        return Adapter(path, AVERAGE_PREFIX, self.step)

    @property
    def _progress(self) -> tuple[int, int]:
        """What grows with everything that a checkpoint keeps."""
        return self._attempts, len(self._history)

    def _rate(self) -> float:
        return rate_at(
            self.step,
            peak=self._settings.input.learning_rate,
            num_steps=self._settings.input.number_of_steps,
            settings=self._settings.optimizer,
        )

    def _spend_batches(self) -> tuple[list[Sample], tuple[str, ...]]:
        """Take the passes of the next attempt at a step; give all samples, and their names in the order of the data."""
        count, processes = self._settings.training.accumulation, self._accelerator.num_processes
        first = self._attempts * count * processes
        window = [self._order.batch(index) for index in range(first, first + count * processes)]
        own = window[self._accelerator.process_index :: processes]
        passes = [self._take_pass(batch, last=number == count - 1) for number, batch in enumerate(own)]
        self._attempts += 1
        by_process = [batch for rank in range(processes) for batch in window[rank::processes]]
        return gather_samples(self._accelerator, passes, self._names(by_process)), self._names(window)

    def _names(self, batches: Sequence[Sequence[int]]) -> tuple[str, ...]:
        return tuple(self._examples[index].name for batch in batches for index in batch)

    def _take_pass(self, indices: Sequence[int], *, last: bool) -> PassLoss:
        batch = self._batches.make([self._examples[index] for index in indices], self._draws)
        with nullcontext() if last else self._accelerator.no_sync(self._model):
            loss = loss_of(self._family, self._model, batch, self._settings.noise, self._weights, self._draws)
            self._accelerator.backward(loss.total / self._settings.training.accumulation)
        return loss

    def _clipped_norm(self) -> float:
        limit = self._settings.optimizer.max_grad_norm
        return float(torch.nn.utils.clip_grad_norm_(self._parameters, math.inf if limit is None else limit))

    def _update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update()
        self.step += 1
        self._in_a_row = 0

    def _skip(self, samples: Sequence[Sample], grad_norm: float) -> None:
        """Count a step that is not taken, and say which samples it failed by."""
        self._optimizer.zero_grad()
        self._skipped += 1
        self._in_a_row += 1
        suspects = [sample for sample in samples if not sample.is_finite] or samples
        self._tell(
            {
                "event": "skipped",
                "step": self.step,
                "attempt": self._attempts,
                "in_a_row": self._in_a_row,
                "grad_norm": grad_norm,
                "samples": [sample.facts() for sample in suspects],
            }
        )
        said = _diagnosis(suspects, grad_norm)
        if self._in_a_row == SKIPPED_AT_MOST:
            raise TrainingDiverged(
                f"Training diverged after step {self.step}: {SKIPPED_AT_MOST} batches in a row gave no finite loss or "
                f"gradient. The last: {said}\nTake a clip that is named every time out of the data; else a lower "
                "input.learning_rate or a longer optimizer.warmup_steps is the usual remedy. The checkpoints are whole."
            )
        logger.warning("A batch after step %d is skipped: %s", self.step, said)

    def _write(self, random: Sequence[Mapping[str, Tensor]]) -> None:
        path = write_checkpoint(self._folder, self._state(random), self._identity)
        remove_old_checkpoints(path, self._settings.training.keep_checkpoints)
        self._tell({"event": "checkpoint", "step": self.step, "path": path})

    def _state(self, random: Sequence[Mapping[str, Tensor]]) -> TrainingState:
        average: Mapping[str, Tensor] = {}
        if self._average is not None:
            with self.averaged():
                average = adapter_state(self._transformer)
        return TrainingState(
            step=self.step,
            adapter=adapter_state(self._transformer),
            optimizer=self._optimizer.state_dict(),
            random=tuple(random),
            average=average,
            attempts=self._attempts,
            skipped=self._skipped,
            in_a_row=self._in_a_row,
            held_out=self._history,
        )

    def _tell_of_turn(self) -> None:
        turn = turn_in(self._history)
        if turn is None:
            return
        best, smallest, since = turn
        self._tell({"event": "held_out_turn", "step": self.step, "best_step": best, "best": smallest, "since": since})
        logger.warning(
            "The loss on held-out clips is lowest at step %d (%.3f) and has been higher in the %d measurements since "
            "(%.3f on average): %s",
            best,
            smallest,
            TURN,
            since,
            self._advice(best),
        )

    def _advice(self, best: int) -> str:
        if best == 0:
            return "training has not brought the LoRA nearer to them so far."
        path = checkpoint_path(self._folder, best)
        kept = (
            f"{path} holds it"
            if path.is_file()
            else "no checkpoint of it is kept: training.keep_checkpoints keeps more"
        )
        return f"the LoRA of step {best} is probably the better one; {kept}."

    def _tell(self, event: Event) -> None:
        if self._accelerator.is_main_process:
            self._on_event(event)

    def _agreed(self, number: int) -> int:
        """Give the largest number of all processes."""
        if self._accelerator.num_processes == 1:
            return number
        gathered = self._accelerator.gather(torch.tensor([number], device=self._accelerator.device))
        assert isinstance(gathered, Tensor)
        return int(gathered.max())


def _diagnosis(suspects: Sequence[Sample], grad_norm: float) -> str:
    rows = "".join(f"\n  {sample}" for sample in suspects)
    return f"gradient norm {grad_norm:.4g}{rows}"


def _memory_bytes() -> int:
    return torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
