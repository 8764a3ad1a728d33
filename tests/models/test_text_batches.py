"""Which texts are read together."""

import pytest

from ltx_trainer.models.text_batches import asked_of, batches_by_length


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TEXTS", 3)
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TOKENS", 12)


NUM_TOKENS = {"g": 20, "f": 6, "e": 6, "d": 5, "b": 1, "c": 4, "a": 1, "": 1}


def test_texts_of_like_length_are_read_together_within_the_budget() -> None:
    """At most three texts; at most twelve tokens, each text counted as long as the longest."""
    assert batches_by_length(NUM_TOKENS) == [("", "a", "b"), ("c", "d"), ("e", "f"), ("g",)]


def test_the_order_in_which_texts_come_does_not_matter() -> None:
    assert batches_by_length(dict(reversed(NUM_TOKENS.items()))) == batches_by_length(NUM_TOKENS)


def test_no_texts_are_no_batches() -> None:
    assert batches_by_length({}) == []


def test_a_text_is_asked_once_and_in_its_place() -> None:
    assert list(asked_of("cabc", None)) == ["c", "a", "b"]
    assert list(asked_of("cabc", ["b", "c"])) == ["c", "b"]
    with pytest.raises(AssertionError, match="among the texts"):
        asked_of("ab", ["z"])
