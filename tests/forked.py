"""The command line in a process of its own, forked from one that has imported what takes seconds."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ltx_trainer import cli

IMPORTED = (
    "ltx_trainer.pipeline",
    "ltx_trainer.cache",
    "ltx_trainer.export",
    "ltx_trainer.models.ltx2",
    "ltx_trainer.models.ltx_video",
    "ltx_trainer.train",
    "ltx_trainer.validate",
)


def run_command(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run `python -m ltx_trainer` with arguments, in the environment and the folder of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    with TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "err")]
        process = context.Process(target=_obey, args=(arguments, *said, dict(os.environ), Path.cwd()))
        process.start()
        process.join()
        assert process.exitcode is not None, "it has ended"
        return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in said))


def _obey(arguments: tuple[str, ...], out: Path, err: Path, environment: dict[str, str], folder: Path) -> None:
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(cli.main(arguments))
