"""The machine-readable ends of a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from ltx_trainer.artifacts import Bundle, Clip, LeftOut, MediaKind, Role
from ltx_trainer.report import write_record, write_result, write_status


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "run 1"
    folder.mkdir()
    files = {"lora.safetensors": b"12345", "config.json": b"{}", "all.mp4": b"123", "debug_dataset.zip": b"1234"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    lora, config, video, debug_dataset = (folder / name for name in files)
    return Bundle(lora, config, video, None, debug_dataset)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_the_result_has_the_schema_of_the_hosted_service(bundle: Bundle, tmp_path: Path) -> None:
    result = read(write_result(bundle, tmp_path))

    urls = [unquote(urlparse(file.pop("url")).path) for file in result.values()]
    assert urls == [str(bundle.lora), str(bundle.config), str(bundle.video), str(bundle.debug_dataset)]
    assert result == {
        "lora_file": {
            "content_type": "application/octet-stream",
            "file_name": "lora.safetensors",
            "file_size": 5,
        },
        "config_file": {"content_type": "application/json", "file_name": "config.json", "file_size": 2},
        "video": {"content_type": "video/mp4", "file_name": "all.mp4", "file_size": 3},
        "debug_dataset": {"content_type": "application/zip", "file_name": "debug_dataset.zip", "file_size": 4},
    }


def test_the_result_of_a_mode_that_makes_sound_alone_has_audio(bundle: Bundle, tmp_path: Path) -> None:
    sound = tmp_path / "all.wav"
    sound.write_bytes(b"1")

    result = read(write_result(Bundle(bundle.lora, bundle.config, None, sound, None), tmp_path))

    assert result.keys() == {"lora_file", "config_file", "audio"}
    assert result["audio"]["content_type"] in ("audio/x-wav", "audio/wav")


def test_urls_are_absolute_and_quoted(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.lora.parent)

    result = read(write_result(Bundle(Path("lora.safetensors"), Path("config.json"), None, None, None), tmp_path))

    assert result["lora_file"]["url"] == bundle.lora.as_uri()
    assert result["lora_file"]["url"].startswith("file:///")
    assert "run%201/" in result["lora_file"]["url"]


def test_a_run_without_previews_has_no_video(bundle: Bundle, tmp_path: Path) -> None:
    result = read(write_result(Bundle(bundle.lora, bundle.config, None, None, None), tmp_path))

    assert result.keys() == {"lora_file", "config_file"}


def test_the_status_holds_the_code_and_the_message(tmp_path: Path) -> None:
    path = write_status(tmp_path / "out", code=2, message="größer als [erlaubt]")

    assert path == tmp_path / "out/status.json"
    assert read(path) == {"code": 2, "message": "größer als [erlaubt]"}


def test_the_record_says_what_is_trained_on_exactly(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    record = read(write_record(tmp_path, [make_clip("a", "a größe ball")], [], with_audio=True))

    assert record == {
        "with_audio": True,
        "trained_on": [
            {
                "name": "a",
                "caption": "a größe ball",
                "file": "a.mp4",
                "sha256": "0" * 64,
                "start_seconds": 0.25,
                "span_seconds": 0.5,
                "num_frames": 17,
                "frame_rate": "24",
                "size": "96x64",
                "sound_gain": 2.0,
            }
        ],
        "left_out": [],
    }


def test_the_record_names_what_is_given_by_its_role(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    clip, mask = make_clip("a", ""), make_clip("a_mask", "")
    other = replace(
        clip,
        footage={**clip.footage, Role.MASK: mask.footage[Role.TARGET]},
        soundtrack={Role.TARGET: mask.soundtrack[Role.TARGET]},
        ranges=((Fraction(1, 8), Fraction(1, 4)),),
    )
    rectangle = {"condition": "kept rectangle", "top_left": [32, 0]}

    record = read(write_record(tmp_path, [other], [], with_audio=True, conditions=[rectangle]))

    assert record["conditions"] == [rectangle]
    (found,) = record["trained_on"]
    assert found["file"] == "a.mp4"
    assert found["given"]["mask"]["file"] == found["sound"]["file"] == "a_mask.mp4"
    assert found["generated_seconds"] == [[0.125, 0.25]]


def test_the_record_of_sound_alone_names_its_file(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    clip = replace(make_clip("a", ""), footage={})

    (found,) = read(write_record(tmp_path, [clip], [], with_audio=True))["trained_on"]

    assert found == {
        "name": "a",
        "caption": "",
        "file": "a.mp4",
        "sha256": "0" * 64,
        "start_seconds": 0.25,
        "span_seconds": 0.5,
        "sound_gain": 2.0,
    }


def test_the_record_says_what_is_left_out_and_why(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    still = make_clip("b", "", num_frames=1, kind=MediaKind.IMAGE, gain=None)

    record = read(write_record(tmp_path, [still], [LeftOut("a", "is empty: 0 bytes.")], with_audio=False))

    assert record["left_out"] == [{"name": "a", "reason": "is empty: 0 bytes."}]
    assert "sound_gain" not in record["trained_on"][0]


def test_the_record_marks_clips_that_are_only_measured_on(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    clips = [make_clip("a", ""), make_clip("b", "")]

    record = read(write_record(tmp_path, clips, [], with_audio=True, held_out=frozenset({"b"})))

    assert [(clip["name"], clip.get("held_out")) for clip in record["trained_on"]] == [("a", None), ("b", True)]
