import re
from pathlib import Path

import pytest
import yaml

from ltx_trainer.config import default_of, load_settings, settings_as_yaml
from ltx_trainer.errors import ConfigError
from ltx_trainer.modes import EITHER, MODES, SOUNDS, STILLS, VIDEOS

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
FOLDERS = {"ltx-2.3": "ltx23", "ltx-video": "ltx-video"}
"""Of the shipped configs, by model family."""
SHOWN = [path for path in CONFIGS if path.parent.name in FOLDERS.values()]
T2V = "endpoint: fal-ai/ltx23-trainer-v2/t2v\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(T2V + "input: {training_data_url: clips.zip}\n")
    return path


def test_every_mode_has_a_config_that_shows_its_fields_and_items() -> None:
    modes = {(FOLDERS[mode.family], mode.name.rpartition("/")[2]): mode for mode in MODES}
    configs = {(path.parent.name, path.stem): path for path in SHOWN}

    assert configs.keys() == modes.keys()
    for name, path in configs.items():
        mode = modes[name]
        assert load_settings(path).mode is mode
        written = yaml.safe_load(path.read_text())["input"]
        assert mode.fields | (mode.defaults.keys() - mode.lacks) <= written.keys()
        (item,) = written["validation"]
        assert {field.name for field in mode.item_fields if field.required} | {"prompt"} == item.keys()


def test_a_shipped_config_lists_the_extensions_that_are_taken() -> None:
    kinds = [VIDEOS - EITHER, STILLS, SOUNDS]
    listed = {path: re.findall(r"\.\w+(?:/\.\w+)+", path.read_text()) for path in SHOWN}

    assert all(listed.values())
    for path, lists in listed.items():
        assert [extensions for extensions in lists if set(extensions.split("/")) not in kinds] == [], path


def test_a_shipped_config_has_the_defaults_of_its_mode() -> None:
    for path in SHOWN:
        request, mode = load_settings(path).input, load_settings(path).mode
        own = (mode.fields | mode.defaults.keys()) - set(mode.required_fields)
        assert {name: getattr(request, name) for name in own} == {name: default_of(mode, name) for name in own}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_loads_and_comes_back_equal(path: Path, tmp_path: Path) -> None:
    settings = load_settings(path)
    saved = tmp_path / "saved.yaml"

    saved.write_text(settings_as_yaml(settings))

    assert load_settings(saved) == settings


def test_a_body_of_the_hosted_service_takes_the_place_of_the_input(config: Path, tmp_path: Path) -> None:
    body = tmp_path / "request.json"
    body.write_text(
        '{"training_data_url": "other.zip", "rank": "16", "number_of_steps": 100, "with_audio": null, '
        '"debug_dataset": false, "validation": [{"prompt": "a fox"}], "validation_resolution": "low"}'
    )

    request = load_settings(config, request=body).input

    assert (request.training_data_url, request.rank, request.number_of_steps) == ("other.zip", 16, 100)
    assert request.validation[0].prompt == "a fox"


def test_defaults_are_those_of_the_hosted_page(config: Path) -> None:
    request = load_settings(config).input

    assert (request.rank, request.number_of_steps, request.learning_rate) == (32, 2000, 2e-4)
    assert (request.number_of_frames, request.frame_rate) == (89, 24)
    assert (request.resolution, request.validation_resolution, request.aspect_ratio) == ("medium", "high", "1:1")
    assert request.with_audio is None
    assert request.validation_negative_prompt.startswith("blurry, out of focus")
    assert request.validation_negative_prompt.endswith("stylized filters, or AI artifacts.")


def test_overrides_are_applied_last_and_read_as_yaml(config: Path) -> None:
    settings = load_settings(
        config, overrides=["training.seed=7", "optimizer.betas=[0.9, 0.95]", "input.aspect_ratio=16:9"]
    )

    assert settings.training.seed == 7
    assert settings.optimizer.betas == (0.9, 0.95)
    assert settings.input.aspect_ratio == "16:9"


