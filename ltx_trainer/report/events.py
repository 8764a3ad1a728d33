"""events.jsonl: what happened in a run, a JSON object in each line, written as it happens.

The file of a run that was stopped and continued tells every step once, as that of a run that was not.
"""

import hashlib
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from ltx_trainer import __version__
from ltx_trainer.artifacts import Bundle, LeftOut, Render
from ltx_trainer.atomic import disk_errors, make_folder, write_bytes
from ltx_trainer.config import Settings, settings_as_yaml
from ltx_trainer.errors import Interrupted, TrainerError, as_known, exit_status_of
from ltx_trainer.report.logs import Event, Measured

logger = logging.getLogger(__name__)

FILE = "events.jsonl"

OF_A_PROCESS = frozenset({"started", "data", "stopped", "done", "failed"})
"""Kinds that tell of one command, not of a step: they stay when steps are taken again."""


class Events:
    """The `events.jsonl` of one run; silent without an open file."""

    def __init__(self, folder: Path, file: FileIO | None, told: Counter[str]) -> None:
        """Take over from an earlier process.

        Args:
            folder: The run's own; files inside it are named from there.
            file: Open at its end, unbuffered.
            told: How many events of each kind the file holds of the very step that training goes on from.
        """
        self._folder = folder
        self._file = file
        self._told = told

    def add_event(self, event: Event) -> None:
        """Write one line, unless an earlier process wrote it before it was stopped."""
        if self._file is None:
            return
        kind = event["event"]
        if self._told[kind_at(event)] > 0:
            self._told[kind_at(event)] -= 1
            return
        line = {"event": kind, "time": _now(), **event}
        with disk_errors(self._folder / FILE):
            _append(self._file, _as_line(self._plain(line)))

    def add_step(self, measured: Measured) -> None:
        """Write the numbers of one step."""
        self.add_event(
            {
                "event": "step",
                "step": measured.step,
                "clips": measured.clips,
                "losses": measured.loss,
                "loss_by_sigma": measured.loss_by_sigma,
                "learning_rate": measured.learning_rate,
                "grad_norm": measured.grad_norm,
                "seconds": measured.seconds,
                "memory_bytes": measured.memory_bytes,
                "skipped": measured.skipped,
            }
        )

    def add_render(self, render: Render) -> None:
        """Write which files a preview is."""
        self.add_event({"event": "preview", "step": render.step, "files": render.items, "joined": render.joined})

    def _plain(self, value: Any) -> Any:
        """Give what JSON can hold. A number that it cannot is written as text that `float` reads."""
        if isinstance(value, Mapping):
            return {str(name): self._plain(item) for name, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self._plain(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return _name_of(value)
        if isinstance(value, Path):
            return (value.relative_to(self._folder) if value.is_relative_to(self._folder) else value).as_posix()
        return value


@contextmanager
def open_events(folder: Path, *, start: int, enabled: bool) -> Iterator[Events]:
    """Open a run's events; what ends the `with` is told as the last of them, `stopped` or `failed`.

    Args:
        folder: The run's own.
        start: The step that training goes on from. Lines of later steps are removed, since these steps are taken again;
            at 0 the file begins anew.
        enabled: Write at all, as only the main process does.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    if not enabled:
        yield Events(folder, None, Counter())
        return
    make_folder(folder)
    path = folder / FILE
    told = _take_over(path, start)
    with disk_errors(path):
        file = FileIO(path, "a")
    with file:
        events = Events(folder, file, told)
        try:
            yield events
        except BaseException as error:
            _tell_the_end(events, error)
            raise


def describe_start(settings: Settings, *, step: int, processes: int) -> Event:
    """Say what begins or goes on.

    Args:
        settings: Of the run; told by the digest of the `config.yaml` in its folder.
        step: That training goes on from.
        processes: How many share the work.
    """
    digest = hashlib.sha256(settings_as_yaml(settings).encode()).hexdigest()
    return {"event": "started", "version": __version__, "settings": digest, "step": step, "processes": processes}


def describe_data(
    num_clips: int, num_held_out: int, left_out: Sequence[LeftOut], *, with_audio: bool, given: Sequence[str] = ()
) -> Event:
    """Say how much is trained on; dataset.json says what.

    Args:
        num_clips: Trained on.
        num_held_out: Only measured on.
        left_out: Neither.
        with_audio: Whether sound is trained.
        given: What every clip has beside its target.
    """
    counts = {"clips": num_clips, "held_out": num_held_out, "left_out": len(left_out)}
    return {"event": "data", **counts, "with_audio": with_audio, **({"given": given} if given else {})}


def describe_result(bundle: Bundle) -> Event:
    """Say which files a finished run leaves."""
    files = (bundle.lora, bundle.config, bundle.video, bundle.audio, bundle.debug_dataset)
    return {"event": "done", "files": [path for path in files if path is not None]}


def kind_at(event: Event) -> str:
    """Name the kind of an event with its step and attempt, by which equal runs tell the same number of them."""
    return f"{event['event']} {event.get('step')} {event.get('attempt')}"


def _take_over(path: Path, start: int) -> Counter[str]:
    """Leave in the file what the run up to `start` told, and count what that is of `start` itself."""
    kept = [line for line in _lines_of(path) if start > 0 and _stands(line, start)]
    content = b"".join(map(_as_line, kept))
    if path.is_file() and path.read_bytes() != content:
        write_bytes(path, content)
    return Counter(kind_at(line) for line in kept if line.get("step") == start and line["event"] not in OF_A_PROCESS)


def _lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of earlier processes; the last may have been cut by their end."""
    if not path.is_file():
        return
    with disk_errors(path):
        rows = path.read_bytes().split(b"\n")
    damaged = 0
    for row in rows[:-1]:
        try:
            line = json.loads(row)
        except ValueError:
            line = None
        if isinstance(line, dict) and isinstance(line.get("event"), str):
            yield line
        else:
            damaged += 1
    if damaged:
        logger.warning("%s holds %d damaged lines, which are removed.", path, damaged)


def _stands(line: Event, start: int) -> bool:
    """Say whether a line still tells of the run when training goes on from `start`."""
    step = line.get("step")
    return line["event"] in OF_A_PROCESS or not isinstance(step, int) or step <= start


def _tell_the_end(events: Events, error: BaseException) -> None:
    """Write why the command ends; a disk that does not even take that has its own error on the way already."""
    told: Event = (
        {"event": "stopped", "signal": error.signal_number}
        if isinstance(error, Interrupted)
        else {"event": "failed", "code": exit_status_of(error), "message": str(as_known(error)) or type(error).__name__}
    )
    try:
        events.add_event(told)
    except TrainerError as second:
        logger.warning("%s lacks the end of the run: %s", FILE, second)


def _as_line(event: Event) -> bytes:
    # A file name may hold what is no text; its replacement is the escape that JSON has for it.
    return json.dumps(event, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"


def _append(file: FileIO, line: bytes) -> None:
    """Write a line whole or not at all, so that the next one does not go on in it."""
    end = os.fstat(file.fileno()).st_size
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(end)
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
