"""LoRAs learn on the miniature what was asked for, by the whole road: some of the proofs of `scripts/mode_check.py`.

Data, seeds and noise levels are fixed and printed. A LoRA is judged on examples that it was not trained on, as it
stands in the published file.
"""

from pathlib import Path

import pytest
from mode_check import LESSONS, NUM_STEPS, Verdict, check
from rich.console import Console

PROVED = ("t2v", "i2v", "v2v", "v2a")


@pytest.fixture(scope="module", params=PROVED)
def verdict(request: pytest.FixtureRequest, trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """What a mode learned of its lesson."""
    lesson = next(lesson for lesson in LESSONS if lesson.mode.name == request.param)
    found = check(lesson, trained_folder, tmp_path_factory.mktemp(request.param), NUM_STEPS, None)
    Console().print(found)
    return found


def test_the_loss_falls_on_examples_that_were_not_trained_on(verdict: Verdict) -> None:
    assert verdict.fall >= 0.2


def test_anothers_condition_is_worse_where_one_is_given(verdict: Verdict) -> None:
    assert verdict.worse is None if verdict.mode == "t2v" else (verdict.worse or 0) >= 9


def test_what_is_made_looks_and_sounds_as_it_was_taught_and_did_not_before(verdict: Verdict) -> None:
    before, after = verdict.score

    assert before <= 0.6
    assert after > 0.8
