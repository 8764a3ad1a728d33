"""LoRAs learn on the miniature what was asked for, by the whole road: some of the proofs of `scripts/mode_check.py`.

Data, seeds and noise levels are fixed and printed. A LoRA is judged on examples that it was not trained on, by its
previews and by the loss of the published file.
"""

from pathlib import Path

import pytest
from mode_check import LESSONS, NUM_STEPS, check
from rich.console import Console


@pytest.mark.parametrize("name", ["t2v", "i2v", "v2v", "v2a"])
def test_a_mode_learns_its_lesson_and_reads_what_it_is_given(name: str, trained_folder: Path, tmp_path: Path) -> None:
    lesson = next(lesson for lesson in LESSONS if lesson.mode.name == name)

    verdict = check(lesson, trained_folder, tmp_path, NUM_STEPS, None)

    Console().print(verdict)
    assert verdict.problems == []
    assert bool(verdict.worse) == (name != "t2v")
