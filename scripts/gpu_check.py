"""Check a CUDA machine: the tests marked `gpu`, one block of LTX-2.3 at true width, and the demo in bf16.

PYTHONPATH=. python scripts/gpu_check.py --output outputs/gpu_check

Prints one line of JSON for each part, then a table, and writes the numbers to `gpu_check.json`. The exit status is 1 if
a part failed. `docs/benchmarks/README.md` says what the numbers mean.

A machine without a network whose Python 3.12 has torch, transformers, accelerate, peft and OpenCV, but lacks
diffusers, av, scenedetect and pydantic, needs these wheels. They are 43.1 MiB in all, so that they and the repository
fit the 64 MiB that such a machine may take in one go:

- av 18.1.0, 34.13 MiB
- diffusers 0.42.1, 6.06 MiB, and for it importlib-metadata 10.2.0, 0.03 MiB, and lazy-importer 0.1.0, 0.01 MiB
- scenedetect-headless 0.7.2, 0.14 MiB, and for it platformdirs 4.14.5, 0.03 MiB
- pydantic 2.14.3, 0.47 MiB, and for it pydantic-core 2.50.4, 2.16 MiB, typing-extensions 4.16.0, 0.04 MiB,
  typing-inspection 0.4.5 and annotated-types 0.8.0, 0.01 MiB each

Shapes: b samples (always one), l text tokens, d width.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import LTX2VideoTransformer3DModel
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ltx_trainer.atomic import write_text
from ltx_trainer.diffusion import ModelStream, generated_stream
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors, num_audio_tokens
from ltx_trainer.models import AudioFacts, ModelFacts
from ltx_trainer.models.facts import LTX2_RESOLUTIONS
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.folder import read_component
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.models.names import LTX2_GROUPS
from ltx_trainer.modes import ALL_ATTENTION

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
SEED = 17
RANK = 32
SIGMA = 0.7
WARM_UP_RUNS = 3
# TensorFloat-32 would be off by about 3e-4.
TOLERANCE = 1e-4
GIB = 2**30


@dataclass(frozen=True)
class BlockSize:
    """How large the block and its input are.

    Attributes:
        num_heads: Attention heads of each stream.
        video_head_width: Channels of a head of the video stream.
        audio_head_width: Channels of a head of the audio stream.
        num_text_tokens: Length of the prompt.
        shape: The clip that the tokens stand for.
        num_runs: Timed passes.
    """

    num_heads: int
    video_head_width: int
    audio_head_width: int
    num_text_tokens: int
    shape: ClipShape
    num_runs: int


FEW_TOKENS = ClipShape(9, FrameSize(64, 64), Fraction(24))
TRUE_SIZE = BlockSize(32, 128, 64, 1024, ClipShape(89, FrameSize(960, 544), Fraction(24)), num_runs=20)
SMALL_SIZE = BlockSize(2, 32, 16, 16, FEW_TOKENS, num_runs=2)

DEMO_SETTINGS = ("training.precision=bf16",)
SMALL_DEMO_SETTINGS = (
    *DEMO_SETTINGS,
    "input.number_of_steps=2",
    "input.number_of_frames=9",
    "input.validation_number_of_frames=9",
    "input.validation=[{prompt: a zorp circle moves down}]",
    "validation.steps=2",
)
SMALL_DEMO_OPTIONS = ("--scenes", "3")


@dataclass(frozen=True)
class Check:
    """What a part is told.

    Attributes:
        device: Where to compute.
        small: Shrink the block and the demo, to try this script itself.
        output: Where logs and the demo's last preview go.
    """

    device: torch.device
    small: bool
    output: Path


@dataclass(frozen=True)
class Part:
    """What a part found.

    Attributes:
        name: Of the part.
        ok: Whether it passed.
        seconds: Wall time.
        found: Its numbers.
    """

    name: str
    ok: bool
    seconds: float
    found: Mapping[str, object]


@dataclass(frozen=True)
class Timing:
    """What a pass of the block takes, forward and backward.

    Attributes:
        median_seconds: Of the timed runs.
        least_seconds: The fastest.
        most_seconds: The slowest.
        peak_gib: Most device memory in use, weights included; None on a CPU.
        gradients_finite: Whether every parameter of the adapter got a gradient of finite numbers.
    """

    median_seconds: float
    least_seconds: float
    most_seconds: float
    peak_gib: float | None
    gradients_finite: bool


@dataclass(frozen=True)
class BlockInput:
    """What a block reads: both streams, and the prompt of each `[b l d]`."""

    streams: Mapping[str, ModelStream]
    prompt: Mapping[str, Tensor]


def main() -> int:
    """Run the parts asked for, and give the exit status."""
    options = _options()
    if options.device == "cpu":
        # The commands that the parts start see no GPU either.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    check = Check(torch.device(options.device), options.small, options.output)
    check.output.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True, highlight=False)
    parts = []
    for name in options.parts or PARTS:
        parts.append(_run_part(name, check))
        console.print(json.dumps(asdict(parts[-1])), markup=False)
    report = {**_machine(check.device), "small": check.small, "parts": [asdict(part) for part in parts]}
    write_text(check.output / "gpu_check.json", json.dumps(report, indent=2) + "\n")
    console.print(_table(parts, _machine(check.device)))
    return 0 if all(part.ok for part in parts) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check a CUDA machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for trying this script")
    parser.add_argument("--small", action="store_true", help="a tiny block, and a demo of two steps")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu_check"), help="default: outputs/gpu_check")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"{unknown[0]} is not a part. There are {', '.join(PARTS)}.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device. --device cpu --small tries the script without one.")
    return options


def _run_part(name: str, check: Check) -> Part:
    began = time.perf_counter()
    try:
        ok, found = PARTS[name](check)
    except Exception as error:  # noqa: BLE001 - a part that breaks has failed, and the others go on
        traceback.print_exception(error)
        ok, found = False, {"error": f"{type(error).__name__}: {error}"}
    return Part(name, ok, round(time.perf_counter() - began, 1), found)


def _check_tests(check: Check) -> tuple[bool, dict[str, object]]:
    """Run the tests marked `gpu`. A warning of library versions that nobody has tested fails none of them."""
    with TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.xml"
        command = ["-m", "pytest", "-m", "gpu", "-W", "default", f"--junitxml={counts}", "tests/gpu"]
        status = _run(command, check.output / "tests.log", GPU_TESTS_DEVICE=check.device.type)
        suite = ET.parse(counts).getroot()[0]
    found = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    # A test that skips itself on a GPU has checked nothing.
    ok = status == 0 and (check.device.type == "cpu" or found["skipped"] == 0)
    return ok, {"status": status, **found}


def _check_block(check: Check) -> tuple[bool, dict[str, object]]:
    """Run a block forward and backward: how fast, in how much memory, and how close to a CPU."""
    size = SMALL_SIZE if check.small else TRUE_SIZE
    with TemporaryDirectory() as folder:
        family = _write_block(Path(folder), size, check.device)
        plain = _time_block(family, size, check.device, gradient_checkpointing=False)
        checkpointed = _time_block(family, size, check.device, gradient_checkpointing=True)
        errors = _errors_in_float32(family, size, check.device)
    ok = plain.gradients_finite and checkpointed.gradients_finite and all(e <= TOLERANCE for e in errors.values())
    return ok, {
        "tokens": _num_tokens(family, size),
        "plain": asdict(plain),
        "checkpointed": asdict(checkpointed),
        "error_in_float32": errors,
    }


def _write_block(folder: Path, size: BlockSize, device: torch.device) -> Family:
    """Write a transformer of one block with random weights, to be loaded as any other is."""
    torch.manual_seed(SEED)
    with torch.device(device):
        transformer = LTX2VideoTransformer3DModel(
            num_layers=1,
            num_attention_heads=size.num_heads,
            attention_head_dim=size.video_head_width,
            cross_attention_dim=size.num_heads * size.video_head_width,
            audio_num_attention_heads=size.num_heads,
            audio_attention_head_dim=size.audio_head_width,
            audio_cross_attention_dim=size.num_heads * size.audio_head_width,
            gated_attn=True,
            cross_attn_mod=True,
            audio_gated_attn=True,
            audio_cross_attn_mod=True,
            rope_type="split",
            use_prompt_embeddings=False,
            perturbed_attn=True,
        )
    transformer.save_pretrained(folder / "transformer")
    return open_family(
        ModelFacts(
            family="ltx-2.3",
            version=None,
            name="one block of LTX-2.3",
            source=str(folder),
            revision=None,
            origin=folder,
            components={"transformer": read_component(folder / "transformer", "transformer")},
            text_encoder=folder,
            tokenizer=folder,
            factors=ScaleFactors(8, 32, 32),
            video_channels=128,
            audio=AudioFacts(16000, 160, 64, latent_channels=8, latent_mel_bins=16, tokens_per_second=Fraction(25)),
            num_blocks=1,
            modules=LTX2_GROUPS,
            max_text_tokens=size.num_text_tokens,
            resolutions=LTX2_RESOLUTIONS,
        )
    )


def _time_block(family: Family, size: BlockSize, device: torch.device, *, gradient_checkpointing: bool) -> Timing:
    """Time the pass of a training step: a bf16 base, an fp32 adapter, bf16 arithmetic."""
    given = _random_input(family, size, size.shape, device)
    with family.transformer(device, torch.bfloat16, gradient_checkpointing=gradient_checkpointing) as transformer:
        parameters = _train_lora(family, transformer)

        def run() -> None:
            transformer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                velocities = family.predict(transformer, given.streams, given.prompt)
            _loss(velocities).backward()

        for _ in range(WARM_UP_RUNS):
            run()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = [_seconds(run, device) for _ in range(size.num_runs)]
        peak_gib = torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else None
        finite = all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in parameters)
    return Timing(statistics.median(seconds), min(seconds), max(seconds), peak_gib, finite)


def _errors_in_float32(family: Family, size: BlockSize, device: torch.device) -> dict[str, float]:
    """Compare a pass over few tokens with the CPU's: the norm of the difference over the CPU's norm."""
    found, expected = (_pass_in_float32(family, size, where) for where in (device, CPU))
    return {name: float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected}


def _pass_in_float32(family: Family, size: BlockSize, device: torch.device) -> dict[str, Tensor]:
    """Give the velocities, and the adapter's gradients, each as one vector on the CPU."""
    given = _random_input(family, size, FEW_TOKENS, device)
    with family.transformer(device, torch.float32) as transformer:
        parameters = _train_lora(family, transformer)
        velocities = family.predict(transformer, given.streams, given.prompt)
        _loss(velocities).backward()
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        return {"velocities": _vector(velocities.values()), "gradients": _vector(gradients)}


