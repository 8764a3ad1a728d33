"""One list of logs, all of which are told the same."""

import json
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from ltx_trainer.artifacts import Render
from ltx_trainer.report import Logs, Measured, open_events, training_progress


def test_every_log_is_told_of_steps_events_and_previews(
    tmp_path: Path,
    written: Callable[..., tuple[Console, StringIO]],
    make_metrics: Callable[..., Measured],
    held_out: Mapping[str, Any],
) -> None:
    console, text = written(terminal=False)
    folders = (tmp_path / "one", tmp_path / "two")

    with (
        open_events(folders[0], start=0, enabled=True) as one,
        open_events(folders[1], start=0, enabled=True) as two,
        training_progress(console, 3, enabled=True) as progress,
    ):
        logs = Logs(one, two, progress)
        logs.add_event(held_out)
        logs.add_step(make_metrics(3))
        logs.add_render(Render(3, (), joined=tmp_path / "all.mp4"))

    for folder in folders:
        lines = (folder / "events.jsonl").read_text().splitlines()
        assert [json.loads(line)["event"] for line in lines] == ["held_out", "step", "preview"]
    assert "held out 0.7500" in text.getvalue()


def test_a_preview_that_is_found_done_is_told_once(tmp_path: Path) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        logs = Logs(events)
        for step in (0, 4, 4):
            logs.add_render(Render(step, (), joined=tmp_path / "all.mp4"))

    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 4]
