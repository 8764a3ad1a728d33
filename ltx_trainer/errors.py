"""Every exception raised on purpose, and the exit status each one ends a run with.

A message says what was found, what is allowed, and what would work.

    TrainerError
    ├── Refusal                2   what was given cannot be used
    │   ├── ConfigError            a setting or a request field
    │   ├── DatasetError           the archive or the examples in it
    │   ├── MediaError             one media file
    │   ├── GeometryError          a size, frame count or rate
    │   ├── ModelError             the base model
    │   ├── CacheError             a tensor file of the cache
    │   └── CheckpointError        a checkpoint or an exported file
    ├── TrainingDiverged       3   the loss or a gradient is not finite
    └── OutOfResources         4   memory or disk space ran out

    Interrupted          130/143   SIGINT or SIGTERM; a BaseException, as KeyboardInterrupt is
"""

import errno
import sys
from collections.abc import Sequence
from typing import ClassVar


class TrainerError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        exit_status: What the process ends with.
    """

    exit_status: ClassVar[int] = 1


class Refusal(TrainerError):
    """Something given to the run cannot be used; nothing was changed."""

    exit_status = 2


class ConfigError(Refusal):
    """A setting or a field of the request."""


class DatasetError(Refusal):
    """The archive, or the examples in it."""


class MediaError(Refusal):
    """One media file that cannot be read as what it claims to be."""


class GeometryError(Refusal):
    """A size, frame count or frame rate that the model does not take."""


class ModelError(Refusal):
    """The base model is missing something, or is another model."""


class CacheError(Refusal):
    """A tensor file of the cache that is damaged or gone; without it, the next run computes it again."""


class CheckpointError(Refusal):
    """A checkpoint or an exported file that does not belong to this run or is damaged."""


class TrainingDiverged(TrainerError):
    """The loss or a gradient is no longer a finite number."""

    exit_status = 3


class OutOfResources(TrainerError):
    """Memory or disk space ran out."""

    exit_status = 4


class Interrupted(BaseException):
    """The process was told to stop. No `except Exception` of a library may take it for an error of its own.

    Args:
        signal_number: 2 for SIGINT, 15 for SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"Stopped by signal {signal_number}.")
        self.signal_number = signal_number


def some_of(names: Sequence[str], at_most: int = 3) -> str:
    """List names for a message, which shows that there are more."""
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")


def counted(number: int, noun: str) -> str:
    """Say how many there are: `1 frame`, `2 frames`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def as_known(error: BaseException) -> BaseException:
    """Give memory and disk that ran out their own error, whichever library said so; any other error as it is."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        said = f" ({error})" if str(error) else ""
        return OutOfResources(f"Memory ran out{said}. A lower input.resolution or fewer frames need less.")
    # safetensors has an error of its own for it.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or (not isinstance(error, TrainerError) and "No space left on device" in str(error)):
        return OutOfResources(f"No space left on the disk: {error}.")
    return error


def exit_status_of(error: BaseException) -> int:
    """Give the exit status that `error` ends the process with; 1 is kept for bugs."""
    known = as_known(error)
    if isinstance(known, Interrupted):
        return 128 + known.signal_number
    return known.exit_status if isinstance(known, TrainerError) else 1
