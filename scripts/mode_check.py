"""Teach the miniature every mode by the command line, and prove on examples that it has not seen that it learned.

python scripts/mode_check.py
python scripts/mode_check.py inpaint v2a --folder outputs/modes --pictures docs/pictures/modes

For each mode: an archive is written, `ltx_trainer run` trains on it, and the published LoRA is held against the base.

- The loss at fixed noise and noise levels falls by a fifth.
- Where the mode is given more than text, another example's condition makes the loss of the LoRA larger in nine of ten.
- Readers of pictures and sound see what the lesson teaches, which they do not see before.

A table is printed and written as JSON. The exit code is 1 if a mode fails.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from miniature.scores import Made, defaults
from mode_pictures import Shown, draw_strip
from mode_worlds import LESSONS, RATE_HZ, Example, Lesson, request_of, write_archive, write_item
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ltx_trainer.artifacts import KEYFRAMES, CachedExample, CachedSet, Role
from ltx_trainer.atomic import write_text
from ltx_trainer.cache import fill_cache
from ltx_trainer.conditions import Terms
from ltx_trainer.conditions.masks import spread_cells
from ltx_trainer.conditions.streams import Latents, read_latents
from ltx_trainer.config import Settings, load_settings
from ltx_trainer.diffusion import Stream
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.lora import adapter_enabled, attach_lora, load_warm_start
from ltx_trainer.models.miniature import write_miniature
from ltx_trainer.modes import Condition
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.report import track
from ltx_trainer.tensorfile import read_tensors
from ltx_trainer.train.batch import Batch, BatchMaker
from ltx_trainer.train.step import draw_noise, generated, losses_at, stream_weights
from ltx_trainer.validate import given_streams, sample

CPU = torch.device("cpu")
NUM_STEPS = 200
NUM_TRAINED, NUM_JUDGED = 40, 10
TRAINED_ON, JUDGED_ON, NOISE = 31, 32, 33
RANK, LEARNING_RATE = 16, 2e-3
SIGMAS = (0.6, 0.9)
SAMPLING_STEPS = 20

GREY = 128

LEAST_FALL = 0.2
LEAST_WORSE = 9
LEAST_SCORE, LEAST_GAIN = 0.6, 0.3


@dataclass(frozen=True)
class Verdict:
    """What was measured of one mode on `NUM_JUDGED` examples.

    Attributes:
        mode: Its name.
        steps: Optimizer updates.
        loss: Mean loss at fixed noise, before and after.
        worse: How many examples the LoRA knows less well by another's condition; None of a mode given text alone.
        score: Share of examples made as the lesson has it, before and after.
        says: What that is.
        seconds: That the training took.
    """

    mode: str
    steps: int
    loss: tuple[float, float]
    worse: int | None
    score: tuple[float, float]
    says: str
    seconds: float

    @property
    def fall(self) -> float:
        """Of the loss, as a share of what it was."""
        return 1 - self.loss[1] / self.loss[0]

    @property
    def problems(self) -> list[str]:
        """Say what is not proved."""
        before, after = self.score
        checks = {
            f"the loss falls by {self.fall:.0%}": self.fall >= LEAST_FALL,
            f"another's condition is worse in {self.worse}": self.worse is None or self.worse >= LEAST_WORSE,
            f"the score goes from {before:.1f} to {after:.1f}": after >= max(LEAST_SCORE, before + LEAST_GAIN),
        }
        return [problem for problem, holds in checks.items() if not holds]


@dataclass(frozen=True)
class Class:
    """A lesson's held-out examples, as the run itself would read them.

    Attributes:
        lesson: What was taught.
        examples: What is in the files.
        settings: Of the run; a first frame is given where that is the lesson, and nowhere else.
        family: The base model's.
        terms: What is given.
        cached: The examples as tensors, in the same order.
    """

    lesson: Lesson
    examples: Sequence[Example]
    settings: Settings
    family: Family
    terms: Terms
    cached: CachedSet


def main() -> None:
    """Check the modes that are asked for, and print, write and draw what was found."""
    known = [lesson.mode.name for lesson in LESSONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--folder", type=Path, default=Path("outputs/modes"), help="for archives, runs and the table")
    parser.add_argument("--pictures", type=Path, help="a folder for a picture of what each mode learns")
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    unknown = sorted(set(options.modes).difference(known))
    if unknown:
        console.print(f"{unknown[0]} is no mode of this script. Known: {', '.join(known)}.", highlight=False)
        sys.exit(2)
    base = options.folder / "base"
    if not base.is_dir():
        write_miniature("ltx-2.3", base)
    verdicts = []
    for lesson in LESSONS:
        if not options.modes or lesson.mode.name in options.modes:
            verdict = check(lesson, base, options.folder / lesson.mode.name, options.steps, options.pictures)
            console.print(f"{verdict.mode}: {'; '.join(verdict.problems) or 'learned'}", highlight=False)
            verdicts.append(verdict)
            # After each, so that a stopped check leaves what it found.
            write_table(options.folder / "modes.json", verdicts)
    console.print(table_of(verdicts))
    sys.exit(int(any(verdict.problems for verdict in verdicts)))


def check(lesson: Lesson, base: Path, folder: Path, steps: int, pictures: Path | None) -> Verdict:
    """Train on a lesson by the command line, and judge the LoRA on examples that it has not seen.

    Args:
        lesson: What is taught.
        base: The miniature's folder.
        folder: For the archives and the run.
        steps: Optimizer updates.
        pictures: Where a picture of what was learned goes; None for none.
    """
    began = time.monotonic()
    lora = teach(lesson, base, folder, steps)
    seconds = time.monotonic() - began
    held = open_class(lesson, base, folder)
    with student(held, lora) as transformer:
        with adapter_enabled(transformer, on=False):
            loss_before, made_before = losses_of(held, transformer), make(held, transformer)
        loss_after, made_after = losses_of(held, transformer), make(held, transformer)
        strange = losses_of(held, transformer, strange=True) if lesson.is_conditional else None
    if pictures is not None:
        draw(held, made_before, made_after, pictures / f"{lesson.mode.name}.png")
    return Verdict(
        mode=lesson.mode.name,
        steps=steps,
        loss=(float(np.mean(loss_before)), float(np.mean(loss_after))),
        worse=None if strange is None else sum(map(float.__gt__, strange, loss_after)),
        score=(score(held, made_before), score(held, made_after)),
        says=lesson.says,
        seconds=round(seconds, 1),
    )


def teach(lesson: Lesson, base: Path, folder: Path, steps: int) -> Path:
    """Run the command line on a lesson's archive, and give the LoRA.

    Raises:
        SystemExit: The run failed; its message is shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = write_archive(folder / "train.zip", lesson, lesson.examples(NUM_TRAINED, TRAINED_ON))
    item = write_item(folder / "item", lesson, lesson.examples(1, JUDGED_ON)[0])
    body = body_of(lesson, base, folder, request_of(lesson, archive, [item]), steps)
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(body), encoding="utf-8")
    output = folder / "out"
    command = [sys.executable, "-m", "ltx_trainer", "run", str(config), "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{lesson.mode.name}: {ended.stderr.strip() or ended.stdout.strip()}")
    check_result(lesson, output)
    return output / "lora.safetensors"