def _random_input(family: Family, size: BlockSize, shape: ClipShape, device: torch.device) -> BlockInput:
    """Draw on the CPU, so that every device is given the same."""
    generator = torch.Generator().manual_seed(SEED)
    audio = family.facts.audio
    assert audio is not None
    coordinates = {
        "video": family.video_coordinates(shape),
        "audio": family.audio_coordinates(num_audio_tokens(shape.duration_seconds, audio.tokens_per_second)),
    }
    channels = {"video": family.facts.video_channels, "audio": audio.latent_channels * audio.latent_mel_bins}
    widths = {"video": size.num_heads * size.video_head_width, "audio": size.num_heads * size.audio_head_width}
    streams, prompt = {}, {}
    for name, places in coordinates.items():
        tokens = torch.randn(1, places.shape[1], channels[name], generator=generator)
        stream = generated_stream(tokens, places).to(device)
        streams[name] = stream.at(stream.clean, torch.full((1,), SIGMA, device=device))
        prompt[name] = torch.randn(1, size.num_text_tokens, widths[name], generator=generator).to(device)
    return BlockInput(streams, prompt)


def _train_lora(family: Family, transformer: nn.Module) -> list[nn.Parameter]:
    """Attach an adapter to all attention, ready for training, and give its parameters."""
    generator = torch.Generator().manual_seed(SEED)
    modules = family.lora_modules(ALL_ATTENTION)
    attach_lora(transformer, modules, rank=RANK, alpha=RANK, dropout=0.0, generator=generator)
    transformer.train()
    return [weight for weight in transformer.parameters() if weight.requires_grad]


