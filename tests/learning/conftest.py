"""LoRAs learn on the miniature what was asked for, by the whole road: some of the proofs of `scripts/mode_check.py`.

Data, seeds and noise levels are fixed and printed. A LoRA is judged on examples that it was not trained on, by its
previews and by the loss of the published file. Each mode is a file of its own, so that they are learned side by side.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from mode_check import LESSONS, NUM_JUDGED, NUM_STEPS, Changes, Verdict, check
from rich.console import Console

BRIEFLY = {"input": {"stg_scale": 0}, "validation": {"steps": 10, "modality": 1}}
"""Previews by classifier-free guidance alone, which is enough for what is given; a word needs all guidance."""


@pytest.fixture
def learn(trained_folder: Path, tmp_path: Path) -> Callable[..., Verdict]:
    """Give a function that teaches a mode, and gives what was learned."""

    def run(name: str, sampling: Changes = BRIEFLY, judged: int = NUM_JUDGED) -> Verdict:
        lesson = next(lesson for lesson in LESSONS if lesson.name == name)
        verdict = check(lesson, trained_folder, tmp_path, NUM_STEPS, None, sampling, judged)
        Console().print(verdict)
        return verdict

    return run