def body_of(lesson: Lesson, base: Path, folder: Path, request: Mapping[str, object], steps: int) -> dict[str, object]:
    """Give the settings of a run."""
    return {
        "endpoint": lesson.mode.endpoint,
        "input": {**request, "rank": RANK, "learning_rate": LEARNING_RATE, "number_of_steps": steps},
        "model": {"base": str(base)},
        "training": {"gradient_checkpointing": False},
        "validation": {"interval": None, "steps": 8},
        "paths": {"cache": str(folder / "cache")},
    }


def check_result(lesson: Lesson, output: Path) -> None:
    """Hold the run to the result that the mode promises: a video, or a sound where no pictures are made.

    Raises:
        SystemExit: It is another one.
    """
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    preview = "video" if lesson.mode.generates_video else "audio"
    if result.keys() != {"lora_file", "config_file", preview}:
        sys.exit(f"{lesson.mode.name}: the result has {', '.join(result)}, and no {preview}.")


def open_class(lesson: Lesson, base: Path, folder: Path) -> Class:
    """Write examples that were not trained on, and encode them as a run does."""
    examples = lesson.examples(NUM_JUDGED, JUDGED_ON)
    request = request_of(lesson, write_archive(folder / "held-out.zip", lesson, examples), [])
    if Condition.FIRST_FRAME in lesson.mode.conditions:
        request["first_frame_conditioning_p"] = float(Condition.REFERENCE not in lesson.mode.conditions)
    config = folder / "held-out.yaml"
    config.write_text(yaml.safe_dump(body_of(lesson, base, folder, request, 1)), encoding="utf-8")
    settings = load_settings(config)
    plan = look(settings, Space(folder / "held-out", folder / "cache"))
    family = open_family(plan.facts)
    cached = fill_cache(
        family,
        plan.clips,
        (),
        settings.input.validation_negative_prompt,
        folder / "cache",
        still_crf=None,
        accelerator=make_accelerator("fp32")[0],
        track=track(Console(quiet=True)),
    )
    assert len(cached.examples) == len(examples), "an example was left out"
    return Class(lesson, examples, settings, family, plan.terms, cached)


