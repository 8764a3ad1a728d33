"""The command line: arguments, logging, and the exit status that a run ends with."""

import argparse
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.logging import RichHandler

from ltx_trainer import __version__, report
from ltx_trainer.atomic import disk_errors, make_folder
from ltx_trainer.config import Settings, read_config, settings_from
from ltx_trainer.errors import ConfigError, Interrupted, TrainerError, as_known, exit_status_of
from ltx_trainer.interruption import handle_signals
from ltx_trainer.launcher import is_main_process
from ltx_trainer.models.locate import MINIATURES

STAGES = {
    "inspect": "read the archive; say what would be trained on, and what would be left out",
    "prepare": "inspect, then encode every clip and caption into the cache",
    "train": "prepare, then train",
    "validate": "train, then render the last preview",
    "run": "validate, then export the LoRA: the whole way from a zip to a LoRA",
}

LONGEST_SPEECH_SECONDS = 10
"""How long other processes give the main one to come to the same error."""

QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}

EPILOG = """exit status: 0 done; 2 the config, request, data or model is refused; 3 training diverged; 4 memory or disk
space ran out; 130 or 143 interrupted; 1 a bug. The same code and message stand in status.json in the output folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    options = _parser().parse_args(arguments)
    handle_signals()
    _set_up_logging(verbose=options.verbose)
    try:
        _obey(options)
    except BaseException as error:  # noqa: BLE001 - every end of a run has a status
        return _end(error)
    return 0


def _obey(options: argparse.Namespace) -> None:
    if options.command == "modes":
        report.show_modes(Console())
    elif options.command == "miniature":
        _write_miniature(options.name, options.folder)
    else:
        data = read_config(options.config, request=options.input, overrides=options.set)
        output = _output_folder(data, options)
        with _owned(output) if is_main_process() else _following(output):
            _run(settings_from(data, options.config, request=options.input), output, options.command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ltx_trainer", description="Train LoRAs of the LTX video models.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"ltx-trainer {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="say what is done in detail")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in STAGES.items():
        _add_stage(commands.add_parser(name, help=summary, description=summary, epilog=EPILOG, parents=[common]))
    commands.add_parser("modes", help="print the table of modes", parents=[common])
    miniature = commands.add_parser(
        "miniature", help="write a tiny model as an ordinary diffusers folder", parents=[common]
    )
    miniature.add_argument("name", metavar="NAME", choices=MINIATURES, help=f"which one: {', '.join(MINIATURES)}")
    miniature.add_argument("folder", metavar="DIR", type=Path, help="a folder that is empty or not there")
    return parser


def _add_stage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, help="the settings of the run")
    parser.add_argument(
        "--input", metavar="REQUEST.json", type=Path, help="a request body of the hosted service, in place of `input`"
    )
    parser.add_argument(
        "--set", metavar="dotted.key=value", action="append", default=[], help="change one setting; may be repeated"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="the run's folder, in place of paths.output")


def _output_folder(data: Mapping[str, Any], options: argparse.Namespace) -> Path:
    """Find the run's folder before the settings are checked, so that a refusal can be told in it."""
    paths = data.get("paths")
    named = paths.get("output") if isinstance(paths, dict) else None
    return options.output or Path(named if isinstance(named, str) else f"outputs/{options.config.stem}").expanduser()


@contextmanager
def _owned(output: Path) -> Iterator[None]:
    """Keep other runs out of the run's folder, and leave in it how the command ended.

    Raises:
        ConfigError: Another run is at work there; its folder is left as it is.
    """
    make_folder(output)
    lock = FileLock(output / ".lock")
    try:
        with disk_errors(output / ".lock"):
            lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"Another run is at work in {output}. Wait for it, stop it, or give another folder with --output."
        ) from error
    try:
        report.write_status(output, code=None, message="running")
        yield
        report.write_status(output, code=0, message="done")
    except BaseException as error:
        _leave_status(output, error)
        raise
    finally:
        lock.release()


def _run(settings: Settings, output: Path, command: str) -> None:
    from ltx_trainer.pipeline import Space, Stage, run

    run(settings, Space(output, settings.paths.cache.expanduser()), Stage[command.upper()], Console())


def _write_miniature(name: str, folder: Path) -> None:
    # Brings torch with it, which the other commands can do without.
    from ltx_trainer.models.miniature import write_miniature

    write_miniature(name, folder)


@contextmanager
def _following(output: Path) -> Iterator[None]:
    """In a process beside the main one, tell an error that the main one does not come to by itself."""
    began = time.time()
    try:
        yield
    except Exception as error:
        if not _has_the_main_process_spoken(output, began):
            _say(_message_of(error))
            _leave_status(output, error)
        raise


def _has_the_main_process_spoken(output: Path, began: float) -> bool:
    """Wait for it: a launcher ends all processes as soon as one has ended."""
    last = time.monotonic() + LONGEST_SPEECH_SECONDS
    try:
        while not _is_told(output, began) and time.monotonic() < last:
            time.sleep(0.1)
    except Interrupted:
        return True
    return _is_told(output, began)


def _is_told(output: Path, began: float) -> bool:
    """Say whether the status of the run's folder has got its code since a time."""
    path = output / report.STATUS
    return path.is_file() and path.stat().st_mtime >= began and json.loads(path.read_text())["code"] is not None


def _leave_status(output: Path, error: BaseException) -> None:
    """Write the status; where even that fails, the exit status still tells.

    What another process has told stays where this one only lost its connection to it, or was ended for it.
    """
    if _is_told(output, began=0) and not isinstance(as_known(error), TrainerError):
        return
    try:
        report.write_status(output, code=exit_status_of(error), message=_message_of(error))
    except TrainerError as second:
        # What says that the run is on its way does not stay.
        with suppress(OSError):
            (output / report.STATUS).unlink()
        _say(f"status.json is missing: {second}")


def _set_up_logging(*, verbose: bool) -> None:
    # What the libraries would say of their own progress belongs to no run.
    for name, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
        logging.basicConfig(level=logging.WARNING, handlers=[handler], format="%(message)s")
    else:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    level = logging.DEBUG if verbose else logging.INFO
    logging.getLogger("ltx_trainer").setLevel(level if is_main_process() else logging.ERROR)


def _end(error: BaseException) -> int:
    """Say what ended the run, on standard error, and give its exit status."""
    code = exit_status_of(error)
    if code == 1:
        traceback.print_exception(error)
    # Of what was foreseen, the main process tells, or the one that it happened to.
    if is_main_process() or not isinstance(as_known(error), TrainerError):
        _say(_message_of(error))
    return code


def _message_of(error: BaseException) -> str:
    known = as_known(error)
    return str(known) if isinstance(known, TrainerError | Interrupted) else f"{type(known).__name__}: {known}"


def _say(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201 - the message that a command ends with
