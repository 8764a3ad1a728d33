"""A run of two processes on a CPU, started by the launcher."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import ltx_trainer
from ltx_trainer.artifacts import ADAPTER_PREFIX
from ltx_trainer.cache.fill import fill_cache
from ltx_trainer.config import load_settings
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import attach_lora, load_adapter_state
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.validate import sampling_of
from tests.families import LTX23, STREAMS, both_families
from tests.rendering import render_previews

CONFIG = """
endpoint: {endpoint}
input:
  training_data_url: {archive}
  rank: 8
  number_of_steps: 3
  number_of_frames: 9
  resolution: low
  validation: [{{prompt: a clip}}, {{prompt: clip number 1}}, {{prompt: a bell}}]
  validation_number_of_frames: 9
  validation_resolution: low
model: {{base: {base}}}
lora: {{dropout: 0.3}}
training: {{checkpoint_interval: 2, accumulation: 2, caption_dropout: 0.5}}
validation: {{steps: 2, interval: null}}
paths: {{cache: {folder}/cache}}
"""
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ROOT = Path(__file__).parents[2]
TRAINER = Path(ltx_trainer.__file__).with_name("__main__.py")
WATCHED_TRAINER = Path(__file__).with_name("watched_run.py")
LACKING_TRAINER = Path(__file__).with_name("lacking_run.py")

Launch = Callable[..., subprocess.CompletedProcess[str]]

ltx23_only = pytest.mark.parametrize("family_name", [LTX23], indirect=True)
"""Named, as `both_families` names it, so that one run is shared."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, clip_archive: Path, miniature_folder: Path, endpoint: str) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    path = folder / "run.yaml"
    path.write_text(CONFIG.format(endpoint=endpoint, archive=clip_archive, base=miniature_folder, folder=folder))
    return path


@pytest.fixture(scope="module")
def launch(launch_script: Launch, config: Path) -> Launch:
    """Go to a stage in two processes, with the output in a folder of one's own."""
    return lambda stage, output, *options, trainer=TRAINER: launch_script(
        trainer, stage, config, "--output", output, *options
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, launch: Launch) -> Path:
    """The output of a whole run that began with an empty cache, with what each process saw."""
    output = tmp_path_factory.mktemp("finished")
    ended = launch("run", output, trainer=WATCHED_TRAINER)
    assert ended.returncode == 0, ended.stderr
    return output


