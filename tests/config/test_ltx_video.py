"""The request of the LTX-Video trainer as its page has it, and what the demo becomes with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltx_trainer.config import Settings, default_of, load_settings, request_fields
from ltx_trainer.errors import ConfigError
from ltx_trainer.modes import find_mode

ENDPOINT = "fal-ai/ltx-video-trainer"
DEMO = Path(__file__).parents[2] / "configs/demo.yaml"
BODY = {
    "training_data_url": "",
    "rank": 128,
    "number_of_steps": 1000,
    "number_of_frames": 81,
    "frame_rate": 25,
    "resolution": "medium",
    "aspect_ratio": "1:1",
    "learning_rate": 0.0002,
    "trigger_phrase": "",
    "auto_scale_input": False,
    "split_input_into_scenes": True,
    "split_input_duration_threshold": 30,
    "validation": [],
    "validation_negative_prompt": "blurry, low quality, bad quality, out of focus",
    "validation_number_of_frames": 81,
    "validation_resolution": "high",
    "validation_aspect_ratio": "1:1",
}
"""The example on the page: every field but `validation_reverse`, with its default."""

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Give a function that loads a body of the hosted service as a user does."""

    def load(body: dict[str, Any], *, endpoint: str = ENDPOINT) -> Settings:
        (tmp_path / "run.yaml").write_text(f"endpoint: {endpoint}\n")
        (tmp_path / "body.json").write_text(json.dumps(body))
        return load_settings(tmp_path / "run.yaml", request=tmp_path / "body.json")

    return load


def items(*images: str | None) -> list[dict[str, str]]:
    return [{"prompt": "a fox"} if image is None else {"prompt": "a fox", "image_url": image} for image in images]


def test_the_fields_are_those_of_the_page_and_the_share_of_first_frames() -> None:
    mode = find_mode(ENDPOINT)

    assert {*request_fields(mode)} == {*BODY, "validation_reverse", "first_frame_conditioning_p"}
    defaults = {name: default_of(mode, name) for name in BODY if name != "training_data_url"}
    assert defaults == {name: value for name, value in BODY.items() if name != "training_data_url"} | {"validation": ()}
    assert default_of(mode, "validation_reverse") is False
    assert default_of(mode, "first_frame_conditioning_p") == 0.1


def test_the_body_of_the_page_is_taken_unchanged_once_it_names_its_data(load: Load) -> None:
    settings = load({**BODY, "training_data_url": "clips.zip"})

    given = settings.input.model_dump(include=set(BODY))
    assert given == {**BODY, "training_data_url": "clips.zip", "validation": ()}
    assert settings.mode.family == "ltx-video"
    assert (settings.input.stg_scale, settings.input.validation_frame_rate) == (None, None)


@pytest.mark.parametrize("url", ["", "  "])
def test_a_body_that_names_no_data_is_told_what_it_may_name(load: Load, url: str) -> None:
    with pytest.raises(ConfigError, match=r"training_data_url = '\s*': is empty; give a path, .* or a base64 data URI"):
        load({**BODY, "training_data_url": url})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("with_audio", False),
        ("audio_normalize", True),
        ("audio_preserve_pitch", True),
        ("debug_dataset", False),
        ("validation_frame_rate", 25),
        ("stg_scale", 1.0),
        ("reference_downscale_factor", 1),
    ],
)
def test_a_field_of_the_other_endpoint_is_refused_with_the_modes_that_have_it(
    load: Load, field: str, value: object
) -> None:
    having = "v2v" if field.startswith("reference") else "t2v"
    with pytest.raises(ConfigError, match=rf"input\.{field} is not a field of {ENDPOINT}; it is one of .*\b{having}\b"):
        load({**BODY, "training_data_url": "clips.zip", field: value})


def test_a_field_of_this_endpoint_is_refused_by_the_others(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"validation_reverse is not a field of .*/t2v; it is one of ltx-video-tr"):
        load({"training_data_url": "a", "validation_reverse": False}, endpoint="fal-ai/ltx23-trainer-v2/t2v")


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("rank", 12, "8, 16, 32, 64 or 128"),
        ("resolution", "huge", "'low', 'medium' or 'high'"),
        ("validation_aspect_ratio", "4:3", "'16:9', '1:1' or '9:16'"),
        ("number_of_frames", 80, "Nearest: 73 or 81"),
        ("validation", [{"prompt": ""}], "at least 1 character"),
        ("validation", [{"prompt": "a", "image_url": ""}], "image_url = '': is empty"),
        ("validation", [{"image_url": "a.png"}], r"validation\.0\.prompt is required"),
    ],
)
def test_a_value_outside_of_the_page_is_refused(load: Load, field: str, value: object, answer: str) -> None:
    with pytest.raises(ConfigError, match=answer):
        load({**BODY, "training_data_url": "clips.zip", field: value})


