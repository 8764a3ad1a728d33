"""The event files of TensorBoard, read back."""

import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ltx_trainer.artifacts import Render
from ltx_trainer.media import write_audio
from ltx_trainer.report import Measured
from ltx_trainer.report.board import FRAMES_IN_A_STRIP, open_board


def events_in(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


def test_losses_and_rates_stand_at_their_steps(tmp_path: Path, make_metrics: Callable[..., Measured]) -> None:
    with open_board(tmp_path, start=0, enabled=True) as board:
        for step in (1, 2):
            board.add_step(make_metrics(step))

    events = events_in(tmp_path)
    assert set(events.Tags()["scalars"]) == {
        "loss",
        "loss/video",
        "loss/audio",
        "loss_by_sigma/video/0.50-0.75",
        "loss_by_sigma/audio/0.50-0.75",
        "learning_rate",
        "gradient_norm",
        "seconds_a_step",
        "skipped",
    }
    assert [(event.step, event.value) for event in events.Scalars("loss/video")] == [(1, 1.0), (2, 0.5)]
    assert [event.value for event in events.Scalars("learning_rate")] == pytest.approx([2e-4, 2e-4])


def test_losses_on_held_out_clips_stand_at_their_step(tmp_path: Path, held_out: Mapping[str, Any]) -> None:
    with open_board(tmp_path, start=0, enabled=True) as board:
        board.add_event(held_out)
        board.add_event({"event": "checkpoint", "step": 2, "path": tmp_path})

    events = events_in(tmp_path)
    curves = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert curves == {
        "held_out/loss": [(2, 0.75)],
        "held_out/video/0.1": [(2, 0.5)],
        "held_out/video/0.9": [(2, 1.0)],
    }


def test_a_continued_run_hides_the_steps_that_it_takes_again(
    tmp_path: Path, make_metrics: Callable[..., Measured]
) -> None:
    for start, steps in ((0, (1, 2, 3)), (1, (2,))):
        with open_board(tmp_path, start=start, enabled=True) as board:
            for step in steps:
                board.add_step(make_metrics(step))
        # Event files are ordered by the second that they were opened in.
        time.sleep(1.1)

    assert [event.step for event in events_in(tmp_path).Scalars("loss")] == [1, 2]


def test_a_preview_of_sound_is_heard(tmp_path: Path) -> None:
    item = tmp_path / "item-1.wav"
    write_audio(item, np.full((2, 2400), 0.5, np.float32), 24000)

    with open_board(tmp_path / "board", start=0, enabled=True) as board:
        board.add_render(Render(30, (item,), joined=item))

    (sound,) = events_in(tmp_path / "board").Audio("preview/1")
    assert (sound.step, sound.sample_rate, sound.length_frames) == (30, 24000, 2400)


@pytest.mark.parametrize(("num_frames", "num_shown"), [(12, FRAMES_IN_A_STRIP), (3, 3)])
def test_a_preview_is_a_strip_of_its_frames_from_first_to_last(
    tmp_path: Path, write_clip: Any, num_frames: int, num_shown: int
) -> None:
    items = tuple(write_clip(tmp_path / f"item-{seed}.mp4", seed=seed, num_frames=num_frames) for seed in (0, 3))

    with open_board(tmp_path / "board", start=0, enabled=True) as board:
        board.add_render(Render(30, items, joined=items[0]))

    events = events_in(tmp_path / "board")
    assert events.Tags()["images"] == ["preview/1", "preview/2"]
    ((dark,), (bright,)) = (events.Images(name) for name in ("preview/1", "preview/2"))
    assert dark.step == bright.step == 30
    dark_strip, bright_strip = (np.asarray(Image.open(BytesIO(event.encoded_image_string))) for event in (dark, bright))
    assert dark_strip.shape == (64, 64 * num_shown, 3)
    # Each item is 40 levels brighter than the one before it.
    assert bright_strip.mean() - dark_strip.mean() == pytest.approx(120, abs=3)
    # The gradient drifts to the left by 3 columns a frame.
    first, last = dark_strip[32, :64, 0], dark_strip[32, -64:, 0]
    assert 64 - int(last.argmin()) == pytest.approx(3 * (num_frames - 1), abs=6)
    assert int(first.argmin()) <= 6 or int(first.argmin()) >= 58


def test_other_processes_write_nothing(
    tmp_path: Path, write_clip: Any, make_metrics: Callable[..., Measured], held_out: Mapping[str, Any]
) -> None:
    item = write_clip(tmp_path / "item.mp4")

    with open_board(tmp_path / "board", start=0, enabled=False) as board:
        board.add_step(make_metrics(1))
        board.add_event(held_out)
        board.add_render(Render(0, (item,), joined=item))

    assert not (tmp_path / "board").exists()


def test_a_run_that_fails_leaves_what_it_wrote(tmp_path: Path, make_metrics: Callable[..., Measured]) -> None:
    def fail() -> None:
        with open_board(tmp_path, start=0, enabled=True) as board:
            board.add_step(make_metrics(1))
            raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        fail()

    assert [event.step for event in events_in(tmp_path).Scalars("loss")] == [1]