@pytest.fixture(scope="module")
def seen(finished: Path) -> list[dict[str, Any]]:
    """What each process saw."""
    return [json.loads((finished / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def names(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(pattern))


@both_families
def test_two_processes_leave_one_result(finished: Path) -> None:
    assert names(finished, "*.safetensors") == [
        "checkpoints/step-000002.safetensors",
        "checkpoints/step-000003.safetensors",
        "lora.safetensors",
    ]
    assert names(finished / "previews", "*.mp4") == [
        f"step-00000{step}/{name}.mp4" for step in (0, 3) for name in ("all", "item-1", "item-2", "item-3")
    ]
    assert json.loads((finished / "status.json").read_text()) == {"code": 0, "message": "done"}
    assert json.loads((finished / "result.json").read_text())["lora_file"]["file_name"] == "lora.safetensors"


@both_families
def test_an_empty_cache_is_filled_by_both_processes_in_shares(seen: list[dict[str, Any]], family_name: str) -> None:
    """Eight texts: four captions, two prompts that are none of them, the empty and the negative one: one batch."""
    assert [item["encoded"] for item in seen] == [
        [
            f"Prompts: 8 distinct, {num_texts} to encode in process {rank} of 2.",
            *(f"{stream.title()}: 4 clips, 2 to encode in process {rank} of 2." for stream in STREAMS[family_name]),
        ]
        for rank, num_texts in ((1, 8), (2, 0))
    ]
    assert seen[0]["cached"] == seen[1]["cached"]
    assert f"computed={8 + 4 * len(STREAMS[family_name])}" in seen[0]["cached"]


@both_families
def test_both_processes_train_the_same_adapter(seen: list[dict[str, Any]]) -> None:
    assert seen[0]["adapter"] == seen[1]["adapter"]


@ltx23_only
def test_previews_that_are_shared_out_are_those_of_one_process(finished: Path, family: Family, tmp_path: Path) -> None:
    settings = load_settings(finished / "config.yaml")
    space = Space(tmp_path / "out", settings.paths.cache)
    plan = look(settings, space)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        accelerator, dtype = make_accelerator("fp32")
        cached = fill_cache(
            family,
            plan.clips,
            plan.previews,
            settings.input.validation_negative_prompt,
            space.cache,
            still_crf=None,
            accelerator=accelerator,
            track=lambda items, _what, _total: items,
        )
        with family.transformer(accelerator.device, dtype) as transformer:
            modules = family.lora_modules(settings.lora_targets(with_audio=True))
            attach_lora(transformer, modules, rank=8, alpha=8, dropout=0, generator=torch.Generator())
            sampling, place = sampling_of(settings, family), tmp_path / "previews"
            render_previews(family, transformer, cached, plan.preview_terms, sampling, place, step=0, base="base")
            tensors = load_file(finished / "checkpoints/step-000003.safetensors")
            load_adapter_state(transformer, with_prefix(tensors, ADAPTER_PREFIX))
            render_previews(family, transformer, cached, plan.preview_terms, sampling, place, step=3, base="base")
    finally:
        torch.set_num_threads(threads)

    assert cached.computed == 0
    files = names(tmp_path / "previews", "*.mp4")
    assert len(files) == 8
    for name in files:
        assert (tmp_path / "previews" / name).read_bytes() == (finished / "previews" / name).read_bytes(), name


@ltx23_only
def test_an_error_of_one_process_is_raised_in_both(seen: list[dict[str, Any]]) -> None:
    full, bug = "OutOfResources: No space left.", "RuntimeError: a bug"

    assert [item["failures"] for item in seen] == [
        [full, bug, "OutOfResources: The disk is full."],
        [full, "TrainerError: Another process failed: RuntimeError: a bug", "OutOfResources: The disk is full."],
    ]
    assert [item["gathered"] for item in seen] == [[[0, 1], 0]] * 2


@ltx23_only
def test_a_signal_at_one_process_ends_the_previews_of_both(seen: list[dict[str, Any]], finished: Path) -> None:
    assert [item["stopped"] for item in seen] == [["None", 0], ["None", 15]]
    assert "told" not in seen[0]
    assert names(finished / "stopped", "*.*") == ["step-000000/item-1.mp4", "step-000000/item-3.mp4"]


@both_families
def test_a_checkpoint_holds_random_states_of_both_processes_and_they_differ(finished: Path) -> None:
    tensors = load_file(finished / "checkpoints/step-000003.safetensors")

    assert {name.split("/")[1] for name in tensors if name.startswith("random/")} == {"0", "1"}
    for kind in ("draws", "torch"):
        assert not torch.equal(tensors[f"random/0/{kind}"], tensors[f"random/1/{kind}"])


@both_families
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


def test_what_both_processes_refuse_is_said_once(config: Path, tmp_path: Path) -> None:
    """Started from the command line, as a user does."""
    arguments = ["run", str(config), "--output", str(tmp_path), "--set", "input.rank=7"]
    ended = subprocess.run(
        [*LAUNCHER, "-m", "ltx_trainer", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )

    assert ended.returncode != 0
    assert len(re.findall(r"^error: ", ended.stderr, re.MULTILINE)) == 1
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["code"] == 2
    assert f"error: {status['message']}" in ended.stderr
    assert "input.rank" in status["message"]
    assert names(tmp_path) == [".lock", "status.json"]


def test_memory_that_runs_out_in_one_process_is_told_though_the_main_one_only_loses_it(
    launch: Launch, tmp_path: Path
) -> None:
    ended = launch("train", tmp_path, "--set", "input.validation=[]", trainer=LACKING_TRAINER)

    assert "error: Memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.)" in ended.stderr
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["code"] == 4
    assert "Memory ran out" in status["message"]
