"""A run of two processes on a CPU, started by the launcher as a user does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CONFIG = """
endpoint: fal-ai/ltx23-trainer-v2/t2v
input:
  training_data_url: {archive}
  rank: 8
  number_of_steps: 3
  number_of_frames: 9
  resolution: low
  validation: [{{prompt: a clip}}]
  validation_number_of_frames: 9
  validation_resolution: low
model: {{base: {base}}}
lora: {{dropout: 0.3}}
training: {{checkpoint_interval: 2, accumulation: 2, caption_dropout: 0.5}}
validation: {{steps: 2, interval: null}}
paths: {{cache: {folder}/cache}}
"""
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ltx_trainer")

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, clip_archive: Path, miniature_folder: Path) -> Launch:
    """Go to a stage in two processes, with the output in a folder of one's own."""
    folder = tmp_path_factory.mktemp("processes")
    config = folder / "run.yaml"
    config.write_text(CONFIG.format(archive=clip_archive, base=miniature_folder, folder=folder))
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}

    def run(stage: str, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LAUNCHER, stage, str(config), "--output", str(output), *options],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=120,
        )

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, launch: Launch) -> Path:
    """The output of a whole run."""
    output = tmp_path_factory.mktemp("finished")
    ended = launch("run", output)
    assert ended.returncode == 0, ended.stderr
    return output


def names(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(pattern))


def test_two_processes_leave_one_result(finished: Path) -> None:
    assert names(finished, "*.safetensors") == [
        "checkpoints/step-000002.safetensors",
        "checkpoints/step-000003.safetensors",
        "lora.safetensors",
    ]
    assert names(finished / "previews", "*.mp4") == [
        f"step-00000{step}/{name}.mp4" for step in (0, 3) for name in ("all", "item-1")
    ]
    assert json.loads((finished / "status.json").read_text()) == {"code": 0, "message": "done"}
    assert json.loads((finished / "result.json").read_text())["lora_file"]["file_name"] == "lora.safetensors"


def test_a_checkpoint_holds_random_states_of_both_processes_and_they_differ(finished: Path) -> None:
    tensors = load_file(finished / "checkpoints/step-000003.safetensors")

    assert {name.split("/")[1] for name in tensors if name.startswith("random/")} == {"0", "1"}
    for kind in ("draws", "torch"):
        assert not torch.equal(tensors[f"random/0/{kind}"], tensors[f"random/1/{kind}"])


def test_two_processes_stopped_after_a_checkpoint_continue_bit_for_bit(
    finished: Path, launch: Launch, tmp_path: Path
) -> None:
    """The folder is as a run leaves it that was killed in its third step."""
    checkpoint = tmp_path / "checkpoints/step-000002.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes((finished / "checkpoints/step-000002.safetensors").read_bytes())

    ended = launch("train", tmp_path, "--set", "input.validation=[]")

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("Continuing from step 2") == 1
    straight, continued = (load_file(folder / "checkpoints/step-000003.safetensors") for folder in (finished, tmp_path))
    assert straight.keys() == continued.keys()
    assert [name for name in straight if not torch.equal(straight[name], continued[name])] == []


def test_what_both_processes_refuse_is_said_once(launch: Launch, tmp_path: Path) -> None:
    ended = launch("run", tmp_path, "--set", "input.rank=7")

    assert ended.returncode != 0
    assert len(re.findall(r"^error: ", ended.stderr, re.MULTILINE)) == 1
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["code"] == 2
    assert f"error: {status['message']}" in ended.stderr
    assert "input.rank" in status["message"]
    assert names(tmp_path) == ["status.json"]
