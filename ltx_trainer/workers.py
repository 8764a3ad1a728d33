"""Processes that work ahead of the one that uses what they make: decoding, which keeps a core each busy."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from typing import Protocol, TypeVar

from ltx_trainer.launcher import num_processes

Item = TypeVar("Item")

MOST_WORKERS = 8
"""Beyond these, a GPU encodes more slowly than they decode."""

FEW_BYTES = 32 << 20
"""Sources of fewer bytes in all are sooner read than other processes start."""

_AHEAD = 2
"""Items of each worker that are begun or waiting for the one that uses them."""

_PRELOADED = ["ltx_trainer.prepare", "ltx_trainer.survey"]


class Tracker(Protocol):
    """Shows how far a loop is."""

    def __call__(self, items: Iterable[Item], what: str, total: int, /) -> Iterable[Item]:
        """Give the items one by one; there are `total`."""
        ...


@dataclass
class _State:
    threads: int = 0


_state = _State()


def num_threads() -> int:
    """Say how many threads one decoder may have; 0 leaves it to the library."""
    return _state.threads


def num_workers(asked: int | None, sizes: Sequence[int]) -> int:
    """Say how many processes shall work; 0 is this one.

    Args:
        asked: What the settings say; None leaves it to the cores and the work.
        sizes: Bytes of each source.
    """
    if asked is not None:
        return min(asked, len(sizes))
    if sum(sizes) < FEW_BYTES or len(sizes) == 1:
        return 0
    return min(MOST_WORKERS, _own_cores(), len(sizes))


def ahead(do: Callable[[Item], object], items: Iterable[Item], *, workers: int) -> Iterator[Item]:
    """Call `do` for every item, some items ahead, and give each item once that is done, in order.

    What `do` makes it leaves on disk. Processes end with the loop, or with this process, however that ends.

    Args:
        do: Works on one item. It and the items can be pickled.
        items: In order.
        workers: Processes; 0 calls `do` here.

    Raises:
        Exception: As `do` does, when its item's turn comes.
    """
    if not workers:
        for item in items:
            do(item)
            yield item
        return
    waiting: deque[tuple[Item, Future[object]]] = deque()
    coming = iter(items)
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    threads = max(1, _own_cores() // workers)
    with ProcessPoolExecutor(workers, context, _begin, (threads,)) as pool:
        try:
            while True:
                waiting.extend(
                    (item, pool.submit(do, item)) for item in islice(coming, workers * _AHEAD - len(waiting))
                )
                if not waiting:
                    return
                item, future = waiting.popleft()
                future.result()
                yield item
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _own_cores() -> int:
    """Count the cores that each process of the run has for itself."""
    return max(1, len(os.sched_getaffinity(0)) // num_processes())


def _begin(threads: int) -> None:
    """Make a worker end with the process that it works for, which alone is told to stop."""
    _state.threads = threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    connection.wait([parent.sentinel])
    os._exit(1)
