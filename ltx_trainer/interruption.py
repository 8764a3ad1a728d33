"""SIGINT and SIGTERM: noted where work must first be put in order, and leaving at once everywhere else."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from ltx_trainer.errors import Interrupted

ECHO_SECONDS = 2.0
"""A launcher passes on what a terminal already sent to every process: within this time it is one wish, not two."""

LAUNCHER = "TORCHELASTIC_RUN_ID"
"""Variable that such a launcher sets."""

Result = TypeVar("Result")


@dataclass
class _State:
    noted: int = 0
    noted_at: float = 0.0
    deferring: bool = False
    breakable: bool = False


_state = _State()


def handle_signals() -> None:
    """Take SIGINT and SIGTERM for wishes to stop, from now on."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGINT, _handle)


def noted() -> int:
    """Give the number of the signal that came while stopping was deferred; 0 if none did."""
    return _state.noted


@contextmanager
def deferred() -> Iterator[None]:
    """Only note a first signal for the length of the `with`; a second one raises `Interrupted` at once.

    Who defers asks `noted` at every point where the work could be left, and raises `Interrupted` itself.
    """
    _state.deferring, _state.noted = True, 0
    try:
        yield
    finally:
        _state.deferring = False


def unless_stopped(do: Callable[[], Result]) -> Result | None:
    """Call `do`; inside `deferred`, leave it as soon as a signal comes, and give None.

    It is for long work that can be done again, such as a preview.
    """
    if not _state.deferring:
        return do()
    _state.breakable = True
    try:
        return None if _state.noted else do()
    except _Broken:
        return None
    finally:
        _state.breakable = False


class _Broken(Interrupted):
    """Ends what `unless_stopped` calls."""


def _handle(number: int, _frame: FrameType | None) -> None:
    if not _state.deferring:
        raise Interrupted(number)
    if _state.noted:
        if not _is_echo():
            raise Interrupted(number)
        return
    _state.noted, _state.noted_at = number, time.monotonic()
    if _state.breakable:
        raise _Broken(number)


def _is_echo() -> bool:
    return LAUNCHER in os.environ and time.monotonic() - _state.noted_at <= ECHO_SECONDS
