"""events.jsonl, as it is written and as it is taken over by the process that goes on."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ltx_trainer.artifacts import Bundle, LeftOut, Render
from ltx_trainer.config import Settings, settings_as_yaml
from ltx_trainer.errors import DatasetError, Interrupted, OutOfResources, TrainingDiverged
from ltx_trainer.report import Measured, describe_data, describe_result, describe_start, open_events

Metrics = Callable[..., Measured]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def told(folder: Path) -> list[tuple[str, int | None]]:
    return [(line["event"], line.get("step")) for line in lines_of(folder)]


def test_a_line_is_there_as_soon_as_it_is_told(tmp_path: Path, make_metrics: Metrics) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        before = datetime.now(UTC)
        events.add_step(make_metrics(1, memory_bytes=5, skipped=2))

        (line,) = lines_of(tmp_path)

    assert abs((datetime.fromisoformat(line.pop("time")) - before).total_seconds()) < 60
    assert line == {
        "event": "step",
        "step": 1,
        "clips": ["a", "b"],
        "losses": {"loss": 1.5, "loss/video": 1.0, "loss/audio": 0.5},
        "loss_by_sigma": {"video 0.50-0.75": 1.0, "audio 0.50-0.75": 0.5},
        "learning_rate": 2e-4,
        "grad_norm": 0.25,
        "seconds": 2.0,
        "memory_bytes": 5,
        "skipped": 2,
    }


def test_times_are_in_utc(tmp_path: Path) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        events.add_event({"event": "checkpoint", "step": 1})

    assert lines_of(tmp_path)[0]["time"].endswith("+00:00")


def test_a_number_that_is_not_finite_is_text_that_reads_as_it(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), float("-inf")]

    with open_events(tmp_path, start=0, enabled=True) as events:
        events.add_event({"event": "skipped", "step": 1, "grad_norm": values[0], "losses": {"video": values}})

    text = (tmp_path / "events.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert line["grad_norm"] == "NaN"
    assert list(map(repr, map(float, line["losses"]["video"]))) == ["nan", "inf", "-inf"]


def test_files_of_the_run_are_named_from_its_folder(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "lora.safetensors"
    items = (run / "previews/step-000002/item-1.mp4",)

    with open_events(run, start=0, enabled=True) as events:
        events.add_render(Render(2, items, joined=run / "previews/step-000002/all.mp4"))
        events.add_event(describe_result(Bundle(elsewhere, run / "config.json", None, None, None)))

    preview, done = lines_of(run)
    assert preview["files"] == ["previews/step-000002/item-1.mp4"]
    assert preview["joined"] == "previews/step-000002/all.mp4"
    assert done["files"] == [str(elsewhere), "config.json"]


def test_the_start_tells_the_digest_of_the_settings_and_how_many_work(load: Callable[..., Settings]) -> None:
    settings = load()

    event = describe_start(settings, step=4, processes=2)

    assert event["settings"] == sha256(settings_as_yaml(settings).encode()).hexdigest()
    assert (event["step"], event["processes"]) == (4, 2)


def test_the_data_is_told_in_numbers(tmp_path: Path) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        events.add_event(describe_data(7, 1, [LeftOut("a", "is empty")] * 3, with_audio=True))

    line = lines_of(tmp_path)[0]
    assert (line["clips"], line["held_out"], line["left_out"], line["with_audio"]) == (7, 1, 3, True)


def test_a_run_that_was_killed_and_goes_on_tells_every_step_once(
    tmp_path: Path, make_metrics: Metrics, held_out: Mapping[str, Any]
) -> None:
    """Killed at every point after its checkpoint of step 2, it ends with the lines of a run that was not."""

    def go(folder: Path, start: int, stop_after: int | None = None) -> None:
        tell: list[Callable[[], None]] = []
        with open_events(folder, start=start, enabled=True) as events:
            for step in range(start, 5):
                if step > start:
                    tell.append(lambda step=step: events.add_event({"event": "skipped", "step": step - 1}))
                    tell.append(lambda step=step: events.add_event({"event": "skipped", "step": step - 1}))
                    tell.append(lambda step=step: events.add_step(make_metrics(step)))
                    tell.append(lambda step=step: events.add_event({"event": "checkpoint", "step": step}))
                if step % 2 == 0:
                    tell.append(lambda step=step: events.add_event({**held_out, "step": step}))
                    tell.append(lambda step=step: events.add_render(Render(step, (), joined=folder / "all.mp4")))
            for do in tell[:stop_after]:
                do()

    go(tmp_path / "whole", 0)
    num_lines = len(lines_of(tmp_path / "whole"))
    reached = told(tmp_path / "whole").index(("checkpoint", 2)) + 1
    for stop_after in range(reached, num_lines):
        folder = tmp_path / f"stopped-{stop_after}"
        go(folder, 0, stop_after)
        go(folder, 2)
        assert told(folder) == told(tmp_path / "whole"), f"stopped after line {stop_after}"


def test_a_run_that_begins_anew_has_a_file_of_its_own(tmp_path: Path, make_metrics: Metrics) -> None:
    for _ in range(2):
        with open_events(tmp_path, start=0, enabled=True) as events:
            events.add_event({"event": "started", "step": 0})
            events.add_event({"event": "held_out", "step": 0})
            events.add_step(make_metrics(1))

    assert told(tmp_path) == [("started", 0), ("held_out", 0), ("step", 1)]


def test_what_is_told_of_a_process_stays_when_its_steps_are_taken_again(tmp_path: Path, make_metrics: Metrics) -> None:
    def run_until_stopped(start: int) -> None:
        with open_events(tmp_path, start=start, enabled=True) as events:
            events.add_event({"event": "started", "step": start})
            for step in range(start + 1, 4):
                events.add_step(make_metrics(step))
            raise Interrupted(15)

    for start in (0, 2, 1):
        with pytest.raises(Interrupted, match="signal 15"):
            run_until_stopped(start)

    assert told(tmp_path) == [
        ("started", 0),
        ("step", 1),
        ("stopped", None),
        ("started", 2),
        ("stopped", None),
        ("started", 1),
        ("step", 2),
        ("step", 3),
        ("stopped", None),
    ]


def test_lines_that_stay_are_not_changed(tmp_path: Path, make_metrics: Metrics) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        events.add_event({"event": "skipped", "step": 0, "clips": ["größe\udcff"], "sigma": 0.1 + 0.2, "norm": 1e-07})
        events.add_step(make_metrics(3))
    first = (tmp_path / "events.jsonl").read_bytes().splitlines()[0]

    with open_events(tmp_path, start=2, enabled=True):
        pass

    assert (tmp_path / "events.jsonl").read_bytes() == first + b"\n"


def test_a_last_line_that_was_cut_is_gone(
    tmp_path: Path, make_metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        events.add_step(make_metrics(1))
        events.add_event({"event": "held_out", "step": 1, "loss": 0.5})
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()

    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_bytes(whole[:-cut])
        with open_events(tmp_path, start=1, enabled=True) as events:
            events.add_event({"event": "held_out", "step": 1, "loss": 0.5})
        assert told(tmp_path) == [("step", 1), ("held_out", 1)]
    assert not caplog.records


def test_a_line_that_was_damaged_is_warned_of(
    tmp_path: Path, make_metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    with open_events(tmp_path, start=0, enabled=True) as events:
        events.add_step(make_metrics(1))
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "st\xff\n[]\n{"step": 1}\n' + path.read_bytes())

    with caplog.at_level(logging.WARNING), open_events(tmp_path, start=1, enabled=True):
        pass

    assert told(tmp_path) == [("step", 1)]
    assert "holds 3 damaged lines" in caplog.text


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Interrupted(2), {"event": "stopped", "signal": 2}),
        (DatasetError("no clips"), {"event": "failed", "code": 2, "message": "no clips"}),
        (TrainingDiverged("step 3"), {"event": "failed", "code": 3, "message": "step 3"}),
        (KeyError(), {"event": "failed", "code": 1, "message": "KeyError"}),
    ],
)
def test_what_ends_a_run_is_the_last_line(tmp_path: Path, error: BaseException, line: dict[str, Any]) -> None:
    with suppress(type(error)), open_events(tmp_path, start=0, enabled=True):
        raise error

    (last,) = lines_of(tmp_path)
    assert {name: value for name, value in last.items() if name != "time"} == line


def test_other_processes_write_nothing(tmp_path: Path, make_metrics: Metrics) -> None:
    with suppress(DatasetError), open_events(tmp_path / "run", start=0, enabled=False) as events:
        events.add_step(make_metrics(1))
        raise DatasetError("no clips")

    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(64)

    def fill() -> None:
        with open_events(folder, start=0, enabled=True) as events:
            for step in range(10_000):
                events.add_event({"event": "checkpoint", "step": step, "path": "x" * 500})

    with pytest.raises(OutOfResources, match=r"No space left .* while writing events.jsonl"):
        fill()

    assert len(lines_of(folder)) > 10
    assert (folder / "events.jsonl").read_bytes().endswith(b"}\n")


def test_reports_need_no_torch() -> None:
    program = "import sys; import ltx_trainer.report; sys.exit('torch' in sys.modules or 'wandb' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
