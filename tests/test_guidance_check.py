"""What is said of the guidances while they are sampled, and how one is compared with none."""

import sys
from collections.abc import Iterator

import guidance_check
import numpy as np
import pytest
from transformers.utils import logging as transformers_logging


@pytest.fixture
def loud_library() -> Iterator[None]:
    """Let the model library say all that it does by itself, and as much as before in the end."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_warning()
    transformers_logging.enable_propagation()
    transformers_logging.enable_progress_bar()
    yield
    transformers_logging.set_verbosity(verbosity)
    transformers_logging.disable_propagation()
    if not bars:
        transformers_logging.disable_progress_bar()


def test_a_difference_is_that_of_the_clips_that_can_be_read_both_times() -> None:
    nan = float("nan")
    unguided = np.array([1.0, 2.0, nan, 4.0, 8.0])
    found = np.array([2.0, 2.0, 9.0, nan, 10.0])

    # Differences of 1, 0 and 2: mean 1, standard deviation 1.
    assert guidance_check.summary(found, unguided) == ("5.750", "4 of 5", "+1.000 ± 0.577", "3")
    assert guidance_check.summary(unguided, unguided) == ("3.750", "4 of 5", "-", "-")
    assert guidance_check.summary(np.array([nan, 1.0]), np.array([1.0, 3.0])) == ("1.000", "1 of 2", "-", "1")
    assert guidance_check.summary(np.array([nan]), np.array([1.0])) == ("-", "0 of 1", "-", "0")


@pytest.mark.usefixtures("loud_library")
def test_each_guidance_is_told_as_it_is_done_and_what_is_loaded_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["guidance_check.py", "--clips", "1", "--steps", "1"])

    guidance_check.main()

    told = capsys.readouterr()
    names = [line.split(":")[0] for line in told.out.splitlines() if "1 clips in" in line]
    assert names == ["none", "classifier-free", "STG", "modality", "all, rescaled"]
    assert "Loading weights" not in told.err
    assert [record.message for record in caplog.records if record.name.startswith("transformers")] == []
