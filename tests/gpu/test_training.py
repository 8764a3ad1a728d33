"""A run on a GPU in bf16: trained, stopped, continued, and rendered."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from ltx_trainer.config import Settings
from ltx_trainer.media import scan_audio, scan_video
from ltx_trainer.pipeline import Space, Stage, run

pytestmark = pytest.mark.gpu

NUM_FRAMES, FRAME_RATE = 9, 24


def settings_of(archive: Path, num_steps: int) -> Settings:
    body = {
        "training_data_url": str(archive),
        "rank": 8,
        "number_of_steps": num_steps,
        "number_of_frames": NUM_FRAMES,
        "frame_rate": FRAME_RATE,
        "resolution": "low",
        "validation": [{"prompt": "clip number 1"}],
        "validation_number_of_frames": NUM_FRAMES,
        "validation_resolution": "low",
    }
    return Settings.model_validate(
        {
            "endpoint": "fal-ai/ltx23-trainer-v2/t2v",
            "input": body,
            "lora": {"dropout": 0.1},
            "training": {"precision": "bf16", "checkpoint_interval": 1},
            "validation": {"steps": 2},
        }
    )


@pytest.fixture(scope="module")
def train(clip_archive: Path, tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Callable[..., Path]:
    """Train until each of `num_steps` in turn, as if stopped there and started again; give the run's folder."""
    assert torch.cuda.is_available() == (device.type == "cuda"), "a run takes the GPU if there is one"
    folder = tmp_path_factory.mktemp("runs")

    def run_until(name: str, *num_steps: int) -> Path:
        space = Space(folder / name, folder / "cache")
        with (folder / f"{name}.log").open("w") as screen:
            for steps in num_steps:
                run(settings_of(clip_archive, steps), space, Stage.TRAIN, Console(file=screen))
        return space.output

    return run_until


@pytest.fixture(scope="module")
def continued(train: Callable[..., Path]) -> Path:
    return train("continued", 1, 2)


@pytest.fixture(scope="module")
def uninterrupted(train: Callable[..., Path]) -> Path:
    return train("uninterrupted", 2)


def checkpoint(output: Path, step: int) -> dict[str, Tensor]:
    return load_file(output / f"checkpoints/step-{step:06d}.safetensors")


def last_update(output: Path) -> Tensor:
    """What the second step added to the adapter, as one vector."""
    before, after = checkpoint(output, 1), checkpoint(output, 2)
    return torch.cat([(after[name] - before[name]).flatten() for name in sorted(after) if name.startswith("adapter/")])


def test_two_steps_change_every_pair_of_the_adapter_and_leave_it_finite(continued: Path) -> None:
    adapter = {name: tensor for name, tensor in checkpoint(continued, 2).items() if name.startswith("adapter/")}

    assert adapter
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in adapter.values())
    assert all(tensor.any() for name, tensor in adapter.items() if ".lora_B." in name)


def test_a_continued_run_goes_on_with_the_optimizers_state(continued: Path) -> None:
    counts = {float(tensor) for name, tensor in checkpoint(continued, 2).items() if name.endswith("/step")}

    assert counts == {2}


def test_a_continued_run_takes_the_step_of_an_uninterrupted_one(continued: Path, uninterrupted: Path) -> None:
    found, expected = last_update(continued), last_update(uninterrupted)

    # Kernels of a GPU add up in changing order. Lost dropout draws alone would make 0.4, lost moments 0.7.
    assert (found - expected).norm() < 0.2 * expected.norm()


@pytest.mark.parametrize("step", [0, 1])
def test_a_preview_has_its_pictures_and_sound(continued: Path, step: int) -> None:
    preview = continued / f"previews/step-{step:06d}/item-1.mp4"

    video, audio = scan_video(preview, find_cuts=False), scan_audio(preview, rate_hz=48000)

    assert video.num_frames == NUM_FRAMES
    assert audio is not None
    assert audio.peak > 0
    assert abs(audio.duration_seconds - video.duration_seconds) < Fraction(1, FRAME_RATE)
