"""Which examples each pass takes, and the generators that everything random comes from.

All processes walk through one common sequence of batches, a function of the seed and of the examples' shapes, so that
any batch of a run can be named without training those before it.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import count

import torch

from ltx_trainer.seeds import derived_seed


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """Make the CPU generator of a purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


class BatchOrder:
    """The endless sequence of a run's batches.

    The examples come in an order that runs through all of them once before any comes again, shuffled anew each time.
    Each waits in the bucket of its shape; a bucket that has `batch_size` of them is the next batch.

    Args:
        shapes: Of the examples; only those of equal shape make a batch.
        batch_size: Examples in a batch.
        seed: Of the run.
    """

    def __init__(self, shapes: Sequence[Hashable], batch_size: int, seed: int) -> None:
        self._shapes = shapes
        self._batch_size = batch_size
        self._seed = seed
        self._walk_again()

    def batch(self, index: int) -> tuple[int, ...]:
        """Give the examples of one batch; going forward costs no more than the way there."""
        if index < self._position:
            self._walk_again()
        while self._position < index:
            self._position, self._current = next(self._walk)
        return self._current

    def _walk_again(self) -> None:
        self._walk = enumerate(_batches(self._shapes, self._batch_size, self._seed))
        self._position, self._current = next(self._walk)


def _batches(shapes: Sequence[Hashable], batch_size: int, seed: int) -> Iterator[tuple[int, ...]]:
    buckets: dict[Hashable, list[int]] = defaultdict(list)
    for example in _examples(len(shapes), seed):
        bucket = buckets[shapes[example]]
        bucket.append(example)
        if len(bucket) == batch_size:
            yield tuple(bucket)
            bucket.clear()


def _examples(num_examples: int, seed: int) -> Iterator[int]:
    for epoch in count():
        yield from torch.randperm(num_examples, generator=generator_for(seed, "order", epoch)).tolist()
