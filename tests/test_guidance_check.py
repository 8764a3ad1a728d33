"""What is said of the guidances while they are sampled, and how one is compared with none."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import guidance_check
import numpy as np
import pytest
from guidance_check import UNGUIDED
from transformers.utils import logging as transformers_logging

from ltx_trainer.diffusion import GuidanceScales

OWN = {
    "video": GuidanceScales(cfg=3.0, stg=1.5, modality=2.5, rescale=0.7),
    "audio": GuidanceScales(cfg=7.0, stg=0.5, modality=4.0, rescale=0.6),
}
FAMILY = SimpleNamespace(sampling=SimpleNamespace(scales=OWN))


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


def test_each_guidance_alone_has_its_own_strength_and_all_have_all() -> None:
    rows = guidance_check.guidances(cast(Any, FAMILY))

    assert list(rows) == ["none", "classifier-free", "STG", "modality", "all, rescaled"]
    for stream, own in OWN.items():
        assert [scales[stream] for scales in rows.values()] == [
            UNGUIDED,
            replace(UNGUIDED, cfg=own.cfg),
            replace(UNGUIDED, stg=own.stg),
            replace(UNGUIDED, modality=own.modality),
            own,
        ]


def test_the_line_of_a_guidance_is_printed_before_the_next_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[list[str]] = []

    def look(*_: object) -> tuple[list[object], list[object]]:
        told.append(re.findall(r"^(.*): 1 clips in", capsys.readouterr().out, re.MULTILINE))
        return [], []

    for name in ("write_miniature", "read_model"):
        monkeypatch.setattr(guidance_check, name, lambda *_: None)
    monkeypatch.setattr(guidance_check, "open_family", lambda _: FAMILY)
    monkeypatch.setattr(guidance_check, "sample_seeds", look)
    monkeypatch.setattr(sys, "argv", ["guidance_check.py", "--clips", "1"])

    guidance_check.main()

    assert told == [[], ["none"], ["classifier-free"], ["STG"], ["modality"]]
    assert "all, rescaled: 1 clips in" in capsys.readouterr().out


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
