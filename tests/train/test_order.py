from collections import Counter

import pytest
import torch

from ltx_trainer.train.order import derived_seed, examples_of_pass, generator_for


def walk(num_passes: int, *, num_processes: int = 1, batch_size: int = 1, seed: int = 1) -> list[int]:
    return [
        example
        for index in range(num_passes)
        for rank in range(num_processes)
        for example in examples_of_pass(
            index, num_examples=7, batch_size=batch_size, rank=rank, num_processes=num_processes, seed=seed
        )
    ]


def test_every_example_comes_once_before_any_comes_again() -> None:
    order = walk(21)

    assert all(Counter(order[start : start + 7]) == Counter(range(7)) for start in (0, 7, 14))
    assert order[:7] != order[7:14]


@pytest.mark.parametrize(("num_processes", "batch_size"), [(2, 1), (1, 3), (2, 3)])
def test_processes_and_batches_walk_through_one_common_order(num_processes: int, batch_size: int) -> None:
    assert walk(2, num_processes=num_processes, batch_size=batch_size) == walk(2 * num_processes * batch_size)


def test_another_seed_gives_another_order() -> None:
    assert walk(7, seed=1) != walk(7, seed=2)


def test_each_purpose_and_rank_has_its_own_draws() -> None:
    draws = [
        torch.randn(4, generator=generator_for(5, *purpose)).tolist()
        for purpose in (("draws", 0), ("draws", 1), ("adapter",), ("draws", 0))
    ]

    assert draws[0] == draws[3]
    assert len({tuple(draw) for draw in draws}) == 3
    assert 0 <= derived_seed(5, "draws", 0) < 2**63
