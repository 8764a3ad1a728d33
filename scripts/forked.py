"""The command line in processes of their own, forked from one that has imported what takes seconds."""

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from ltx_trainer import cli

IMPORTED = (
    "ltx_trainer.pipeline",
    "ltx_trainer.cache",
    "ltx_trainer.export",
    "ltx_trainer.models.ltx2",
    "ltx_trainer.models.ltx_video",
    "ltx_trainer.report.board",
    "ltx_trainer.train",
    "ltx_trainer.validate",
    "torch.distributed.run",
)


def start_command(arguments: Sequence[str], out: Path, err: Path) -> BaseProcess:
    """Start `python -m ltx_trainer` with arguments, in the environment and the folder of this process.

    Args:
        arguments: Of the command line.
        out: File for what it prints.
        err: File for its messages.

    Returns:
        The process, whose exit status is that of the command.
    """
    return _start(cli.main, arguments, out, err)


def start_launcher(script: Path, arguments: Sequence[str], out: Path, err: Path) -> BaseProcess:
    """Start a script in two processes of `torch.distributed.run`, which are forked too.

    Args:
        script: What each of them runs.
        arguments: Of the script.
        out: File for what they and the launcher print.
        err: File for their messages.

    Returns:
        The launcher's process.
    """
    options = ("--standalone", "--nproc_per_node", "2", "--start-method", "fork", "--run-path")
    return _start(_launch, [*options, str(script.absolute()), *arguments], out, err)


def _start(do: Callable[[Sequence[str]], int], arguments: Sequence[str], out: Path, err: Path) -> BaseProcess:
    context = get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    process = context.Process(target=_obey, args=(do, arguments, out, err, dict(os.environ), Path.cwd()))
    process.start()
    return process


def _launch(arguments: Sequence[str]) -> int:
    # Not at the top: it brings torch, which a process that only starts others has no need of.
    from torch.distributed.run import main  # noqa: PLC0415

    main(arguments)
    return 0


def _obey(
    do: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    out: Path,
    err: Path,
    environment: dict[str, str],
    folder: Path,
) -> None:
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(do(arguments))
