"""A new word gets its look and its sound."""

from collections.abc import Callable

from mode_check import SAMPLING, Verdict


def test_t2v_learns_a_word(learn: Callable[..., Verdict]) -> None:
    verdict = learn("t2v", SAMPLING)

    assert verdict.problems == []
    assert not verdict.worse