def _loss(velocities: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([velocity.square().mean() for velocity in velocities.values()]).sum()


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    """Time a call, on a GPU by the GPU's own clock."""
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _vector(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().cpu() for tensor in tensors])


def _num_tokens(family: Family, size: BlockSize) -> dict[str, int]:
    streams = _random_input(family, size, size.shape, CPU).streams
    return {**{name: stream.tokens.shape[1] for name, stream in streams.items()}, "text": size.num_text_tokens}


def _check_demo(check: Check) -> tuple[bool, dict[str, object]]:
    """Run the demo as a user does, and look for what it must leave."""
    log = check.output / "demo.log"
    with TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        settings = [
            *(SMALL_DEMO_SETTINGS if check.small else DEMO_SETTINGS),
            f"input.training_data_url={folder}/demo.zip",
            f"paths.cache={folder}/cache",
        ]
        overrides = [argument for setting in settings for argument in ("--set", setting)]
        options = SMALL_DEMO_OPTIONS if check.small else ()
        status = _run(["scripts/make_demo.py", f"{folder}/demo.zip", *options], log) or _run(
            ["-m", "ltx_trainer", "run", "configs/demo.yaml", "--output", str(output), *overrides], log
        )
        # A published LoRA takes its name only after it was reopened and checked.
        has_lora = (output / "lora.safetensors").is_file()
        previews = sorted(output.glob("previews/step-*/all.mp4"))
        if previews:
            shutil.copyfile(previews[-1], check.output / "demo.mp4")
    ok = status == 0 and has_lora and len(previews) > 1
    return ok, {"status": status, "lora": has_lora, "previews": [preview.parent.name for preview in previews]}


def _run(arguments: Sequence[str], log: Path, **environment: str) -> int:
    """Run Python in the repository, add what it says to a log, show it if it fails, and give the exit status."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    with log.open("a", encoding="utf-8") as file:
        file.write(ended.stdout)
    if ended.returncode:
        sys.stderr.write(ended.stdout)
    return ended.returncode


PARTS: Mapping[str, Callable[[Check], tuple[bool, dict[str, object]]]] = {
    "tests": _check_tests,
    "block": _check_block,
    "demo": _check_demo,
}


def _machine(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return {"device": name, "python": platform.python_version(), "torch": torch.__version__}


def _table(parts: Sequence[Part], machine: Mapping[str, str]) -> Table:
    table = Table("part", "ended", "seconds", "found", title=_shown(machine))
    for part in parts:
        found = "\n".join(f"{name}: {_shown(value)}" for name, value in part.found.items())
        table.add_row(part.name, "passed" if part.ok else "FAILED", f"{part.seconds:.1f}", found)
    return table


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
