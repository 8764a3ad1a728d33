"""The machine-readable ends of a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from ltx_trainer.artifacts import (
    Bundle,
    Clip,
    Finding,
    FindingKind,
    LeftOut,
    MediaKind,
    PictureFacts,
    Role,
    SoundFacts,
    SourceFacts,
)
from ltx_trainer.geometry import FrameSize
from ltx_trainer.report import write_record, write_result, write_status
from ltx_trainer.survey import Advice, AdviceKind, Glance, Glimpse, LookAlikes, Overlap, Survey, Waveform


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


def test_the_record_says_what_is_trained_on_exactly(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    record = read(write_record(tmp_path, make_survey(make_clip("a", "a größe ball"))))

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
        "advice": [],
    }


def test_the_record_names_what_is_given_by_its_role(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    clip, mask = make_clip("a", ""), make_clip("a_mask", "")
    other = replace(
        clip,
        footage={**clip.footage, Role.MASK: mask.footage[Role.TARGET]},
        soundtrack={Role.TARGET: mask.soundtrack[Role.TARGET]},
        ranges=((Fraction(1, 8), Fraction(1, 4)),),
    )
    rectangle = {"condition": "kept rectangle", "top_left": [32, 0]}

    record = read(write_record(tmp_path, replace(make_survey(other), conditions=(rectangle,))))

    assert record["conditions"] == [rectangle]
    (found,) = record["trained_on"]
    assert found["file"] == "a.mp4"
    assert found["given"]["mask"]["file"] == found["sound"]["file"] == "a_mask.mp4"
    assert found["generated_seconds"] == [[0.125, 0.25]]


def test_the_record_of_sound_alone_names_its_file(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    clip = replace(make_clip("a", ""), footage={})

    (found,) = read(write_record(tmp_path, make_survey(clip)))["trained_on"]

    assert found == {
        "name": "a",
        "caption": "",
        "file": "a.mp4",
        "sha256": "0" * 64,
        "start_seconds": 0.25,
        "span_seconds": 0.5,
        "sound_gain": 2.0,
    }


def test_the_record_says_what_is_left_out_and_why(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    still = make_clip("b", "", num_frames=1, kind=MediaKind.IMAGE, gain=None)

    survey = replace(make_survey(still), left_out=(LeftOut("a", "is empty: 0 bytes."),), with_audio=False)

    record = read(write_record(tmp_path, survey))

    assert record["left_out"] == [{"name": "a", "reason": "is empty: 0 bytes."}]
    assert "sound_gain" not in record["trained_on"][0]


def test_the_record_marks_clips_that_are_only_measured_on(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    survey = make_survey(make_clip("a", ""), make_clip("b", ""))
    one, other = survey.clips

    record = read(write_record(tmp_path, replace(survey, clips=(one, replace(other, held_out=True)))))

    assert [(clip["name"], clip.get("held_out")) for clip in record["trained_on"]] == [("a", None), ("b", True)]


def test_the_record_says_what_a_file_was_and_what_a_look_at_it_told(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    survey = make_survey(make_clip("a", ""))
    facts = SourceFacts(
        PictureFacts(FrameSize(1920, 1080), 300, Fraction(1001, 100)), SoundFacts(44100, 1, Fraction(10), -23.5, 0.5)
    )
    glimpse = Glimpse({Role.TARGET: Glance((b"",), (), 0.25, 0.5, 0.125)}, {Role.TARGET: Waveform((0, 100))}, "is odd.")
    seen = replace(survey.clips[0], sources={"0" * 64: facts}, glimpse=glimpse)

    (found,) = read(write_record(tmp_path, replace(survey, clips=(seen,))))["trained_on"]

    assert found["source"] == {
        "size": "1920x1080",
        "num_frames": 300,
        "duration_seconds": 10.01,
        "frame_rate": 29.97,
        "sound_seconds": 10.0,
        "sound_rate_hz": 44100,
        "channels": 1,
        "loudness_lufs": -23.5,
    }
    assert found["seen"] == {
        "cut_off": 0.125,
        "moving": 0.25,
        "motion_cut_off": 0.5,
        "silent": 0.5,
        "problem": "is odd.",
    }


def test_the_record_says_what_the_report_says(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    survey = replace(
        make_survey(make_clip("a", "")),
        advice=(Advice(AdviceKind.ENLARGED, "It is.", ("a",)), Advice(AdviceKind.SILENCE, "It is too.")),
        findings=(
            Finding(FindingKind.PAUSES, "a.mp4", "It is silent.", {"seconds": 2.0}, (), ((Fraction(1), Fraction(3)),)),
        ),
        look_alikes=(LookAlikes(("a", "b"), 1.5, same_bytes=False),),
        overlaps=(Overlap(0, Role.START, "x.png", ("a",), same_bytes=True),),
    )

    record = read(write_record(tmp_path, survey))

    assert record["advice"] == [
        {"kind": "enlarged", "sentence": "It is.", "clips": ["a"]},
        {"kind": "silence", "sentence": "It is too."},
    ]
    assert record["found"] == [
        {"kind": "pauses", "file": "a.mp4", "sentence": "It is silent.", "seconds": 2.0, "ranges": [[1.0, 3.0]]}
    ]
    assert record["near_duplicates"] == [{"clips": ["a", "b"], "bits_apart": 1.5, "same_bytes": False}]
    assert record["validation_in_training"] == [
        {"item": 0, "role": "start", "file": "x.png", "clips": ["a"], "same_bytes": True}
    ]


def test_a_name_that_is_no_text_is_written_as_its_escape(
    tmp_path: Path, make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]
) -> None:
    (clip,) = read(write_record(tmp_path, make_survey(make_clip("a\udcff", ""))))["trained_on"]

    assert clip["name"] == "a\udcff"
