"""Modes of each kind from the command line, archive to preview: pictures, sound, and sound of given pictures.

Those of LTX-Video are all here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from ltx_trainer.cli import main
from ltx_trainer.media import write_audio
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.models.ltx2 import Ltx2Family
from ltx_trainer.models.ltx_video import LtxVideoFamily
from ltx_trainer.modes import MODES
from tests.conftest import ArchiveWriter, ClipWriter
from tests.families import LTX23, LTX_VIDEO

RATE_HZ = 16000
FRAMES = {
    "number_of_frames": 9,
    "resolution": "low",
    "validation_number_of_frames": 9,
    "validation_resolution": "low",
}


class Case(NamedTuple):
    """A run.

    Attributes:
        mode: Its name.
        suffixes: Of the files of an example, and their extension.
        request: Beside what every run here has.
        field: Of the validation item.
        result: What the result has beside the LoRA and its config.
        files: Of each preview.
        opened: The codecs that it has a use for.
        learned: Modules of each block that the LoRA changes.
    """

    mode: str
    suffixes: tuple[str, ...]
    extension: str
    request: Mapping[str, Any]
    field: str
    result: str
    files: set[str]
    opened: set[str]
    learned: tuple[str, ...]


CASES = [
    Case(
        "v2v",
        ("_start", "_end"),
        ".mp4",
        FRAMES,
        "reference_video_url",
        "video",
        {"all.mp4", "item-1.mp4", "input-1.mp4"},
        {"video"},
        ("attn1", "attn2", "ff"),
    ),
    Case(
        "a2a",
        ("_start", "_end"),
        ".wav",
        {"audio_duration_seconds": 0.5},
        "reference_audio_url",
        "audio",
        {"all.wav", "item-1.wav", "input-1.wav"},
        {"audio"},
        ("audio_attn1", "audio_attn2", "audio_ff"),
    ),
    Case(
        "v2a",
        ("",),
        ".mp4",
        FRAMES,
        "video_url",
        "audio",
        {"all.wav", "item-1.wav", "item-1.mp4"},
        {"video", "audio"},
        ("audio_attn1", "audio_attn2", "audio_ff", "video_to_audio_attn"),
    ),
    Case(
        "ltx-video-trainer",
        ("",),
        ".mp4",
        {**FRAMES, "validation_reverse": True},
        "image_url",
        "video",
        {"all.mp4", "item-1.mp4", "input-1.mp4"},
        {"video"},
        ("attn1", "attn2"),
    ),
    Case(
        "ltx-video/v2v",
        ("_start", "_end"),
        ".mp4",
        FRAMES,
        "reference_video_url",
        "video",
        {"all.mp4", "item-1.mp4", "input-1.mp4"},
        {"video"},
        ("attn1", "attn2", "ff"),
    ),
]
MODE_OF = {mode.name: mode for mode in MODES}
FAMILIES: Mapping[str, type[Family]] = {LTX23: Ltx2Family, LTX_VIDEO: LtxVideoFamily}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, write_clip: ClipWriter) -> dict[str, Path]:
    """Give a file of each extension."""
    folder = tmp_path_factory.mktemp("sources")
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)
    write_audio(folder / "sound.wav", np.tile(tone, (2, 1)).astype(np.float32), RATE_HZ)
    Image.new("RGB", (64, 64), "red").save(folder / "still.png")
    return {".wav": folder / "sound.wav", ".mp4": write_clip(folder / "clip.mp4"), ".png": folder / "still.png"}


@pytest.fixture
def opened(family_name: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give the codecs that were loaded, filled as a run loads them."""
    found: set[str] = set()

    def watch(kind: str, open_codec: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def opening(family: Family, device: torch.device) -> Iterator[VideoCodec | AudioCodec]:
            found.add(kind)
            with open_codec(family, device) as codec:
                yield codec

        return opening

    family_class = FAMILIES[family_name]
    monkeypatch.setattr(family_class, "video_codec", watch("video", family_class.video_codec))
    monkeypatch.setattr(family_class, "audio_codec", watch("audio", family_class.audio_codec))
    return found


@pytest.mark.parametrize(
    ("family_name", "case"),
    [pytest.param(MODE_OF[case.mode].family, case, id=case.mode) for case in CASES],
    indirect=["family_name"],
)
def test_a_mode_goes_from_its_archive_to_its_result_with_its_own_codecs_alone(
    case: Case,
    sources: dict[str, Path],
    opened: set[str],
    write_archive: ArchiveWriter,
    miniature_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = sources[case.extension]
    item = sources[".png"] if case.field == "image_url" else source
    members = {f"fox{suffix}{case.extension}": source for suffix in case.suffixes}
    request = {
        "training_data_url": str(write_archive(tmp_path / "data.zip", {**members, "fox.txt": "a fox"})),
        "rank": 8,
        "number_of_steps": 2,
        "validation": [{"prompt": "a fox", case.field: str(item)}],
        **case.request,
    }
    settings = {
        "endpoint": MODE_OF[case.mode].endpoint,
        "input": request,
        "model": {"base": str(miniature_folder)},
        "validation": {"steps": 2, "interval": None},
        "paths": {"output": str(tmp_path / "out"), "cache": str(tmp_path / "cache")},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr("ltx_trainer.cli.handle_signals", lambda: None)

    code = main(["run", str(tmp_path / "run.yaml")])

    output = tmp_path / "out"
    assert code == 0
    assert opened == case.opened
    result = json.loads((output / "result.json").read_text())
    assert set(result) == {"lora_file", "config_file", case.result}
    assert result[case.result]["file_size"] > 0
    for step in ("step-000000", "step-000002"):
        assert {path.name for path in (output / "previews" / step).iterdir()} == {*case.files, "origin.txt"}
    with safe_open(output / "lora.safetensors", "pt") as lora:
        names = set(lora.keys())
    modules = {name.removeprefix("diffusion_model.transformer_blocks.").split(".")[1] for name in names}
    assert modules == set(case.learned)
