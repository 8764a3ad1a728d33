"""Weights & Biases: losses by step, and previews as videos or sounds. Nothing that it does ends a run."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ltx_trainer.artifacts import Render
from ltx_trainer.atomic import write_text
from ltx_trainer.config import Settings
from ltx_trainer.errors import ConfigError
from ltx_trainer.report.logs import Event, Measured, curves_of_event, curves_of_step

if TYPE_CHECKING:
    from wandb import Run

logger = logging.getLogger(__name__)

ID_FILE = Path("wandb") / "run-id.txt"

WITHOUT_KEY = frozenset({"offline", "dryrun", "disabled"})
"""Values of WANDB_MODE with which nothing is sent."""

LONGEST_FINISH_SECONDS = 60.0
"""How long a finished run waits for its last files to be sent."""


class WandbLog:
    """Tells one run of W&B; silent without one, and from the first failure on."""

    def __init__(self, run: "Run | None") -> None:
        self._run = run

    def add_step(self, measured: Measured) -> None:
        """Send the numbers of one step."""
        self._send(curves_of_step(measured), measured.step)

    def add_event(self, event: Event) -> None:
        """Send the losses on held-out clips; other events have no curve."""
        if curves := curves_of_event(event):
            self._send(curves, event["step"])

    def add_render(self, render: Render) -> None:
        """Send the videos of a preview, or its sounds."""
        self._attempt(lambda run: run.log(_media(render), step=render.step))

    def finish(self, *, failed: bool) -> None:
        """End the run, and wait for what is still to be sent."""
        self._attempt(lambda run: run.finish(exit_code=int(failed)))

    def _send(self, numbers: dict[str, float], step: int) -> None:
        self._attempt(lambda run: run.log(numbers, step=step))

    def _attempt(self, do: Callable[["Run"], object]) -> None:
        if self._run is None:
            return
        try:
            do(self._run)
        except Exception as error:  # noqa: BLE001 - whatever happens to the network, training goes on
            self._run = None
            _warn(error)


def check_wandb(project: str | None) -> None:
    """Refuse a run that W&B could not be told of, before any work is done.

    Args:
        project: `report.wandb_project`; None where W&B is not wanted.

    Raises:
        ConfigError: The library or the key is missing.
    """
    if project is None:
        return
    try:
        version("wandb")
    except PackageNotFoundError as error:
        raise ConfigError(
            f"report.wandb_project = {project!r}: the library wandb is not installed. "
            "pip install 'ltx-trainer[wandb]', or leave the setting out."
        ) from error
    if not os.environ.get("WANDB_API_KEY") and os.environ.get("WANDB_MODE") not in WITHOUT_KEY:
        raise ConfigError(
            f"report.wandb_project = {project!r}: there is no key. Set WANDB_API_KEY, or WANDB_MODE=offline to keep "
            "the record in the run's folder, or leave the setting out."
        )


@contextmanager
def open_wandb(folder: Path, settings: Settings, *, start: int, enabled: bool) -> Iterator[WandbLog]:
    """Open the run of W&B that belongs to a run's folder, or a log that sends nothing.

    W&B takes no step twice, so that what an earlier process sent of later steps than `start` stays.

    Args:
        folder: The run's own.
        settings: Of the run.
        start: The step that training goes on from; at 0 a new run of W&B begins.
        enabled: Send at all, as only the main process does.
    """
    project = settings.report.wandb_project
    run = _begin(folder, settings, project, start) if enabled and project is not None else None
    log = WandbLog(run)
    try:
        yield log
    except BaseException:
        log.finish(failed=True)
        raise
    log.finish(failed=False)


def _begin(folder: Path, settings: Settings, project: str, start: int) -> "Run | None":
    identifier = _identifier(folder / ID_FILE, start)
    try:
        wandb = _library()
        run = wandb.init(
            project=project,
            id=identifier,
            name=folder.resolve().name,
            dir=folder,
            config=_shown(settings),
            # Nothing can be asked for when offline.
            resume=None if os.environ.get("WANDB_MODE") in WITHOUT_KEY else "allow",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                finish_timeout=LONGEST_FINISH_SECONDS,
            ),
        )
    except Exception as error:  # noqa: BLE001 - whatever happens to the network, training goes on
        _warn(error)
        return None
    logger.info("Logging to W&B: %s", run.dir if run.offline else run.url)
    return run


def _library() -> ModuleType:
    """Import W&B, which takes a second and may not be installed, only where it is asked for."""
    import wandb  # noqa: PLC0415

    return wandb


def _media(render: Render) -> dict[str, Any]:
    kinds = {".mp4": _library().Video, ".wav": _library().Audio}
    return {f"preview/{index + 1}": kinds[path.suffix](str(path)) for index, path in enumerate(render.items)}


def _identifier(path: Path, start: int) -> str:
    """Give the id in the run's folder, or a new one where training begins."""
    if start > 0 and path.is_file():
        return path.read_text().strip()
    identifier = hashlib.sha256(f"{path.resolve()} {time.time_ns()}".encode()).hexdigest()[:16]
    write_text(path, identifier + "\n")
    return identifier


def _shown(settings: Settings) -> dict[str, Any]:
    """Give the settings without where the data comes from: a URL may hold a key, or the whole file."""
    shown = settings.model_dump(mode="json", exclude={"paths": True, "input": {"training_data_url", "validation"}})
    shown["input"]["validation"] = [item.prompt for item in settings.input.validation]
    return shown


def _warn(error: Exception) -> None:
    logger.warning("W&B is not told any more: %s: %s. Training goes on.", type(error).__name__, error)