@contextmanager
def student(held: Class, lora: Path) -> Iterator[nn.Module]:
    """Load the base with the LoRA of a file."""
    settings, family = held.settings, held.family
    modules = family.lora_modules(settings.lora_targets(with_audio=held.cached.with_audio), frozen=held.terms.frozen)
    with family.transformer(CPU, torch.float32) as transformer:
        attach_lora(transformer, modules, rank=RANK, alpha=RANK, dropout=0.0, generator=torch.Generator())
        load_warm_start(transformer, lora)
        yield transformer


@torch.no_grad()
def losses_of(held: Class, transformer: nn.Module, *, strange: bool = False) -> list[float]:
    """Give the loss of each example as training weights it, on noise that no training drew.

    Args:
        held: The examples.
        transformer: The base, with the LoRA or without.
        strange: Give each the condition of the next.
    """
    maker = BatchMaker(held.settings, held.family, held.cached, CPU, held.terms)
    batches = [maker.make_measured(example, torch.Generator().manual_seed(NOISE)) for example in held.cached.examples]
    if strange:
        batches = [
            _with_condition_of(one, other) for one, other in zip(batches, batches[1:] + batches[:1], strict=True)
        ]
    return [_loss_of(held, transformer, batch, NOISE + number) for number, batch in enumerate(batches)]


def _with_condition_of(batch: Batch, other: Batch) -> Batch:
    """Put what is given of another batch in the place of what is given of one."""

    def mixed(own: Stream, theirs: Stream) -> Stream:
        return replace(own, clean=torch.where(own.given[..., None], theirs.clean, own.clean))

    return replace(batch, streams={name: mixed(own, other.streams[name]) for name, own in batch.streams.items()})


def _loss_of(held: Class, transformer: nn.Module, batch: Batch, seed: int) -> float:
    generator, weights = torch.Generator().manual_seed(seed), stream_weights(held.settings.training)
    totals = []
    for sigma in SIGMAS:
        levels = {name: torch.full((1,), sigma) for name in generated(batch.streams)}
        losses = losses_at(held.family, transformer, batch, levels, draw_noise(batch.streams, generator))
        totals.append(sum(weights[name] * float(loss) for name, loss in losses.items()))
    return float(np.mean(totals))


def make(held: Class, transformer: nn.Module) -> list[Made]:
    """Sample every example from what is given of it."""
    with_audio = held.cached.with_audio
    prompts = [read_tensors(example.prompt) for example in held.cached.examples]
    negative = read_tensors(held.cached.negative_prompt)
    given = given_of(held, held.cached.examples)
    latents = sample(
        held.family,
        transformer,
        {name: torch.stack([prompt[name] for prompt in prompts]) for name in negative},
        {name: value.expand(len(prompts), *value.shape) for name, value in negative.items()},
        held.terms,
        given_streams(held.family, held.terms, given, len(prompts), with_audio=with_audio),
        replace(defaults(held.family), num_steps=SAMPLING_STEPS),
    )
    return decode(held.family, latents)


def given_of(held: Class, examples: Sequence[CachedExample]) -> Latents:
    """Read what sampling is given; of the targets, it takes only what the conditions keep."""
    latents = read_latents([example.media for example in examples], CPU, with_audio=held.cached.with_audio)
    conditions = held.lesson.mode.conditions
    if Condition.FIRST_FRAME in conditions and Condition.REFERENCE not in conditions:
        return replace(latents, video={**latents.video, Role.START: latents.video[Role.TARGET][:, :, :1]})
    return latents


