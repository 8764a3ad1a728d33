"""What a person sees while a run goes on: tables, and progress that stays in one line on a terminal."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ltx_trainer.artifacts import Bundle, Clip, LeftOut, Role
from ltx_trainer.modes import MODES

LINES_OF_A_RUN = 20


class Measured(Protocol):
    """What a training step tells of itself."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> Mapping[str, float]: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def memory_bytes(self) -> int: ...


class TrainingProgress:
    """Shows steps as they are done: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, num_steps: int) -> None:
        self._console = console
        self._num_steps = num_steps
        self._seconds: deque[float] = deque(maxlen=50)
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self.bar.add_task("training", total=num_steps, facts="")

    def add_step(self, measured: Measured) -> None:
        """Show one more step."""
        self._seconds.append(measured.seconds)
        facts = self._facts(measured)
        self.bar.update(self._task, completed=measured.step, facts=facts)
        in_print = measured.step % max(1, self._num_steps // LINES_OF_A_RUN) == 0 or measured.step == self._num_steps
        if in_print and not self._console.is_terminal:
            left = timedelta(seconds=round(self._seconds_a_step() * (self._num_steps - measured.step)))
            self._console.print(f"step {measured.step}/{self._num_steps}  {facts}  {left} left", soft_wrap=True)

    def _facts(self, measured: Measured) -> str:
        losses = "  ".join(f"{name} {value:.4f}" for name, value in measured.loss.items())
        memory = f"  {measured.memory_bytes / 1e9:.1f} GB" if measured.memory_bytes else ""
        return f"{losses}  {self._seconds_a_step():.2f} s/step{memory}"

    def _seconds_a_step(self) -> float:
        return sum(self._seconds) / len(self._seconds)


@contextmanager
def training_progress(console: Console, num_steps: int, *, enabled: bool) -> Iterator[TrainingProgress]:
    """Show the progress of training while the block runs; in every process but the main one, show nothing."""
    progress = TrainingProgress(console if enabled else Console(quiet=True), num_steps)
    with progress.bar if enabled and console.is_terminal else nullcontext():
        yield progress


def show_modes(console: Console) -> None:
    """Print the table of modes."""
    table = Table("mode", "endpoint", "learns", "files in the archive", "own fields", "a validation item has")
    for mode in MODES:
        fields = ", ".join(sorted(mode.fields))
        table.add_row(mode.name, mode.endpoint, mode.summary, mode.files, fields, ", ".join(mode.preview_fields))
    console.print(table)


def show_data(console: Console, clips: Sequence[Clip], left_out: Sequence[LeftOut], *, with_audio: bool) -> None:
    """Print what is trained on and what is left out, with each reason."""
    table = Table("clip", "source", "seconds", "becomes", "caption", title=f"{len(clips)} clips, {_sound(with_audio)}")
    for clip in clips:
        footage = clip.footage[Role.TARGET]
        shape = footage.shape
        span = f"{float(footage.start_seconds):.2f} - {float(footage.start_seconds + footage.span_seconds):.2f}"
        becomes = f"{shape.num_frames} frames at {shape.frame_rate}/s, {shape.size}"
        table.add_row(escape(clip.name), escape(footage.source.name), span, becomes, escape(clip.caption))
    console.print(table)
    if left_out:
        table = Table("left out", "because", title=f"{len(left_out)} left out")
        for item in left_out:
            table.add_row(escape(item.name), escape(item.reason))
        console.print(table)


def _sound(with_audio: bool) -> str:
    return "with sound" if with_audio else "silent"


def show_result(console: Console, bundle: Bundle) -> None:
    """Print where everything lies."""
    for name, path in (("LoRA", bundle.lora), ("config", bundle.config), ("preview", bundle.video)):
        if path is not None:
            console.print(f"{name:8} {path}", soft_wrap=True, highlight=False)
