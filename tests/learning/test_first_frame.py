"""A given first frame goes on as it was taught."""

from collections.abc import Callable

from mode_check import Verdict


def test_i2v_learns_what_becomes_of_a_first_frame(learn: Callable[..., Verdict]) -> None:
    verdict = learn("i2v", judged=6)

    assert verdict.problems == []
    assert set(verdict.worse) == {"video kept"}
