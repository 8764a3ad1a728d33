"""What a person sees while a run goes on: tables, and progress that stays in one line on a terminal."""

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import track as track_on_terminal
from rich.table import Table
from rich.text import Text

from ltx_trainer import download
from ltx_trainer.artifacts import Bundle, Clip, LeftOut, MediaKind, Render, Role
from ltx_trainer.config import default_of, request_fields
from ltx_trainer.download import Received
from ltx_trainer.modes import ALIASES, MODES, ItemField, Mode, Presence
from ltx_trainer.report.logs import Event, Measured
from ltx_trainer.survey import Advice

LINES_OF_A_RUN = 20
LINES_OF_A_LOOP = 10
LONGEST_CAPTION = 200
BYTES_OF_A_LINE = 50_000_000
"""Least that a line of a download tells of."""

Item = TypeVar("Item")


class TrainingProgress:
    """Shows steps as they are done: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, num_steps: int) -> None:
        self._console = console
        self._num_steps = num_steps
        self._seconds: deque[float] = deque(maxlen=50)
        self._held_out: float | None = None
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
        in_print = measured.step % math.ceil(self._num_steps / LINES_OF_A_RUN) == 0 or measured.step == self._num_steps
        if in_print and not self._console.is_terminal:
            left = timedelta(seconds=round(self._seconds_a_step() * (self._num_steps - measured.step)))
            self._console.print(f"step {measured.step}/{self._num_steps}  {facts}  {left} left", soft_wrap=True)

    def add_event(self, event: Event) -> None:
        """Show the loss on held-out clips from now on; logging tells of everything else."""
        if event["event"] == "held_out":
            self._held_out = event["loss"]

    def add_render(self, render: Render) -> None:
        """Show nothing: previews are files."""

    def _facts(self, measured: Measured) -> str:
        facts = [f"{name} {value:.4f}" for name, value in measured.loss.items()]
        if self._held_out is not None:
            facts.append(f"held out {self._held_out:.4f}")
        facts.append(f"{self._seconds_a_step():.2f} s/step")
        if measured.memory_bytes:
            facts.append(f"{measured.memory_bytes / 1e9:.1f} GB")
        if measured.skipped:
            facts.append(f"{measured.skipped} skipped")
        return "  ".join(facts)

    def _seconds_a_step(self) -> float:
        return sum(self._seconds) / len(self._seconds)


@contextmanager
def training_progress(console: Console, num_steps: int, *, enabled: bool) -> Iterator[TrainingProgress]:
    """Show the progress of training while the block runs; in every process but the main one, show nothing."""
    progress = TrainingProgress(console if enabled else Console(quiet=True), num_steps)
    with progress.bar if enabled and console.is_terminal else nullcontext():
        yield progress


def track(console: Console) -> Callable[[Iterable[Item], str, int], Iterator[Item]]:
    """Make what shows how far a loop is: a bar on a terminal, a line for each tenth elsewhere."""

    def show(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
        if console.is_terminal:
            yield from track_on_terminal(items, description=what, total=total, console=console, transient=True)
            return
        for done, item in enumerate(items, start=1):
            yield item
            if done % math.ceil(total / LINES_OF_A_LOOP) == 0 and total > LINES_OF_A_LOOP:
                console.print(f"{what} {done}/{total}")

    return show


def download_progress(console: Console) -> download.Progress:
    """Make what shows how far a download is: a bar on a terminal, a line for each tenth elsewhere."""

    def show(what: str, total: int | None, /) -> AbstractContextManager[Received]:
        return _download_bar(console, what, total) if console.is_terminal else _download_lines(console, what, total)

    return show


@contextmanager
def _download_bar(console: Console, what: str, total: int | None) -> Iterator[Received]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        yield _Bar(bar, bar.add_task(escape(what), total=total))


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, num_bytes: int) -> None:
        self._bar.advance(self._task, num_bytes)


@contextmanager
def _download_lines(console: Console, what: str, total: int | None) -> Iterator[Received]:
    yield _Lines(console, what, total)


class _Lines:
    def __init__(self, console: Console, what: str, total: int | None) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._interval = BYTES_OF_A_LINE if total is None else max(math.ceil(total / LINES_OF_A_LOOP), BYTES_OF_A_LINE)
        self._received = 0

    def advance(self, num_bytes: int) -> None:
        before, self._received = self._received, self._received + num_bytes
        if self._received // self._interval > before // self._interval:
            whole = "" if self._total is None else f" of {self._total / 1e6:.0f}"
            self._console.print(Text(f"{self._what} {self._received / 1e6:.0f}{whole} MB"), soft_wrap=True)


def show_modes(console: Console) -> None:
    """Print the table of modes, a paragraph for each: as rows its columns would not fit a terminal."""
    for mode in MODES:
        facts = Table.grid(padding=(0, 2, 0, 0))
        facts.add_column(no_wrap=True)
        facts.add_column(overflow="fold")
        for name, text in _facts_of(mode):
            facts.add_row(name, Text(text))
        console.print(Text(f"{mode.name}: {mode.summary}", style="bold"))
        console.print(Padding(facts, (0, 0, 1, 2)))


def _facts_of(mode: Mode) -> Iterator[tuple[str, str]]:
    """Give everything that the table says of a mode, in words."""
    yield "endpoint", ", or ".join([mode.endpoint, *(old for old, new in ALIASES.items() if new == mode.endpoint)])
    yield "model family", mode.family
    yield "in the archive", mode.files
    names = [name for name in request_fields(mode) if name in mode.fields | mode.defaults.keys()]
    if names:
        yield "own fields", ", ".join(f"{name} {_default(mode, name)}" for name in names)
    if mode.lacks:
        yield "fields not taken", ", ".join(sorted(mode.lacks))
    items = (f"{item.name} ({item.takes}{_need(item)})" for item in mode.item_fields)
    yield "validation item", ", ".join(["prompt (text)", *items])
    targets = ", ".join(mode.silent_targets if mode.audio is Presence.ABSENT else mode.targets)
    silent = f"; silent: {', '.join(mode.silent_targets)}" if mode.audio is Presence.GENERATED_IF_SOUND else ""
    yield "LoRA targets", targets + silent


def _need(item: ItemField) -> str:
    """Say whether an item may go without a field."""
    if item.required:
        return ""
    return ", in all or none" if item.all_or_none else ", optional"


def _default(mode: Mode, name: str) -> str:
    return "required" if name in mode.required_fields else json.dumps(default_of(mode, name))


def show_data(
    console: Console,
    clips: Sequence[Clip],
    left_out: Sequence[LeftOut],
    *,
    with_audio: bool,
    conditions: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print what is trained on, what is given of it, and what is left out, with each reason.

    What all clips become is said once, in the title, if it is the same; which files are given, only where some are.

    Args:
        console: Where to.
        clips: What is trained on.
        left_out: What is not.
        with_audio: Whether there is sound.
        conditions: What is given of every clip, as `describe_conditions` says it.
    """
    alike = len({_shape(clip) for clip in clips}) == 1
    what = f"{len(clips)} clips of {_shape(clips[0])}" if alike else f"{len(clips)} clips"
    columns: dict[str, Callable[[Clip], str]] = {"clip": lambda clip: clip.name, "seconds": _span}
    if not alike:
        columns["becomes"] = _shape
    if any(_given(clip) for clip in clips):
        columns["given"] = _given
    columns["caption"] = lambda clip: _shortened(clip.caption)
    rows = [[tell(clip) for tell in columns.values()] for clip in clips]
    _print_rows(console, f"{what}, {_sound(clips, with_audio=with_audio)}", list(columns), rows)
    show_conditions(console, conditions)
    show_left_out(console, left_out)


