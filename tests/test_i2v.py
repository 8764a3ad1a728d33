"""Image to video from the command line: clips and an image go in, a LoRA and a preview of the image come out."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from safetensors import safe_open

Command = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = """
endpoint: fal-ai/ltx23-trainer-v2/i2v
input:
  training_data_url: {archive}
  rank: 8
  number_of_steps: 2
  number_of_frames: 9
  resolution: low
  with_audio: true
  first_frame_conditioning_p: 0.75
  validation: [{{prompt: a clip, image_url: {image}}}]
  validation_number_of_frames: 9
  validation_resolution: low
model: {{base: {base}}}
validation: {{steps: 2, interval: null}}
paths: {{output: {folder}/out, cache: {folder}/cache}}
"""


@pytest.fixture(scope="module")
def output(
    tmp_path_factory: pytest.TempPathFactory, command: Command, clip_archive: Path, miniature_folder: Path
) -> Path:
    """The output of a whole run."""
    folder = tmp_path_factory.mktemp("i2v")
    image, config = folder / "first.png", folder / "run.yaml"
    Image.new("RGB", (80, 64), "orange").save(image)
    config.write_text(CONFIG.format(archive=clip_archive, image=image, base=miniature_folder, folder=folder))
    ended = command("run", config)
    assert ended.returncode == 0, ended.stderr
    return folder / "out"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_the_run_ends_with_the_hosted_result(output: Path) -> None:
    assert read(output / "status.json") == {"code": 0, "message": "done"}
    assert set(read(output / "result.json")) == {"lora_file", "config_file", "video"}


def test_the_lora_is_one_of_i2v_with_sound(output: Path) -> None:
    with safe_open(output / "lora.safetensors", "pt") as lora:
        keys, metadata = set(lora.keys()), lora.metadata()

    assert "diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight" in keys
    assert "diffusion_model.transformer_blocks.0.video_to_audio_attn.to_out.0.lora_B.weight" in keys
    assert (metadata["mode"], metadata["with_audio"], metadata["steps"]) == ("i2v", "true", "2")


def test_the_config_says_that_the_first_frame_was_given_and_how_often(output: Path) -> None:
    assert read(output / "config.json")["conditions"] == [{"condition": "first frame", "share": 0.75}]


def test_there_are_previews_with_sound_before_and_after(output: Path) -> None:
    assert sorted(path.name for path in (output / "previews").iterdir()) == ["step-000000", "step-000002"]
    for path in (output / "previews").rglob("*.mp4"):
        with av.open(path) as container:
            assert container.streams.video[0].frames == 9
            # What is given is a picture.
            assert len(container.streams.audio) == (path.name != "input-1.mp4")
