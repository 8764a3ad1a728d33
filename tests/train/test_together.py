"""Trainings that processes share, held to each other and to that of one process."""

import json
import pickle
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltx_trainer.artifacts import CachedSet, Role
from ltx_trainer.config import Settings, settings_as_yaml

SCRIPT = Path(__file__).with_name("shared_training.py")
OPTIONS = (
    "input.number_of_steps=4",
    "training.checkpoint_interval=3",
    "training.accumulation=2",
    "training.ema_decay=0.5",
    "lora.dropout=0.3",
    "held_out.fraction=0.25",
    "held_out.interval=2",
    "held_out.sigmas=[0.5]",
)
SPOILED = "clip-3b"
"""In the share of the second process at the first attempt."""

Load = Callable[..., Settings]
Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cached(load: Load, fill: Callable[[Settings], CachedSet], tmp_path_factory: pytest.TempPathFactory) -> CachedSet:
    """Twelve clips from twelve files, one of them spoiled."""
    found = fill(load(*OPTIONS))
    clean = found.examples[1].media.video[Role.TARGET]
    spoiled = tmp_path_factory.mktemp("spoiled") / "latents.safetensors"
    save_file({"latents": torch.full_like(load_file(clean)["latents"], torch.nan)}, spoiled)
    examples = tuple(
        replace(
            item,
            name=f"{item.name}{letter}",
            source=f"{item.name}{letter}.mp4",
            media=replace(item.media, video={Role.TARGET: spoiled})
            if f"{item.name}{letter}" == SPOILED
            else item.media,
        )
        for letter in "abc"
        for item in found.examples
    )
    return replace(found, examples=examples)


@pytest.fixture(scope="module")
def folder(
    load: Load,
    cached: CachedSet,
    miniature_folder: Path,
    launch_script: Launch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "cached.pickle").write_bytes(pickle.dumps((miniature_folder, cached)))
    (folder / "settings.yaml").write_text(settings_as_yaml(load(*OPTIONS)))
    ended = launch_script(SCRIPT, folder / "cached.pickle", folder / "settings.yaml", folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    """What each process saw."""
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def told(seen: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in seen["events"] if event["event"] == kind]


def test_a_signal_to_one_process_stops_all_at_the_same_step_with_a_checkpoint(
    seen: list[dict[str, Any]], folder: Path
) -> None:
    assert [item["stopped"]["signal"] for item in seen] == [15, 15]
    assert [len(item["stopped"]["clips"]) for item in seen] == [2, 2]
    (event,) = told(seen[0]["stopped"], "checkpoint")
    assert event["step"] == 2
    assert (folder / "stopped/step-000002.safetensors").is_file()


def test_the_run_then_goes_on_as_if_nobody_had_stopped_it(seen: list[dict[str, Any]], folder: Path) -> None:
    for item in seen:
        assert item["stopped"]["clips"] + item["continued"]["clips"] == item["straight"]["clips"]
        assert item["stopped"]["losses"] + item["continued"]["losses"] == item["straight"]["losses"]
        assert item["continued"]["adapter"] == item["straight"]["adapter"]
    ends = [folder / name / "step-000004.safetensors" for name in ("straight", "stopped")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_all_processes_end_with_one_adapter_and_one_of_them_tells(seen: list[dict[str, Any]]) -> None:
    one, other = (item["straight"] for item in seen)

    assert one["adapter"] == other["adapter"]
    assert one["losses"] == other["losses"]
    assert told(one, "checkpoint")
    assert other["events"] == []


def test_all_processes_skip_what_spoils_the_batch_of_one(seen: list[dict[str, Any]]) -> None:
    events = told(seen[0]["straight"], "skipped")

    assert events
    assert {sample["clip"] for event in events for sample in event["samples"]} == {SPOILED}
    assert len(seen[0]["straight"]["clips"]) == len(seen[1]["straight"]["clips"]) == 4


def test_order_and_held_out_losses_do_not_depend_on_the_number_of_processes(
    seen: list[dict[str, Any]], load: Load, training: Callable[[str], Any], cached: CachedSet
) -> None:
    """Four passes of one process see what two passes of two processes see."""
    alone = training("alone")
    alone.fill = lambda _: cached

    alone.run(load(*OPTIONS, "training.accumulation=4"))

    assert [list(item.clips) for item in alone.metrics] == seen[0]["straight"]["clips"]
    shared = told(seen[0]["straight"], "held_out")
    assert [event["step"] for event in shared] == [0, 2, 4]
    assert alone.told("held_out")[0] == shared[0]
