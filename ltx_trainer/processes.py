"""The processes of a run: one, or the many of a launcher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs, gather_object, parse_flag_from_env

from ltx_trainer.errors import ConfigError, OutOfResources, TrainerError
from ltx_trainer.workers import Tracker

Result = TypeVar("Result")
Item = TypeVar("Item")

# Processes wait for the slowest one while a dataset is encoded or a preview is rendered.
LONGEST_WAIT = timedelta(hours=24)

PRECISIONS: dict[str, tuple[Literal["no", "bf16"], torch.dtype]] = {
    "fp32": ("no", torch.float32),
    "bf16": ("bf16", torch.bfloat16),
}


def make_accelerator(precision: Literal["auto", "bf16", "fp32"]) -> tuple[Accelerator, torch.dtype]:
    """Join the other processes of the launcher, if any, and choose the precision.

    Args:
        precision: Of the frozen base and the arithmetic; auto is bf16 on CUDA and fp32 on a CPU.

    Returns:
        The accelerator, and the type of the base's weights.

    Raises:
        ConfigError: The GPU does not have the precision.
    """
    on_gpu = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    if precision == "auto":
        precision = "bf16" if on_gpu else "fp32"
    if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"{torch.cuda.get_device_name()} has no bf16. training.precision fp32 works.")
    mixed, dtype = PRECISIONS[precision]
    waiting = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(mixed_precision=mixed, kwargs_handlers=[waiting]), dtype


def together(do: Callable[[], Result]) -> list[Result]:
    """Call `do`, which may differ between processes, and give each process the results of all, in their order.

    No process is left waiting for one that fails: each raises its own error, and the rest the first of the others'.

    Args:
        do: Waits for no other process itself. What it gives can be pickled.

    Raises:
        TrainerError: As `do` does here or elsewhere.
    """
    try:
        result = do()
    except Exception as error:
        gather_object([_Failure(*_as_told(error))])
        raise
    results = gather_object([result])
    for other in results:
        if isinstance(other, _Failure):
            raise other.kind(other.message)
    return results


def on_main(do: Callable[[], Result]) -> Result:
    """Call `do` in the main process alone, and give its result to all.

    Raises:
        TrainerError: As `do` does, in all processes.
    """
    return cast(Result, together(lambda: do() if PartialState().is_main_process else None)[0])


def shown_by_main(track: Tracker, accelerator: Accelerator) -> Tracker:
    """Let the main process show how far its own share is, and the others nothing."""
    return track if accelerator.is_main_process else _show_nothing


def _show_nothing(items: Iterable[Item], _what: str, _total: int) -> Iterable[Item]:
    return items


def share_of(accelerator: Accelerator) -> str:
    """Say whose share is worked on, for a message; nothing where one process does all."""
    index, count = accelerator.process_index, accelerator.num_processes
    return f" in process {index + 1} of {count}" if count > 1 else ""


@dataclass(frozen=True)
class _Failure:
    """What a process tells the others in place of a result."""

    kind: type[TrainerError]
    message: str


def _as_told(error: Exception) -> tuple[type[TrainerError], str]:
    """Give an error's kind and text as another process may raise it."""
    if isinstance(error, TrainerError):
        return type(error), str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OutOfResources, f"Memory ran out in another process ({error})."
    return TrainerError, f"Another process failed: {type(error).__name__}: {error}"
