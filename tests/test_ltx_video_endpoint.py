"""What the LTX-Video trainer would do with an archive: and what it makes of it on its miniature."""

import logging
from collections.abc import Callable
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.console import Console

from ltx_trainer.artifacts import Role
from ltx_trainer.config import load_settings
from ltx_trainer.modes import MODES, Mode
from ltx_trainer.pipeline import Plan, Space, Stage, look, run
from tests.families import BOTH, ENDPOINTS, LTX_VIDEO, ltx_video_only

ENDPOINT = ENDPOINTS[LTX_VIDEO]
Look = Callable[..., Plan]
Inspect = Callable[..., str]


@pytest.fixture
def set_up(
    miniature_folder: Path, tmp_path: Path, write_clip: Any, write_archive: Any
) -> Callable[..., tuple[Any, Space]]:
    """Give a function that sets a run on a clip with sound and an image up."""
    image = tmp_path / "still.png"
    Image.new("RGB", (64, 64), "red").save(image)
    members = {"a.mp4": write_clip(tmp_path / "a.mp4"), "a.txt": "a ball", "b.png": image, "b.txt": "a wall"}
    archive = write_archive(tmp_path / "clips.zip", members)

    def set_up(**fields: object) -> tuple[Any, Space]:
        body = {"training_data_url": str(archive), "number_of_frames": 9, "resolution": "low", **fields}
        config = tmp_path / "run.yaml"
        model = {"base": str(miniature_folder)}
        config.write_text(yaml.safe_dump({"endpoint": ENDPOINT, "input": body, "model": model}))
        return load_settings(config), Space(tmp_path / "out", tmp_path / "cache")

    return set_up


@pytest.fixture
def look_at(set_up: Callable[..., tuple[Any, Space]]) -> Look:
    return lambda **fields: look(*set_up(**fields))


@pytest.fixture
def inspect(set_up: Callable[..., tuple[Any, Space]]) -> Inspect:
    """Give a function that gives what `inspect` prints."""

    def show(**fields: object) -> str:
        text = StringIO()
        run(*set_up(**fields), Stage.INSPECT, Console(file=text, width=200))
        return text.getvalue()

    return show


@ltx_video_only
def test_images_and_videos_with_sound_are_trained_on_together_in_silence(
    look_at: Look, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        plan = look_at(trigger_phrase="TOK")

    assert {clip.name: (clip.caption, clip.footage[Role.TARGET].shape.num_frames) for clip in plan.clips.clips} == {
        "a": ("TOK a ball", 9),
        "b": ("TOK a wall", 1),
    }
    assert not plan.clips.with_audio
    assert plan.left_out == ()
    told = "The run is silent: ltx-video-trainer trains no sound. Tracks that videos have are left alone."
    assert [record.getMessage() for record in caplog.records].count(told) == 1


@ltx_video_only
def test_images_alone_are_trained_on(look_at: Look, write_archive: Any, tmp_path: Path) -> None:
    alone = write_archive(tmp_path / "stills.zip", {"b.png": tmp_path / "still.png"})

    plan = look_at(training_data_url=str(alone))

    assert [clip.footage[Role.TARGET].shape.num_frames for clip in plan.clips.clips] == [1]


@ltx_video_only
def test_clips_and_previews_are_at_the_rate_that_is_asked_for(look_at: Look) -> None:
    plan = look_at(frame_rate=24, validation=[{"prompt": "a fox"}], validation_number_of_frames=17)

    assert plan.terms.shape is not None
    assert plan.terms.shape.frame_rate == 24
    footage = plan.clips.clips[0].footage[Role.TARGET]
    assert (footage.span_seconds, footage.shape.frame_rate) == (Fraction(9, 24), 24)
    (preview,) = plan.previews
    assert preview.shape is not None
    assert (preview.shape.num_frames, preview.shape.frame_rate) == (17, 24)


@ltx_video_only
def test_scaled_videos_become_exactly_the_frame_count_at_16_a_second_and_the_unused_rate_is_told(
    look_at: Look, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        plan = look_at(auto_scale_input=True, number_of_frames=17, frame_rate=25, validation=[{"prompt": "a fox"}])

    footage = plan.clips.clips[0].footage[Role.TARGET]
    assert (footage.span_seconds, footage.shape.num_frames, footage.shape.frame_rate) == (Fraction(12, 24), 17, 16)
    assert plan.previews[0].shape is not None
    assert plan.previews[0].shape.frame_rate == 16
    told = "auto_scale_input makes every video 17 frames at 16 fps in ltx-video-trainer; frame_rate 25 is not used."
    assert [record.getMessage() for record in caplog.records].count(told) == 1


@ltx_video_only
def test_nothing_is_told_of_the_rate_where_it_is_16_or_nothing_is_scaled(
    look_at: Look, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        look_at(auto_scale_input=True, frame_rate=16)
        look_at(frame_rate=25)

    assert "auto_scale_input" not in caplog.text


@ltx_video_only
def test_an_image_of_an_item_stands_in_the_first_frame_and_without_one_nothing_is_given(
    look_at: Look, tmp_path: Path
) -> None:
    without = look_at(validation=[{"prompt": "a fox"}, {"prompt": "an owl"}]).previews
    items = [{"prompt": prompt, "image_url": str(tmp_path / "still.png")} for prompt in ("a fox", "an owl")]
    with_images = look_at(validation=items).previews

    assert [set(preview.footage) for preview in without] == [set(), set()]
    assert [set(preview.footage) for preview in with_images] == [{Role.START}] * 2
    assert {preview.footage[Role.START].shape.num_frames for preview in with_images} == {1}


@ltx_video_only
def test_inspect_says_that_it_is_silent_and_how_often_a_first_frame_is_given(inspect: Inspect) -> None:
    said = inspect(auto_scale_input=True)

    assert "2 clips, silent" in said
    assert "9 frames at 16/s" in said
    assert "given: first frame, share 0.1" in said


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_family_is_one_of_the_two_and_only_one_of_them_has_sound(mode: Mode) -> None:
    assert mode.family in BOTH
    if mode.family == LTX_VIDEO:
        assert mode.audio == "absent"
        assert not [target for target in (*mode.targets, *mode.silent_targets) if "audio" in target]
        assert not [name for name in mode.fields if "audio" in name]
