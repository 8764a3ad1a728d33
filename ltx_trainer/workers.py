"""Processes that work ahead of the one that uses what they make: decoding, which keeps a core each busy."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Protocol, TypeVar

from ltx_trainer.errors import OutOfResources
from ltx_trainer.launcher import num_local_processes

Item = TypeVar("Item")

MOST_WORKERS = 8
"""Beyond these, a GPU encodes more slowly than they decode."""

FEW_BYTES = 32 << 20
"""Sources of fewer bytes in all are sooner read than other processes start."""

DIED = "The process that decoded was killed or crashed, twice"
"""What becomes of a file that ends whoever decodes it, or of one for which there is no memory."""

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


def ahead(
    do: Callable[[Item], object],
    items: Iterable[Item],
    *,
    workers: int,
    lost: Callable[[Item], None] | None = None,
) -> Generator[Item]:
    """Call `do` for every item, some items ahead, and give each item once that is done, in order.

    What `do` makes it leaves on disk. Processes end when the generator is closed, or with this process, however that
    ends.

    Args:
        do: Works on one item. It and the items can be pickled.
        items: In order.
        workers: Processes; 0 calls `do` here.
        lost: Is told of an item whose process dies, also when it is tried again alone. None: that is an error.

    Raises:
        Exception: As `do` does, when its item's turn comes.
        OutOfResources: A process died, and nobody is told.
    """
    if not workers:
        for item in items:
            do(item)
            yield item
        return
    waiting: deque[tuple[Item, Future[object]]] = deque()
    coming = iter(items)
    pool = _open_pool(workers)
    try:
        while True:
            more = islice(coming, workers * _AHEAD - len(waiting))
            waiting.extend((item, pool.submit(do, item)) for item in more)
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                future.result()
            except BrokenProcessPool:
                # One of those that were begun ended it; each is tried alone.
                begun = [item, *(each for each, _ in waiting)]
                waiting.clear()
                pool.shutdown(cancel_futures=True)
                for each in begun:
                    _retry(do, each, lost)
                    yield each
                pool = _open_pool(workers)
                continue
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def all_ahead(
    do: Callable[[Item], object],
    items: Sequence[Item],
    files: Iterable[Path],
    *,
    workers: int | None,
    track: Tracker | None,
    what: str,
    lost: Callable[[Item], None] | None = None,
) -> None:
    """Call `do` for every item, in other processes where that is worth it, until all is done.

    Args:
        do: As in `ahead`.
        items: In order.
        files: What they are read of.
        workers: Processes. None: as the work and the cores allow.
        track: Shows how far it is.
        what: Is done, for `track`.
        lost: As in `ahead`.
    """
    with closing(ahead(do, items, workers=num_workers(workers, sizes_of(files)), lost=lost)) as done:
        for _ in done if track is None else track(done, what, len(items)):
            pass


def sizes_of(files: Iterable[Path]) -> list[int]:
    """Give the bytes of each file that is there."""
    return [file.stat().st_size for file in files if file.is_file()]


def _open_pool(workers: int) -> ProcessPoolExecutor:
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return ProcessPoolExecutor(workers, context, _begin, (max(1, _own_cores() // workers),))


def _retry(do: Callable[[Item], object], item: Item, lost: Callable[[Item], None] | None) -> None:
    with _open_pool(1) as pool:
        try:
            pool.submit(do, item).result()
        except BrokenProcessPool as error:
            if lost is None:
                raise OutOfResources(
                    f"{DIED}, as it is where memory runs out. A lower data.workers needs less. It worked on {item}."
                ) from error
            lost(item)


def _own_cores() -> int:
    """Count the cores that each process of the run has on this machine."""
    return max(1, len(os.sched_getaffinity(0)) // num_local_processes())


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