def test_an_aspect_ratio_without_quotes_is_not_a_sexagesimal_number(config: Path) -> None:
    config.write_text(T2V + "input:\n  training_data_url: clips.zip\n  aspect_ratio: 9:16\n  learning_rate: 1e-4\n")

    assert load_settings(config).input.aspect_ratio == "9:16"
    assert load_settings(config).input.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("training.sede=7", r"training\.sede is not a setting\. Did you mean training\.seed\?"),
        ("input.number_of_frames=90", r"90 frames do not fit .* Nearest: 89 or 97"),
        ("input.rank=7", r"input\.rank = 7: Input should be 8, 16, 32, 64 or 128"),
        ("input.resolution=huge", r"input\.resolution = 'huge': Input should be 'low', 'medium' or 'high'"),
        ("input.learning_rate=2", r"less than or equal to 1"),
        ("input.stg_scale=-1", r"greater than or equal to 0"),
        ("input.first_frame_conditioning_p=0.5", r"not a field of fal-ai/ltx23-trainer-v2/t2v"),
        ("endpoint=fal-ai/ltx23-trainer-v2/tv2", r"Did you mean fal-ai/ltx23-trainer-v2/"),
        ("optimizer.warmup_steps=2000", r"must be less than input\.number_of_steps 2000"),
        ("version=99.0.0", r"written by a newer release; this is .* Install 99\.0\.0 or newer"),
        ("version=soon", r"is not a version, such as 0\.1\.0"),
        ("optimizer={name: schedule_free, schedule: cosine}", r"exclude each other; constant works"),
        ("optimizer={name: schedule_free, betas: [0.0, 0.9]}", r"schedule_free cannot average with; 0\.9 works"),
        ("training.audio_loss_weight=0", r"training\.audio_loss_weight = 0: Input should be greater than 0"),
        ("optimizer.name=prodigy", r"input\.learning_rate .* is a factor on the rate that prodigy finds; 1 works"),
        ("data.incomplete=maybe", r"Input should be 'refuse' or 'skip'"),
        ("data={scene_detector: hash, scene_threshold: 27}", r"scene_threshold 27 is more than 1, the most that hash"),
        ("input.validation=[{prompt: a, image_url: b.png}]", r"image_url has no meaning in t2v"),
        ("input.validation=[{promt: a}]", r"Did you mean input\.validation\.0\.prompt\?"),
        ("endpoint.name=x", r"endpoint is a value, not a section"),
        ("nonsense", r"is not dotted\.key=value"),
        ("input.rank={", r"is not written correctly"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_work(config: Path, override: str, answer: str) -> None:
    with pytest.raises(ConfigError, match=answer):
        load_settings(config, overrides=[override])


def test_an_item_of_i2v_needs_its_image(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"image_url is missing; an item of i2v has prompt and image_url"):
        load_settings(config, overrides=["endpoint=fal-ai/ltx23-trainer-v2/i2v", "input.validation=[{prompt: a fox}]"])


def test_all_problems_are_told_at_once(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)input\.rank.*input\.frame_rate.*training\.batch_size"):
        load_settings(config, overrides=["input.rank=7", "input.frame_rate=1", "training.batch_size=0"])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("input: {a: 1, a: 2}", r"'a' is given twice"),
        ("- 1", r"holds a list, not settings by name"),
        ("input: [", r"is not written correctly"),
        ("input: {training_data_url: a.zip}", r"endpoint is required"),
        (T2V + "input: {}", r"input\.training_data_url is required"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, answer: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=answer):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_a_wrong_field_of_a_body_is_told_with_its_file(config: Path, tmp_path: Path) -> None:
    body = tmp_path / "request.json"
    body.write_text('{"training_data_url": "clips.zip", "rank": 7}')

    with pytest.raises(ConfigError, match=r"run\.yaml with .*request\.json as its input:\n  input\.rank = 7"):
        load_settings(config, request=body)


def test_a_hosted_body_keeps_the_hosted_leniency_unless_the_file_says_otherwise(config: Path, tmp_path: Path) -> None:
    body = tmp_path / "request.json"
    body.write_text('{"training_data_url": "clips.zip"}')

    hosted = load_settings(config, request=body)
    strict = load_settings(config, request=body, overrides=["data.incomplete=refuse", "data.max_left_out=0.1"])

    assert (load_settings(config).data.max_left_out, load_settings(config).data.incomplete) == (0.5, "refuse")
    assert (hosted.data.max_left_out, hosted.data.incomplete) == (1.0, "skip")
    assert (strict.data.max_left_out, strict.data.incomplete) == (0.1, "refuse")


def test_an_average_beside_schedule_free_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"ema_decay and optimizer\.name schedule_free exclude each other"):
        load_settings(config, overrides=["optimizer.name=schedule_free", "training.ema_decay=0.9"])


def test_windows_are_not_spread_over_what_is_scaled_in_time(config: Path) -> None:
    both = ["data.windows=spread", "input.auto_scale_input=true"]
    with pytest.raises(ConfigError, match=r"data\.windows spread and input\.auto_scale_input exclude .*; first works"):
        load_settings(config, overrides=both)
