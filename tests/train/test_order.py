from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltx_trainer.seeds import derived_seed
from ltx_trainer.train.order import BatchOrder, generator_for

SHAPES = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)
SIZES = st.integers(1, 5)


def walk(num_batches: int, *, shapes: str = "aaaaaaa", batch_size: int = 1, seed: int = 1) -> list[int]:
    order = BatchOrder(shapes, batch_size, seed)
    return [example for index in range(num_batches) for example in order.batch(index)]


def test_every_example_comes_once_before_any_comes_again() -> None:
    order = walk(21)

    assert all(Counter(order[start : start + 7]) == Counter(range(7)) for start in (0, 7, 14))
    assert order[:7] != order[7:14]


@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_batches_of_one_shape_follow_the_order_of_single_examples(batch_size: int) -> None:
    assert walk(3, batch_size=batch_size) == walk(3 * batch_size)


def test_another_seed_gives_another_order() -> None:
    assert walk(7, seed=1) != walk(7, seed=2)


@given(shapes=SHAPES, batch_size=SIZES)
def test_a_batch_has_its_size_and_one_shape(shapes: list[str], batch_size: int) -> None:
    order = BatchOrder(shapes, batch_size, 1)

    for index in range(20):
        batch = order.batch(index)
        assert len(batch) == batch_size
        assert len({shapes[example] for example in batch}) == 1


@given(shapes=SHAPES, batch_size=SIZES)
def test_nothing_is_dropped_and_nothing_comes_early(shapes: list[str], batch_size: int) -> None:
    """After any number of batches, what was dealt out and what fewer than a batch of each shape wait for are epochs."""
    order = BatchOrder(shapes, batch_size, 1)
    seen: Counter[int] = Counter()

    for index in range(30):
        seen.update(order.batch(index))
        most = max(seen.values())
        for shape in set(shapes):
            same = [example for example in range(len(shapes)) if shapes[example] == shape]
            waiting = sum(max(0, most - 1 - seen[example]) for example in same)
            assert waiting < batch_size


@given(shapes=SHAPES, batch_size=SIZES)
def test_within_a_shape_every_example_comes_once_before_any_comes_again(shapes: list[str], batch_size: int) -> None:
    order = BatchOrder(shapes, batch_size, 1)
    dealt = [example for index in range(20) for example in order.batch(index)]

    for shape in set(shapes):
        same = {example for example in range(len(shapes)) if shapes[example] == shape}
        own = [example for example in dealt if example in same]
        for start in range(0, len(own) - len(same) + 1, len(same)):
            assert set(own[start : start + len(same)]) == same


@given(shapes=SHAPES, batch_size=SIZES, asked=st.lists(st.integers(0, 15), max_size=8))
def test_any_batch_can_be_asked_for_in_any_order(shapes: list[str], batch_size: int, asked: list[int]) -> None:
    order, straight = BatchOrder(shapes, batch_size, 1), BatchOrder(shapes, batch_size, 1)
    expected = [straight.batch(index) for index in range(16)]

    assert [order.batch(index) for index in asked] == [expected[index] for index in asked]


def test_each_purpose_and_rank_has_its_own_draws() -> None:
    draws = [
        torch.randn(4, generator=generator_for(5, *purpose)).tolist()
        for purpose in (("draws", 0), ("draws", 1), ("adapter",), ("draws", 0))
    ]

    assert draws[0] == draws[3]
    assert len({tuple(draw) for draw in draws}) == 3
    assert 0 <= derived_seed(5, "draws", 0) < 2**63
