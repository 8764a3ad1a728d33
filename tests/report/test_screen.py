"""What a person sees, in a terminal and in a pipe."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ltx_trainer.artifacts import Bundle, Clip, LeftOut, MediaKind, Role
from ltx_trainer.modes import ALIASES, MODES
from ltx_trainer.report import (
    Measured,
    download_progress,
    show_advice,
    show_data,
    show_modes,
    show_result,
    training_progress,
)
from ltx_trainer.survey import Advice, AdviceKind

Written = Callable[..., tuple[Console, StringIO]]
CAPTION = "a red ball rolls slowly across a long green table while a small bell rings in another room"


def test_a_pipe_gets_each_clip_and_each_reason_in_one_line(written: Written, make_clip: Callable[..., Clip]) -> None:
    console, text = written(terminal=False)
    clips = [make_clip("a", CAPTION), make_clip("longer-name", "a bell")]

    show_data(console, clips, [LeftOut("b", "has 9 frames at 24 fps, 17 are needed")], with_audio=True)

    assert text.getvalue().splitlines() == [
        "2 clips of 17 frames at 24/s, 96x64, with sound",
        "clip         seconds      caption",
        f"a            0.25 - 0.75  {CAPTION}",
        "longer-name  0.25 - 0.75  a bell",
        "1 left out",
        "left out  because",
        "b         has 9 frames at 24 fps, 17 are needed",
    ]


def test_advice_is_a_line_each_and_the_page_is_named(written: Written, tmp_path: Path) -> None:
    console, text = written(terminal=False)

    show_advice(
        console, [Advice(AdviceKind.FEW_CLIPS, "There are few."), Advice(AdviceKind.ENLARGED, "[red]")], tmp_path
    )
    show_advice(console, [], None)

    assert text.getvalue().splitlines() == [
        "advice",
        "of         found",
        "few clips  There are few.",
        "enlarged   [red]",
        f"report   {tmp_path}",
    ]


def test_a_terminal_of_80_columns_shows_every_word(written: Written, make_clip: Callable[..., Clip]) -> None:
    console, text = written(terminal=True)
    reason = "clip.mp4 is damaged and cannot be decoded: Invalid data found when processing input. Export it again."

    show_data(console, [make_clip("a", CAPTION)], [LeftOut("b", reason)], with_audio=False)

    shown = text.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert "1 clips of 17 frames at 24/s, 96x64, silent" in shown
    assert "0.25 - 0.75" in shown
    assert set(f"{CAPTION} {reason}".split()) <= set(shown.split())


def test_a_long_name_is_folded_not_cut(written: Written, make_clip: Callable[..., Clip]) -> None:
    console, text = written(terminal=True, width=60)
    name = "holiday/" + "".join(f"{number:03d}" for number in range(40))

    show_data(console, [make_clip(name, CAPTION)], [LeftOut(name, CAPTION)], with_audio=False)

    column = "".join(line.split()[0] for line in text.getvalue().splitlines() if line.startswith(" ") and line.split())
    assert column.count(name) == 2
    assert "…" not in text.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", ["[red]", "[/]", "clip[1]", ":cat:", "a\\"])
def test_what_looks_like_markup_is_shown_as_it_is(
    written: Written, make_clip: Callable[..., Clip], terminal: bool, name: str
) -> None:
    console, text = written(terminal=terminal)

    show_data(console, [make_clip(name, name)], [LeftOut(name, name)], with_audio=False)

    assert text.getvalue().count(name) == 4


def test_a_caption_of_several_lines_stays_in_one_in_a_pipe(written: Written, make_clip: Callable[..., Clip]) -> None:
    console, text = written(terminal=False)

    show_data(console, [make_clip("a", "a ball\r\na bell\na table")], [], with_audio=False)

    assert text.getvalue().splitlines()[2:] == ["a     0.25 - 0.75  a ball a bell a table"]


def test_lengths_that_differ_stand_with_each_clip(written: Written, make_clip: Callable[..., Clip]) -> None:
    console, text = written(terminal=False)
    still = make_clip("b", "a bell", num_frames=1, kind=MediaKind.IMAGE, gain=None)

    show_data(console, [make_clip("a", "a ball"), still], [], with_audio=False)

    assert text.getvalue().splitlines() == [
        "2 clips, silent",
        "clip  seconds      becomes                   caption",
        "a     0.25 - 0.75  17 frames at 24/s, 96x64  a ball",
        "b     still        1 frame, 96x64            a bell",
    ]


def test_what_is_given_of_every_clip_and_the_files_of_each_are_shown(
    written: Written, make_clip: Callable[..., Clip]
) -> None:
    console, text = written(terminal=False)
    clip, mask = make_clip("a", "a ball"), make_clip("a_mask", "")
    masked = replace(clip, footage={**clip.footage, Role.MASK: mask.footage[Role.TARGET]})
    rectangle = {"condition": "kept rectangle", "top_left": [32, 0], "bottom_right": [64, 64]}

    show_data(console, [masked], [], with_audio=True, conditions=[rectangle])

    assert "mask a_mask.mp4" in text.getvalue()
    assert "given: kept rectangle, top left [32, 0], bottom right [64, 64]" in text.getvalue()


def test_sound_alone_is_told_in_seconds(written: Written, make_clip: Callable[..., Clip]) -> None:
    console, text = written(terminal=False)
    clip = replace(make_clip("a", "a bell"), footage={}, ranges=((Fraction(1, 8), Fraction(1, 4)),))

    show_data(console, [clip], [], with_audio=True)

    assert "1 clips of 0.5 seconds, sound only" in text.getvalue()
    assert "0.25 - 0.75  all but 0.125 - 0.25  a bell" in text.getvalue()


def test_everything_left_out_is_still_listed(written: Written) -> None:
    console, text = written(terminal=False)

    show_data(console, [], [LeftOut("a", "is empty: 0 bytes.")], with_audio=False)

    assert "0 clips, silent" in text.getvalue()
    assert "a         is empty: 0 bytes." in text.getvalue()


def test_training_prints_plain_lines_where_there_is_no_terminal(
    written: Written, make_metrics: Callable[..., Measured]
) -> None:
    console, text = written(terminal=False)

    with training_progress(console, 3, enabled=True) as progress:
        for step in (1, 2, 3):
            progress.add_step(make_metrics(step, memory_bytes=12_300_000_000))

    assert text.getvalue().splitlines() == [
        "step 1/3  loss 1.5000  loss/video 1.0000  loss/audio 0.5000  2.00 s/step  12.3 GB  0:00:04 left",
        "step 2/3  loss 0.7500  loss/video 0.5000  loss/audio 0.2500  2.00 s/step  12.3 GB  0:00:02 left",
        "step 3/3  loss 0.5000  loss/video 0.3333  loss/audio 0.1667  2.00 s/step  12.3 GB  0:00:00 left",
    ]


def test_skipped_batches_and_the_loss_on_held_out_clips_are_shown_when_there_are_any(
    written: Written, make_metrics: Callable[..., Measured], held_out: Mapping[str, Any]
) -> None:
    console, text = written(terminal=False)

    with training_progress(console, 2, enabled=True) as progress:
        progress.add_event({"event": "skipped", "step": 1, "clips": ["a"]})
        progress.add_step(make_metrics(1))
        progress.add_event(held_out)
        progress.add_step(make_metrics(2, skipped=3))

    before, after = text.getvalue().splitlines()
    assert "skipped" not in before
    assert "held out" not in before
    assert after == (
        "step 2/2  loss 0.7500  loss/video 0.5000  loss/audio 0.2500  held out 0.7500  2.00 s/step  3 skipped"
        "  0:00:00 left"
    )


def test_a_long_training_prints_some_of_its_steps_and_always_the_last(
    written: Written, make_metrics: Callable[..., Measured]
) -> None:
    console, text = written(terminal=False)

    with training_progress(console, 105, enabled=True) as progress:
        for step in range(1, 106):
            progress.add_step(make_metrics(step))

    shown = [int(line.split()[1].split("/")[0]) for line in text.getvalue().splitlines()]
    assert shown == [*range(6, 105, 6), 105]
    assert "GB" not in text.getvalue()


def test_a_terminal_shows_a_bar(written: Written, make_metrics: Callable[..., Measured]) -> None:
    console, text = written(terminal=True, width=140)

    with training_progress(console, 3, enabled=True) as progress:
        progress.add_step(make_metrics(2))

    assert "2/3" in text.getvalue()
    assert "loss/video 0.5000" in text.getvalue()
    assert "step 2/3" not in text.getvalue()


def test_other_processes_show_nothing(written: Written, make_metrics: Callable[..., Measured]) -> None:
    console, text = written(terminal=False)

    with training_progress(console, 3, enabled=False) as progress:
        progress.add_step(make_metrics(3))

    assert text.getvalue() == ""


@pytest.mark.parametrize("total", [1_000_000_000, None])
def test_a_download_prints_a_line_now_and_then_where_there_is_no_terminal(written: Written, total: int | None) -> None:
    console, text = written(terminal=False)

    with download_progress(console)("[red]clips.zip", total) as received:
        for _ in range(400):
            received.advance(2_500_000)

    lines = text.getvalue().splitlines()
    interval, whole = (100, " of 1000") if total else (50, "")
    assert lines == [f"[red]clips.zip {count}{whole} MB" for count in range(interval, 1001, interval)]


def test_a_small_download_prints_nothing_where_there_is_no_terminal(written: Written) -> None:
    console, text = written(terminal=False)

    with download_progress(console)("still.png", 3_000_000) as received:
        received.advance(3_000_000)

    assert text.getvalue() == ""


@pytest.mark.parametrize("total", [4_000_000, None])
def test_a_download_is_a_bar_on_a_terminal(written: Written, total: int | None) -> None:
    console, text = written(terminal=True, width=120)

    with download_progress(console)("[red]clips.zip", total) as received:
        received.advance(3_000_000)

    assert "[red]clips.zip" in text.getvalue()
    assert ("3.0/4.0 MB" if total else "3.0/? MB") in text.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_every_mode_is_listed_and_nothing_of_it_is_cut(written: Written, terminal: bool) -> None:
    console, text = written(terminal=terminal)

    show_modes(console)

    shown = text.getvalue()
    words = {word.strip(",;()") for word in shown.split()}
    for mode in MODES:
        items = {item.name for item in mode.item_fields}
        assert {mode.endpoint, f"{mode.name}:", *mode.fields, *mode.defaults, *items, *mode.targets} <= words
        assert {word.strip(",;()") for word in f"{mode.summary} {mode.files}".split()} <= words
    assert ALIASES.keys() <= words
    flat = " ".join(shown.split())
    assert "middle_image_url (image, optional)" in flat
    assert "own fields crop_top_left required, crop_bottom_right required" in flat
    assert "with_audio false, audio_normalize true, audio_preserve_pitch true, conditioning_frames 8" in flat


def test_the_result_says_where_everything_lies(written: Written, tmp_path: Path) -> None:
    console, text = written(terminal=True, width=20)
    folder = tmp_path / "[bold]run:cat:"

    show_result(
        console, Bundle(folder / "lora.safetensors", folder / "config.json", None, None, folder / "debug_dataset.zip")
    )

    assert text.getvalue().splitlines() == [
        f"LoRA     {folder}/lora.safetensors",
        f"config   {folder}/config.json",
        f"data     {folder}/debug_dataset.zip",
    ]
