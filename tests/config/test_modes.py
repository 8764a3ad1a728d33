"""What a request of each mode may hold: fields, defaults, limits and validation items."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ltx_trainer.config import (
    PreviewItem,
    Request,
    Settings,
    default_of,
    load_settings,
    request_fields,
    settings_as_yaml,
)
from ltx_trainer.errors import ConfigError
from ltx_trainer.modes import ALIASES, ENDPOINT, MODES, Mode, find_mode

Load = Callable[..., Settings]
NAMED = {mode.name: mode.endpoint for mode in MODES}
REQUIRED = {"crop_top_left": [32, 64], "crop_bottom_right": [96, 128]}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Give a function that loads a request with these fields."""

    def load(mode: str, **fields: Any) -> Settings:
        body = {"training_data_url": "clips.zip", **fields}
        path = tmp_path / "run.yaml"
        path.write_text(json.dumps({"endpoint": NAMED.get(mode, ENDPOINT + mode), "input": body}))
        return load_settings(path)

    return load


def required_of(mode: Mode) -> dict[str, Any]:
    return {name: REQUIRED[name] for name in mode.required_fields}


def item_of(mode: Mode, *, optional: bool = False) -> dict[str, Any]:
    named = [field.name for field in mode.item_fields if field.required or optional]
    return {"prompt": "a fox", **{name: [[1.0, 2.0]] if name == "time_ranges" else f"{name}.bin" for name in named}}


def test_the_table_and_the_request_name_the_same_fields() -> None:
    in_table = {name for mode in MODES for name in mode.fields | mode.defaults.keys()}
    in_items = {field.name for mode in MODES for field in mode.item_fields}

    assert in_table <= Request.model_fields.keys()
    assert in_items | {"prompt"} == PreviewItem.model_fields.keys()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_request_of_each_mode_has_its_defaults_and_comes_back_equal(mode: Mode, load: Load, tmp_path: Path) -> None:
    settings = load(mode.name, **required_of(mode), validation=[item_of(mode)])

    optional = [name for name in request_fields(mode) if name not in {"training_data_url", "validation", *REQUIRED}]
    assert {name: getattr(settings.input, name) for name in optional} == {
        name: mode.defaults.get(name, Request.model_fields[name].default) for name in optional
    }
    saved = tmp_path / "saved.yaml"
    saved.write_text(settings_as_yaml(settings))
    assert load_settings(saved) == settings


@pytest.mark.parametrize(
    ("mode", "field", "default"),
    [
        ("v2v", "number_of_steps", 3000),
        ("v2v", "first_frame_conditioning_p", 0.1),
        ("i2v", "first_frame_conditioning_p", 0.5),
        ("v2v-masked", "number_of_steps", 3000),
        ("inpaint", "split_input_into_scenes", False),
        ("outpaint", "split_input_into_scenes", True),
        ("interpolate", "include_middle_keyframe", False),
        ("extend-prefix", "conditioning_frames", 9),
        ("extend-suffix", "conditioning_frames", 8),
        ("extend-suffix", "with_audio", False),
        ("t2v", "with_audio", None),
        ("t2a", "audio_duration_seconds", 5.0),
        ("audio-extend-prefix", "conditioning_seconds", 1.0),
        ("av2av", "reference_temporal_scale_factor", 1),
        ("av2av", "number_of_steps", 2000),
    ],
)
def test_defaults_are_those_of_the_hosted_pages(mode: str, field: str, default: object) -> None:
    assert default_of(find_mode(ENDPOINT + mode), field) == default


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.rpartition("/")[2])
def test_an_older_endpoint_is_the_same_mode_and_is_kept_as_it_was_written(load: Load, alias: str) -> None:
    settings = load(alias.removeprefix(ENDPOINT))

    assert settings.mode.name == alias.rpartition("/")[2]
    assert settings.endpoint == alias
    assert f"endpoint: {alias}" in settings_as_yaml(settings)


@pytest.mark.parametrize(
    ("mode", "fields", "answer"),
    [
        ("extend-prefix", {"conditioning_frames": 10}, r"conditioning_frames 10 .* 8 \* k \+ 1\. Nearest: 9 or 17"),
        ("extend-prefix", {"conditioning_frames": 8}, r"does not fit extend-prefix.* Nearest: 9 or 17"),
        ("extend-prefix", {"conditioning_frames": 89}, r"less than input\.number_of_frames 89.*; 81 works"),
        ("extend-prefix", {"number_of_frames": 9}, r"less than input\.number_of_frames 9.* number_of_frames 17 works"),
        ("extend-prefix", {"conditioning_frames": 122}, r"conditioning_frames = 122: .* less than or equal to 121"),
        ("extend-suffix", {"conditioning_frames": 9}, r"8 \* k\. Nearest: 8 or 16"),
        ("extend-suffix", {"conditioning_frames": 121}, r"Nearest: 112 or 120"),
        ("extend-suffix", {"conditioning_frames": 7}, r"greater than or equal to 8"),
        ("extend-suffix", {"number_of_frames": 1}, r"less than input\.number_of_frames 1.* number_of_frames 9 works"),
        (
            "audio-extend-prefix",
            {"conditioning_seconds": 5},
            r"less than input\.audio_duration_seconds 5, .* 2\.5 works",
        ),
        ("audio-extend-suffix", {"audio_duration_seconds": 0.5}, r"conditioning_seconds 1 must be less than .* 0\.5, "),
        ("audio-extend-suffix", {"conditioning_seconds": 31}, r"less than or equal to 30"),
        ("t2a", {"audio_duration_seconds": 61}, r"less than or equal to 60"),
        ("t2a", {"with_audio": True}, r"with_audio is not a field of .*/t2a; it is one of t2v, i2v, "),
        ("v2a", {"audio_normalize": True}, r"audio_normalize is not a field of .*/v2a"),
        ("v2v", {"reference_downscale_factor": 9}, r"less than or equal to 8"),
        ("v2v", {"reference_temporal_scale_factor": 0}, r"greater than or equal to 1"),
        ("outpaint", {"crop_top_left": [0, 0]}, r"crop_bottom_right is missing, which outpaint needs: `\[x, y\]`"),
        ("outpaint", {"crop_top_left": [-1, 0]}, r"crop_top_left\.0 = -1: .* greater than or equal to 0"),
        ("outpaint", {"crop_top_left": [1, 2, 3]}, r"at most 2 items"),
    ],
)
def test_a_field_outside_its_mode_or_limit_is_refused_with_what_would_work(
    load: Load, mode: str, fields: dict[str, Any], answer: str
) -> None:
    with pytest.raises(ConfigError, match=answer):
        load(mode, **fields)