def show_lacking(console: Console, num_clips: int, source: str) -> None:
    """Print how many captions a model is still to write, and which."""
    clips = "1 clip has" if num_clips == 1 else f"{num_clips} clips have"
    text = f"{clips} no caption of their own; {source} is to write one of each (captions.auto)."
    console.print(Text(text), soft_wrap=True)


def show_conditions(console: Console, conditions: Sequence[Mapping[str, Any]]) -> None:
    """Print what is given of every clip, as `describe_conditions` says it; nothing if nothing is."""
    for condition in conditions:
        numbers = [f"{name.replace('_', ' ')} {value}" for name, value in condition.items() if name != "condition"]
        console.print(Text(f"given: {', '.join([condition['condition'], *numbers])}"), soft_wrap=True)


def show_left_out(console: Console, left_out: Sequence[LeftOut]) -> None:
    """Print what is not trained on, with each reason; nothing if all is."""
    if left_out:
        rows = [[item.name, item.reason] for item in left_out]
        _print_rows(console, f"{len(left_out)} left out", ["left out", "because"], rows)


def show_advice(console: Console, advice: Sequence[Advice], page: Path | None) -> None:
    """Print where the data will disappoint, and where that is shown.

    Args:
        console: Where to.
        advice: A sentence each.
        page: The report; None if there is none.
    """
    if advice:
        _print_rows(console, "advice", ["of", "found"], [[each.kind, each.sentence] for each in advice])
    if page is not None:
        console.print(Text(f"report   {page}"), soft_wrap=True)