@pytest.mark.parametrize("images", [(), (None,), ("a.png",), (None, None), ("a.png", "b.png")])
def test_all_items_have_an_image_or_none(load: Load, images: tuple[str | None, ...]) -> None:
    settings = load({"training_data_url": "clips.zip", "validation": items(*images)})

    assert [item.image_url for item in settings.input.validation] == list(images)


@pytest.mark.parametrize(("images", "lacking", "having"), [(("a.png", None), 1, 0), ((None, None, "a.png"), 0, 2)])
def test_an_image_that_not_all_items_have_is_refused(
    load: Load, images: tuple[str | None, ...], lacking: int, having: int
) -> None:
    answer = rf"validation\.{lacking}: image_url is missing, which input\.validation\.{having} has; all .*, or none"
    with pytest.raises(ConfigError, match=answer):
        load({"training_data_url": "clips.zip", "validation": items(*images)})


def test_an_item_of_a_reference_is_told_the_mode_of_the_same_model_that_takes_it(load: Load) -> None:
    item = {"prompt": "a fox", "reference_video_url": "a.mp4"}

    with pytest.raises(ConfigError, match=r"has prompt, and may have image_url\. As .* is an item of ltx-video/v2v\.$"):
        load({"training_data_url": "clips.zip", "validation": [item]})
    with pytest.raises(ConfigError, match=r"As it stands it is an item of ltx-video-trainer\.$"):
        load({"training_data_url": "clips.zip", "validation": items("a.png")}, endpoint="ltx-video/v2v")


@pytest.mark.parametrize(
    ("endpoint", "fields", "rates"),
    [
        (ENDPOINT, {}, (25, 25)),
        (ENDPOINT, {"frame_rate": 30}, (30, 30)),
        (ENDPOINT, {"auto_scale_input": True, "frame_rate": 30}, (16, 16)),
        ("ltx-video/v2v", {"auto_scale_input": True, "frame_rate": 30}, (30, 30)),
        ("ltx-video/v2v", {"validation_frame_rate": 24}, (25, 24)),
        ("fal-ai/ltx23-trainer-v2/t2v", {"auto_scale_input": True, "frame_rate": 30}, (30, 24)),
    ],
)
def test_scaled_clips_of_the_trainer_have_16_frames_a_second_and_its_previews_the_rate_of_the_clips(
    load: Load, endpoint: str, fields: dict[str, object], rates: tuple[int, int]
) -> None:
    settings = load({"training_data_url": "clips.zip", **fields}, endpoint=endpoint)

    assert (settings.clip_rate, settings.preview_rate) == rates


def test_the_engines_own_mode_is_that_of_a_reference_with_the_same_defaults() -> None:
    mode, trainer = find_mode("ltx-video/v2v"), find_mode(ENDPOINT)

    shared = [name for name in request_fields(trainer) if name not in ("training_data_url", "number_of_steps")]
    assert {name: default_of(mode, name) for name in shared} == {name: default_of(trainer, name) for name in shared}
    assert [default_of(mode, name) for name in ("number_of_steps", "debug_dataset", "stg_scale")] == [2000, False, None]
    assert default_of(mode, "reference_downscale_factor") == default_of(mode, "reference_temporal_scale_factor") == 1
    assert (mode.silent_targets, trainer.silent_targets) == (("attn1", "attn2", "ff"), ("attn1", "attn2"))


def test_the_endpoint_alone_turns_the_demo_into_a_run_of_the_other_family() -> None:
    here = load_settings(DEMO)
    there = load_settings(DEMO, overrides=[f"endpoint={ENDPOINT}"])

    assert (here.mode.family, there.mode.family) == ("ltx-2.3", "ltx-video")
    given = here.input.model_dump(include=here.input.model_fields_set)
    assert there.input.model_dump(include=set(given)) == given
    assert here.preview_rate == there.preview_rate == 24
    others = [name for name in Settings.model_fields if name not in ("endpoint", "input")]
    assert {name: getattr(there, name) for name in others} == {name: getattr(here, name) for name in others}


@pytest.mark.parametrize(
    ("endpoint", "scale"), [(ENDPOINT, None), ("ltx-video/v2v", None), ("fal-ai/ltx23-trainer-v2/t2v", 1.0)]
)
def test_null_is_the_default_of_the_mode_and_no_field_that_it_lacks(
    load: Load, endpoint: str, scale: float | None
) -> None:
    assert load({"training_data_url": "clips.zip", "stg_scale": None}, endpoint=endpoint).input.stg_scale == scale