def test_previews_are_longer_than_what_is_given_of_them(load: Load) -> None:
    long = {"number_of_frames": 121, "conditioning_frames": 97}
    item = item_of(find_mode(f"{ENDPOINT}extend-prefix"))

    assert load("extend-prefix", **long).input.conditioning_frames == 97
    with pytest.raises(ConfigError, match=r"97 must be less than input\.validation_number_of_frames 89.*; 81 works"):
        load("extend-prefix", **long, validation=[item])


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_an_item_of_another_type_is_refused_and_its_type_is_named(mode: Mode, load: Load) -> None:
    types = {other.name: (item_of(other), item_of(other, optional=True)) for other in MODES}
    of_family = [types[other.name] for other in MODES if other.family == mode.family]
    num_refused = 0
    for name, items in types.items():
        if items == types[mode.name] or items[0] in types[mode.name]:
            continue
        if find_mode(NAMED[name]).family != mode.family and any(items[0] in own for own in of_family):
            continue
        num_refused += 1
        with pytest.raises(ConfigError, match=rf"validation\.0: .*is an item of (.* or )?{name}( or |\.)"):
            load(mode.name, **required_of(mode), validation=[items[0]])
    assert num_refused > 10


def test_every_item_needs_the_middle_keyframe_where_it_is_given_and_has_none_where_not(load: Load) -> None:
    mode = find_mode(f"{ENDPOINT}interpolate")
    without, with_middle = item_of(mode), item_of(mode, optional=True)

    assert load("interpolate", include_middle_keyframe=True, validation=[with_middle]).input.validation
    with pytest.raises(
        ConfigError, match=r"validation\.1: middle_image_url is missing, which .*include_middle_keyframe"
    ):
        load("interpolate", include_middle_keyframe=True, validation=[with_middle, without])
    with pytest.raises(
        ConfigError, match=r"middle_image_url has no meaning without .*include_middle_keyframe: true\.$"
    ):
        load("interpolate", validation=[with_middle])


@pytest.mark.parametrize("name", ["time_ranges", "mask_ranges", "ranges"])
def test_time_ranges_go_by_three_names_and_are_exact(load: Load, name: str) -> None:
    (item,) = load(
        "audio-inpaint", validation=[{"prompt": "a", "audio_url": "b.wav", name: [[3, 4.5], [0.1, 1]]}]
    ).input.validation

    assert item.time_ranges == ((0.1, 1.0), (3.0, 4.5))
    assert item.exact_ranges == ((Fraction(1, 10), Fraction(1)), (Fraction(3), Fraction(9, 2)))


@pytest.mark.parametrize(
    ("ranges", "answer"),
    [
        ([], r"is empty, and at least one range is needed"),
        ([[2, 1]], r"\[2\.0, 1\.0\] ends before it begins; \[1\.0, 2\.0\] would work"),
        ([[1, 3], [2, 4]], r"overlap"),
        ("1-2", r"is no list of \[begin, end\] in seconds"),
    ],
)
def test_wrong_time_ranges_are_refused_by_the_item(load: Load, ranges: object, answer: str) -> None:
    with pytest.raises(ConfigError, match=rf"input\.validation\.0\.time_ranges = .*{answer}"):
        load("audio-inpaint", validation=[{"prompt": "a", "audio_url": "b.wav", "time_ranges": ranges}])


def test_a_null_in_an_item_is_a_field_that_is_not_given(load: Load) -> None:
    item = {"prompt": "a", "reference_video_url": "b.mp4", "reference_audio_url": None, "time_ranges": None}

    assert load("av2av", validation=[item]).input.validation[0].exact_ranges == ()


@pytest.mark.parametrize(
    ("mode", "with_audio", "targets"),
    [
        ("v2v", False, ("attn1", "attn2", "ff")),
        ("inpaint", False, ("attn1", "attn2")),
        ("extend-prefix", False, ("attn1", "attn2")),
        ("v2a", True, ("audio_attn1", "audio_attn2", "audio_ff", "video_to_audio_attn")),
        ("audio-inpaint", True, ("audio_attn1", "audio_attn2", "audio_ff")),
    ],
)
def test_targets_are_those_of_the_mode_unless_the_settings_say_otherwise(
    load: Load, tmp_path: Path, mode: str, with_audio: bool, targets: tuple[str, ...]
) -> None:
    assert load(mode).lora_targets(with_audio=with_audio) == targets
    own = load_settings(tmp_path / "run.yaml", overrides=["lora.targets=[attn1]"])
    assert own.lora_targets(with_audio=with_audio) == ("attn1",)
