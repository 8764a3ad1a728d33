"""A reference is followed, and changed as it was taught."""

from collections.abc import Callable

from mode_check import Verdict


def test_a2a_learns_what_becomes_of_a_reference(learn: Callable[..., Verdict]) -> None:
    verdict = learn("a2a")

    assert verdict.problems == []
    assert set(verdict.worse) == {"audio joined"}
