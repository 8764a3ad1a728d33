"""Tensors on disk by key. A file is whole or absent."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from torch import Tensor

from ltx_trainer.tensorfile import write_tensors

MOST_WAITING = 4
"""Files that wait for the disk."""


class TensorStore:
    """Writes safetensors files, and counts them."""

    def __init__(self) -> None:
        self.num_written = 0

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors whole.

        Raises:
            OutOfResources: The disk is full.
        """
        write_tensors(path, tensors)
        self.num_written += 1


class TensorWriter:
    """Writes tensors to a store beside the work that makes the next ones; a few at most wait for the disk.

    Args:
        store: Where they lie then.
    """

    def __init__(self, store: TensorStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        """Give the writer; everything is written at the end of the `with`."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the disk.

        Raises:
            OutOfResources: It is full, and nothing else was raised before.
        """
        self._thread.shutdown(cancel_futures=kind is not None)
        while kind is None and self._waiting:
            self._waiting.popleft().result()

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Have tensors written whole.

        Raises:
            OutOfResources: The disk is full, as an earlier write found.
        """
        self._waiting.append(self._thread.submit(self._store.write, path, tensors))
        while len(self._waiting) > MOST_WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