def show_result(console: Console, bundle: Bundle) -> None:
    """Print where everything lies."""
    preview = bundle.audio if bundle.video is None else bundle.video
    files = {"LoRA": bundle.lora, "config": bundle.config, "preview": preview, "data": bundle.debug_dataset}
    for name, path in files.items():
        if path is not None:
            console.print(Text(f"{name:8} {path}"), soft_wrap=True)


def _shape(clip: Clip) -> str:
    shape = clip.shape
    if shape is None:
        return f"{float(clip.soundtrack[Role.TARGET].duration_seconds):g} seconds"
    frames = f"{shape.num_frames} frames at {shape.frame_rate}/s" if shape.num_frames > 1 else "1 frame"
    return f"{frames}, {shape.size}"


def _shortened(caption: str) -> str:
    """Keep a screen readable where a caption is a whole page."""
    if len(caption) <= LONGEST_CAPTION:
        return caption
    return f"{caption[:LONGEST_CAPTION]}... ({len(caption)} characters)"


def _span(clip: Clip) -> str:
    """Say which part of its file a clip is, on the file's own clock."""
    target = clip.soundtrack[Role.TARGET] if clip.shape is None else clip.footage[Role.TARGET]
    if target.source.kind is MediaKind.IMAGE:
        return "still"
    return f"{float(target.start_seconds):.2f} - {float(target.start_seconds + target.span_seconds):.2f}"


def _sound(clips: Sequence[Clip], *, with_audio: bool) -> str:
    """Say what is heard beside the pictures."""
    if clips and clips[0].shape is None:
        return "sound only"
    return "with sound" if with_audio else "silent"


def _given(clip: Clip) -> str:
    """Name the files that are given beside the target's own, and the seconds that are generated."""
    of_all = [*clip.footage.items(), *clip.soundtrack.items()]
    own = {part.source.name for role, part in of_all if role is Role.TARGET}
    given = [f"{role} {part.source.name}" for role, part in of_all if part.source.name not in own]
    if clip.ranges:
        spans = " and ".join(f"{float(begin):g} - {float(end):g}" for begin, end in clip.ranges)
        given.append(f"all but {spans}")
    return ", ".join(given)


def _print_rows(console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: folded to the width of a terminal, but one line for each row in a pipe or file.

    Cells are text as it is: what looks like markup in a name is part of the name.
    """
    if not console.is_terminal:
        for line in (title, *_aligned([head, *rows])):
            console.print(Text(line), soft_wrap=True)
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name == "seconds")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Pad the cells of each column but the last to its widest; breaks within a cell become spaces."""
    flat = [[" ".join(cell.splitlines()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*flat, strict=True)][:-1]
    for *cells, last in flat:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last])
