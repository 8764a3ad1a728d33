"""Clips, runs and screens to report on."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ltx_trainer.artifacts import Clip, Footage, MediaKind, Role, Soundtrack, SourceFile
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.report import Measured
from ltx_trainer.survey import Survey, SurveyedClip
from ltx_trainer.train import StepMetrics


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """Give a function that makes a clip of half a second; files are named, not there."""

    def make(
        name: str, caption: str, *, num_frames: int = 17, kind: MediaKind = MediaKind.VIDEO, gain: float | None = 2.0
    ) -> Clip:
        shape = ClipShape(num_frames, FrameSize(96, 64), Fraction(24))
        source = SourceFile(f"{name}.mp4", Path(f"00001-{name}.mp4"), "0" * 64, kind)
        start, span = Fraction(1, 4), Fraction(1, 2)
        soundtrack = None if gain is None else Soundtrack(source, start, span, span, preserve_pitch=True, gain=gain)
        return Clip(
            name,
            caption,
            {Role.TARGET: Footage(source, start, span, shape)},
            {} if soundtrack is None else {Role.TARGET: soundtrack},
        )

    return make


@pytest.fixture
def make_survey() -> Callable[..., Survey]:
    """Give a function that makes the survey of clips that nothing was seen of."""

    def make(*clips: Clip) -> Survey:
        return Survey(
            title="fal-ai/ltx23-trainer-v2/t2v",
            run="run 1",
            clips=tuple(map(SurveyedClip, clips)),
            left_out=(),
            with_audio=True,
            audio_rate_hz=16000,
            shape=clips[0].shape,
        )

    return make


HELD_OUT = {"event": "held_out", "step": 2, "loss": 0.75, "by_sigma": {"video 0.1": 0.5, "video 0.9": 1.0}}


@pytest.fixture
def held_out() -> Mapping[str, Any]:
    """What a measurement on held-out clips tells."""
    return HELD_OUT


@pytest.fixture
def make_metrics() -> Callable[..., Measured]:
    """Give a function that makes what a step measured."""

    def make(step: int, *, memory_bytes: int = 0, skipped: int = 0, grad_norm: float = 0.25) -> Measured:
        return StepMetrics(
            step=step,
            loss={"loss": 1.5 / step, "loss/video": 1.0 / step, "loss/audio": 0.5 / step},
            loss_by_sigma={"video 0.50-0.75": 1.0 / step, "audio 0.50-0.75": 0.5 / step},
            learning_rate=2e-4,
            grad_norm=grad_norm,
            seconds=2.0,
            memory_bytes=memory_bytes,
            skipped=skipped,
            clips=("a", "b"),
        )

    return make


@pytest.fixture
def written() -> Callable[..., tuple[Console, StringIO]]:
    """Give a function that makes a console, a terminal or a pipe, and the text that it writes."""

    def make(*, terminal: bool, width: int = 80) -> tuple[Console, StringIO]:
        text = StringIO()
        console = Console(file=text, force_terminal=terminal, width=width, color_system=None, legacy_windows=False)
        return console, text

    return make
