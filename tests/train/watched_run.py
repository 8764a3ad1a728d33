"""The command line in one of several processes, which leaves what that process saw in `seen-<rank>.json`."""

import copy
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ltx_trainer import cli, interruption, train, validate
from ltx_trainer.artifacts import Adapter, CachedSet
from ltx_trainer.cache import fill
from ltx_trainer.config import Settings
from ltx_trainer.errors import OutOfResources, TrainerError
from ltx_trainer.models.family import Family, VideoCodec
from ltx_trainer.models.lora import adapter_state
from ltx_trainer.processes import on_main, together
from ltx_trainer.tensorfile import tensors_digest

RANK = int(os.environ["RANK"])

seen: dict[str, Any] = {"encoded": [], "rank": RANK}
fill_cache, train_adapter = fill.fill_cache, train.train_adapter


class Listener(logging.Handler):
    """Notes what the cache tells of this process's share."""

    def emit(self, record: logging.LogRecord) -> None:
        seen["encoded"].append(record.getMessage())


def signalled(family: Family) -> Family:
    """Give the same family; in process 1 a signal arrives when pictures are about to be decoded."""
    told = copy.copy(family)

    @contextmanager
    def video_codec(device: torch.device) -> Iterator[VideoCodec]:
        if RANK == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        with family.video_codec(device) as codec:
            yield codec

    vars(told)["video_codec"] = video_codec
    return told


def watched_fill(*arguments: Any, **options: Any) -> CachedSet:
    logging.getLogger("ltx_trainer.cache").setLevel(logging.INFO)
    logging.getLogger("ltx_trainer.cache").addHandler(Listener())
    cached = fill_cache(*arguments, **options)
    seen["cached"] = repr(cached)
    return cached


def watched_training(
    settings: Settings, family: Family, transformer: torch.nn.Module, cached: CachedSet, folder: Path, **options: Any
) -> Adapter:
    adapter = train_adapter(settings, family, transformer, cached, folder, **options)
    seen["adapter"] = tensors_digest(adapter_state(transformer))
    seen["failures"] = [failure_of(partial(together, fail_in(rank, error))) for rank, error in FAILURES]
    seen["failures"].append(failure_of(partial(on_main, fail_in(0, OutOfResources("The disk is full.")))))
    seen["gathered"] = [together(lambda: RANK), on_main(lambda: RANK)]

    place = folder.parent / "stopped"
    with interruption.deferred():
        render = validate.Previews(
            signalled(family),
            transformer,
            cached,
            options["terms"],
            validate.sampling_of(settings, family),
            place,
            options["accelerator"],
            base="base",
            on_render=lambda render: seen.update(told=str(render)),
        ).render(0)
        seen["stopped"] = [repr(render), interruption.noted()]
    (folder.parent / f"seen-{RANK}.json").write_text(json.dumps(seen))
    return adapter


FAILURES: list[tuple[int, Exception]] = [(1, OutOfResources("No space left.")), (0, RuntimeError("a bug"))]


def fail_in(rank: int, error: Exception) -> Callable[[], None]:
    def fail() -> None:
        if rank == RANK:
            raise error

    return fail


def failure_of(do: Callable[[], object]) -> str:
    try:
        do()
    except (TrainerError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


fill.fill_cache = watched_fill
train.train_adapter = watched_training
sys.exit(cli.main())
