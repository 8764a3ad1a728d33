"""The public path of wrong inputs of the modes: the example or field and the rule in the message, and nothing left."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from ltx_trainer.cli import main
from ltx_trainer.media import write_audio
from tests.conftest import ArchiveWriter, ClipWriter
from tests.test_refusals import half_written

RATE_HZ = 16000
CLIP, SILENT, LONG, PICTURE, SOUND = "clip.mp4", "silent.mp4", "long.mp4", "picture.png", "sound.wav"
"""Half a second, as long without sound, one and a quarter seconds, a still, and one second of sound."""


class Case(NamedTuple):
    """A wrong run.

    Attributes:
        mode: Its name.
        files: Of the archive: the name in it, and which of the fixture's files it is, or its text.
        fields: Of the request; a file of the fixture by its name.
        says: What the message must hold.
    """

    mode: str
    files: Mapping[str, str]
    fields: Mapping[str, Any]
    says: tuple[str, ...]


PAIR = {"fox_start.mp4": CLIP, "fox_end.mp4": CLIP}
HEARD = {"fox.wav": SOUND}
MASKED = {"fox.mp4": CLIP, "fox_mask.png": PICTURE}
SHORT_SOUND = {"audio_duration_seconds": 0.8}
LONG_CLIPS = {"number_of_frames": 25, "validation_number_of_frames": 25}


def item(**fields: Any) -> dict[str, Any]:
    return {"validation": [{"prompt": "a fox", **fields}]}


CASES = {
    "no end": Case(
        "v2v",
        {**PAIR, "owl_start.mp4": CLIP},
        {},
        ("owl_start.mp4: is the reference of owl, which lacks owl_end", "data.incomplete: skip"),
    ),
    "no start": Case(
        "a2a",
        {"fox_start.wav": SOUND, "fox_end.wav": SOUND, "owl_end.wav": SOUND},
        SHORT_SOUND,
        ("owl_end.wav: is the target of owl, which lacks owl_start",),
    ),
    "an orphan mask": Case(
        "inpaint",
        {**MASKED, "owl_mask.png": PICTURE},
        {},
        ("owl_mask.png: is the mask of owl, which lacks owl (.avi/.gif/.mkv/.mov/.mp4/.webm/.webp)",),
    ),
    "a clip without a mask": Case(
        "inpaint", {**MASKED, "owl.mp4": CLIP}, {}, ("owl.mp4: is the target of owl, which lacks owl_mask",)
    ),
    "an orphan mask beside a reference": Case(
        "av2av-masked",
        {**PAIR, "fox_mask.png": PICTURE, "owl_mask.png": PICTURE},
        {},
        ("owl_mask.png: is the mask of owl, which lacks owl_start", "owl_end"),
    ),
    "no ranges": Case("audio-inpaint", {**HEARD, "fox_mask.json": "[]"}, SHORT_SOUND, ("'fox_mask.json': is empty",)),
    "an empty range": Case(
        "audio-inpaint",
        {**HEARD, "fox_mask.json": "[[0.3, 0.3]]"},
        SHORT_SOUND,
        ("'fox_mask.json': [0.3, 0.3] is empty; a range ends after it begins",),
    ),
    "a reversed range": Case(
        "audio-inpaint",
        {**HEARD, "fox_mask.json": "[[0.1, 0.2], [0.6, 0.4]]"},
        SHORT_SOUND,
        ("'fox_mask.json': [0.6, 0.4] ends before it begins; [0.4, 0.6] would work",),
    ),
    "a range outside the clip": Case(
        "audio-inpaint",
        {**HEARD, "fox_mask.json": "[[0.5, 3.0]]"},
        SHORT_SOUND,
        ("fox: the range [0.5, 3] is not inside the sound, which goes from 0 to 1 s",),
    ),
    "a rectangle without a whole cell": Case(
        "outpaint",
        {"fox.mp4": CLIP},
        {"crop_top_left": [1, 0], "crop_bottom_right": [7, 32]},
        ("the kept rectangle from [1, 0] to [7, 32] holds no whole cell of",),
    ),
    "a rectangle that ends before it begins": Case(
        "outpaint",
        {"fox.mp4": CLIP},
        {"crop_top_left": [32, 0], "crop_bottom_right": [16, 32]},
        ("the kept rectangle from [32, 0] to [16, 32] is not inside the",),
    ),
    "10 frames of a prefix": Case(
        "extend-prefix",
        {"fox.mp4": LONG},
        {**LONG_CLIPS, "conditioning_frames": 10},
        ("conditioning_frames", "8 * k + 1", "Nearest: 9 or 17"),
    ),
    "9 frames of a suffix": Case(
        "extend-suffix",
        {"fox.mp4": LONG},
        {**LONG_CLIPS, "conditioning_frames": 9},
        ("conditioning_frames", "8 * k", "Nearest: 8 or 16"),
    ),
    "all frames as a prefix": Case(
        "extend-prefix",
        {"fox.mp4": CLIP},
        {"conditioning_frames": 9},
        ("input.conditioning_frames 9 must be less than input.number_of_frames 9", "number_of_frames 17 works"),
    ),
    "more frames than the preview has": Case(
        "extend-prefix",
        {"fox.mp4": LONG},
        {"number_of_frames": 25, "conditioning_frames": 17, **item(video_url=LONG)},
        (
            "input.conditioning_frames 17 must be less than input.validation_number_of_frames 9",
            "validation_number_of_frames 25 works",
        ),
    ),
    "all seconds as a prefix": Case(
        "audio-extend-prefix",
        HEARD,
        {"audio_duration_seconds": 0.8, "conditioning_seconds": 0.8},
        ("conditioning_seconds", "0.8", "less than"),
    ),
    **{
        f"an image for {mode}": Case(
            mode,
            {"fox.mp4": CLIP, "owl.png": PICTURE},
            fields,
            (f"{mode} trains on videos only; 'owl.png' is an image",),
        )
        for mode, fields in {
            "outpaint": {"crop_top_left": [0, 0], "crop_bottom_right": [16, 32]},
            "interpolate": {},
            "extend-prefix": LONG_CLIPS,
            "extend-suffix": LONG_CLIPS,
            "v2a": {},
        }.items()
    },
    "an image as an end": Case(
        "v2v",
        {**PAIR, "owl_start.mp4": CLIP, "owl_end.png": PICTURE},
        {},
        ("'owl_end.png' is an image, and the target of an example of v2v is a video",),
    ),
    "an image as a reference": Case(
        "av2av",
        {**PAIR, "owl_start.png": PICTURE, "owl_end.mp4": CLIP},
        {},
        ("'owl_start.png' is an image, and the reference of an example of av2av is a video",),
    ),
    "an image to be extended": Case(
        "extend-prefix",
        {"fox.mp4": LONG},
        {**LONG_CLIPS, **item(video_url=PICTURE)},
        ("input.validation.0.video_url", PICTURE, "image"),
    ),
    "a video shorter than its prefix": Case(
        "extend-prefix",
        {"fox.mp4": LONG},
        {**LONG_CLIPS, "conditioning_frames": 17, **item(video_url=CLIP)},
        ("input.validation.0.video_url", CLIP, "12 frames", "17"),
    ),
    "a video shorter than its suffix": Case(
        "extend-suffix",
        {"fox.mp4": LONG},
        {**LONG_CLIPS, "conditioning_frames": 16, **item(video_url=CLIP)},
        ("input.validation.0.video_url", CLIP, "12 frames", "16"),
    ),
    "a sound shorter than its suffix": Case(
        "audio-extend-suffix",
        HEARD,
        {"audio_duration_seconds": 0.8, "conditioning_seconds": 0.7, **item(audio_url=CLIP)},
        ("input.validation.0.audio_url", CLIP, "0.5", "0.7"),
    ),
    "a sound shorter than its prefix": Case(
        "audio-extend-prefix",
        HEARD,
        {"audio_duration_seconds": 0.8, "conditioning_seconds": 0.7, **item(audio_url=CLIP)},
        ("input.validation.0.audio_url", CLIP, "0.5", "0.7"),
    ),
    "an item of i2v": Case(
        "v2v",
        PAIR,
        item(image_url=PICTURE),
        ("input.validation.0: reference_video_url is missing", "it is an item of i2v"),
    ),
    "an item of v2v": Case("t2a", HEARD, {**SHORT_SOUND, **item(reference_video_url=CLIP)}, ("reference_video_url",)),
    "an item of text alone": Case("v2a", {"fox.mp4": CLIP}, item(), ("input.validation.0", "video_url")),
    "a silent start": Case(
        "av2av", {**PAIR, "owl_start.mp4": SILENT, "owl_end.mp4": CLIP}, {}, ("owl_start.mp4", "sound")
    ),
    "a silent end": Case("av2av", {**PAIR, "owl_start.mp4": CLIP, "owl_end.mp4": SILENT}, {}, ("owl_end.mp4", "sound")),
    "a silent reference of an item": Case(
        "av2av", PAIR, item(reference_video_url=SILENT), ("input.validation.0", SILENT, "no audio track")
    ),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, write_clip: ClipWriter) -> dict[str, Path]:
    """Give the files of all cases by their names."""
    folder = tmp_path_factory.mktemp("sources")
    write_clip(folder / CLIP)
    write_clip(folder / SILENT, with_sound=False)
    write_clip(folder / LONG, num_frames=30)
    Image.new("RGB", (64, 64), "red").save(folder / PICTURE)
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)
    write_audio(folder / SOUND, np.tile(tone, (2, 1)).astype(np.float32), RATE_HZ)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_run_is_refused_by_the_example_and_the_rule_and_leaves_nothing_half_done(
    case: Case,
    sources: dict[str, Path],
    miniature_folder: Path,
    write_archive: ArchiveWriter,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    members: dict[str, str | bytes | Path] = {name: sources.get(file, file) for name, file in case.files.items()}
    archive = write_archive(tmp_path_factory.mktemp("zip") / "data.zip", members)
    request = {
        "training_data_url": str(archive),
        "number_of_frames": 9,
        "validation_number_of_frames": 9,
        "resolution": "low",
        "validation_resolution": "low",
        **case.fields,
    }
    text = yaml.safe_dump(
        {
            "endpoint": f"fal-ai/ltx23-trainer-v2/{case.mode}",
            "input": request,
            "model": {"base": str(miniature_folder)},
            "paths": {"output": str(tmp_path / "out"), "cache": str(tmp_path / "cache")},
        }
    )
    config = tmp_path / "run.yaml"
    config.write_text(text)
    monkeypatch.chdir(next(iter(sources.values())).parent)
    monkeypatch.setattr("ltx_trainer.cli.handle_signals", lambda: None)

    code = main(["run", str(config)])

    said = capsys.readouterr().err
    *_, message = said.split("error: ")
    assert code == 2, said
    assert [part for part in case.says if part not in message] == [], message
    assert half_written(tmp_path) == []
    assert json.loads((tmp_path / "out/status.json").read_text())["code"] == 2