def decode(family: Family, latents: Mapping[str, Tensor]) -> list[Made]:
    """Decode what was sampled, with the decoders of the streams that there are."""
    frames: list[np.ndarray | None] = [None] * NUM_JUDGED
    samples, rate_hz = list(frames), 0
    if "video" in latents:
        with family.video_codec(CPU) as video:
            frames = [video.decode(pictures).numpy() for pictures in latents["video"]]
    if "audio" in latents:
        with family.audio_codec(CPU) as audio:
            samples, rate_hz = [audio.decode(sound).numpy() for sound in latents["audio"]], audio.output_rate_hz
    return [Made(pictures, sound, rate_hz) for pictures, sound in zip(frames, samples, strict=True)]


def score(held: Class, made: Sequence[Made]) -> float:
    """Give the share of examples that were made as the lesson has it."""
    return sum(held.lesson.judge(*pair) for pair in zip(held.examples, made, strict=True)) / len(made)


def draw(held: Class, before: Sequence[Made], after: Sequence[Made], path: Path) -> None:
    """Draw the first example that the LoRA made as the lesson has it: what was given, the base's and the LoRA's."""
    right = [held.lesson.judge(*pair) for pair in zip(held.examples, after, strict=True)]
    number = right.index(True) if any(right) else 0
    mode = held.lesson.mode
    given = Shown("given", *_given(held, number))
    rows = [given] if held.lesson.is_conditional else []
    for name, made in (("base", before[number]), ("LoRA", after[number])):
        pictures = made.frames if mode.generates_video else None
        rows.append(Shown(name, pictures, None if "audio" in held.terms.frozen else made.samples, made.rate_hz))
    draw_strip(path, rows)


def _given(held: Class, number: int) -> tuple[np.ndarray | None, np.ndarray | None, int]:
    """Show what an example is given: its reference, or its target with what is generated greyed out."""
    example = held.examples[number]
    maker = BatchMaker(held.settings, held.family, held.cached, CPU, held.terms)
    streams = maker.make_measured(held.cached.examples[number], torch.Generator()).streams
    frames, samples = example.target.frames, example.target.samples
    reference = example.files.get(Role.REFERENCE) or example.files.get(Role.REFERENCE_SOUND)
    if reference is not None:
        return reference.frames, reference.samples, RATE_HZ
    if "video" in streams and frames is not None:
        frames = _kept_pixels(held, streams["video"], frames)
    if "audio" in streams and samples is not None:
        kept = streams["audio"].given[0].numpy()
        places = (np.arange(samples.shape[1]) * len(kept) // samples.shape[1]).clip(max=len(kept) - 1)
        samples = samples * kept[places]
    return frames, samples if "audio" in streams else None, RATE_HZ


def _kept_pixels(held: Class, stream: Stream, frames: np.ndarray) -> np.ndarray:
    """Grey out the pixels of a target that are generated; of keyframes, show those."""
    shown = np.full_like(frames, GREY)
    for role, frame in held.terms.keyframes:
        assert role in KEYFRAMES
        shown[frame] = frames[frame]
    assert held.terms.shape is not None, "asked of a mode with video"
    factors = held.family.facts.factors
    grid = held.terms.shape.latent_grid(factors)
    cells = stream.given[0, : stream.num_target].view(grid.frames, grid.rows, grid.columns)
    return np.where(spread_cells(cells, factors).numpy()[..., None], frames, shown)


def write_table(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write what was measured as JSON."""
    rows = [{**asdict(verdict), "fall": verdict.fall, "problems": verdict.problems} for verdict in verdicts]
    write_text(path, json.dumps(rows, indent=2))


def table_of(verdicts: Sequence[Verdict]) -> Table:
    """Lay out what was measured."""
    title = (
        f"{NUM_TRAINED} examples of seed {TRAINED_ON}, judged on {NUM_JUDGED} of seed {JUDGED_ON}; "
        f"noise of seed {NOISE} at {SIGMAS}"
    )
    table = Table("mode", "steps", "loss", "falls by", "strange worse", "score", "of clips in which", "s", title=title)
    for row in verdicts:
        table.add_row(
            row.mode,
            str(row.steps),
            f"{row.loss[0]:.3f} to {row.loss[1]:.3f}",
            f"{row.fall:.0%}",
            "" if row.worse is None else f"{row.worse} of {NUM_JUDGED}",
            f"{row.score[0]:.1f} to {row.score[1]:.1f}",
            row.says,
            f"{row.seconds:.0f}",
        )
    return table


if __name__ == "__main__":
    main()
