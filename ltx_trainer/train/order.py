"""Which examples each pass takes, and the generators that everything random comes from.

The order is a function of the seed and the position, so that any step of a run can be addressed without replaying those
before it, and all processes walk through one common order.
"""

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent seed for a purpose, such as the noise of one process."""
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """Make the CPU generator of a purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def examples_of_pass(
    pass_index: int, *, num_examples: int, batch_size: int, rank: int, num_processes: int, seed: int
) -> list[int]:
    """Give the examples that one process takes in one pass.

    The order runs through every example once before any comes again, shuffled anew each time.

    Args:
        pass_index: Passes done since the start of the run.
        num_examples: Size of the set.
        batch_size: Examples that each process takes.
        rank: Number of the process.
        num_processes: How many share the order.
        seed: Of the run.
    """
    first = (pass_index * num_processes + rank) * batch_size
    return [_example_at(position, num_examples, seed) for position in range(first, first + batch_size)]


def _example_at(position: int, num_examples: int, seed: int) -> int:
    epoch, place = divmod(position, num_examples)
    return int(torch.randperm(num_examples, generator=generator_for(seed, "order", epoch))[place])
