"""A new word gets its look and its sound."""

from collections.abc import Callable

from mode_check import Verdict


def test_t2v_learns_a_word(learn: Callable[[str], Verdict]) -> None:
    verdict = learn("t2v")

    assert verdict.problems == []
    assert not verdict.worse
