"""Teach the miniatures every mode by the command line, and prove on examples that it has not seen that it learned.

python scripts/mode_check.py
python scripts/mode_check.py inpaint v2a --folder outputs/modes --pictures docs/pictures/modes

For each mode: an archive is written, `ltx_trainer run` trains on it and renders examples that are not in it as
previews, before and after, and the published LoRA is held against the base.

- The loss at fixed noise and noise levels falls by a fifth, in at most 200 steps.
- Each thing that the mode is given beside text makes the loss of the LoRA larger in nine of ten examples where it is
  another example's.
- Readers of pictures and sound see in the previews what the lesson teaches, which they do not see before.

A table is printed and written as JSON. The exit code is 1 if a mode fails.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from forked import start_command
from miniature.scores import Made, read_made
from mode_pictures import Shown, draw_strip
from mode_worlds import LESSONS, Example, Lesson, request_of, write_archive, write_item
from rich.console import Console
from rich.table import Table
from torch import nn

from ltx_trainer.artifacts import CachedSet
from ltx_trainer.atomic import write_text
from ltx_trainer.cache.fill import fill_cache
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings, load_settings
from ltx_trainer.diffusion import Stream
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.lora import adapter_enabled, attach_lora, load_warm_start
from ltx_trainer.models.miniature import write_miniature
from ltx_trainer.modes import Condition
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.report import track
from ltx_trainer.train.batch import Batch, BatchMaker
from ltx_trainer.train.step import draw_noise, generated, losses_at, stream_weights

CPU = torch.device("cpu")
NUM_STEPS = 200
NUM_TRAINED, NUM_JUDGED = 40, 10
TRAINED_ON, JUDGED_ON, NOISE = 31, 32, 33
RANK, LEARNING_RATE = 16, 2e-3
SIGMAS = (0.6, 0.9)
Changes = Mapping[str, Mapping[str, object]]
SAMPLING: Changes = {"validation": {"steps": 20}}
"""What the settings say of how previews are sampled, by section."""

LEAST_FALL = 0.2
LEAST_WORSE = 0.9
LEAST_SCORE, LEAST_GAIN = 0.6, 0.3
"""A lesson of which the base knows too much to gain that is too easy."""


@dataclass(frozen=True)
class Verdict:
    """What was measured of one mode.

    Attributes:
        mode: The lesson's name.
        steps: Optimizer updates.
        judged: How many examples it was measured on.
        loss: Mean loss at fixed noise, before and after.
        worse: How many examples the LoRA knows less well by another's, for each thing that is given beside text.
        score: Share of examples made as the lesson has it, before and after.
        says: What that is.
        seconds: That the training took.
    """

    mode: str
    steps: int
    judged: int
    loss: tuple[float, float]
    worse: Mapping[str, int]
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
            f"{self.steps} steps": self.steps <= NUM_STEPS,
            f"the loss falls by {self.fall:.0%}": self.fall >= LEAST_FALL,
            **{
                f"another's {what} is worse in {count} of {self.judged}": count >= LEAST_WORSE * self.judged
                for what, count in self.worse.items()
            },
            f"the score goes from {before:.1f} to {after:.1f}": after >= LEAST_SCORE
            and round(after - before, 6) >= LEAST_GAIN,
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
    known = [lesson.name for lesson in LESSONS]
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
    verdicts = []
    for lesson in LESSONS:
        if not options.modes or lesson.name in options.modes:
            base = options.folder / "base" / lesson.mode.family
            if not base.is_dir():
                write_miniature(lesson.mode.family, base)
            verdict = check(lesson, base, options.folder / lesson.name, options.steps, options.pictures)
            console.print(f"{verdict.mode}: {'; '.join(verdict.problems) or 'learned'}", highlight=False)
            verdicts.append(verdict)
            # After each, so that a stopped check leaves what it found.
            write_table(options.folder / "modes.json", verdicts)
    console.print(table_of(verdicts))
    sys.exit(int(any(verdict.problems for verdict in verdicts)))


def check(
    lesson: Lesson,
    base: Path,
    folder: Path,
    steps: int,
    pictures: Path | None,
    sampling: Changes = SAMPLING,
    judged: int = NUM_JUDGED,
) -> Verdict:
    """Train on a lesson by the command line, and judge the LoRA on examples that it has not seen.

    Args:
        lesson: What is taught.
        base: The miniature's folder.
        folder: For the archives and the run.
        steps: Optimizer updates.
        pictures: Where a picture of what was learned goes; None for none.
        sampling: Of the previews.
        judged: How many examples the LoRA is judged on.
    """
    began = time.monotonic()
    examples = lesson.examples(judged, JUDGED_ON)
    output = teach(lesson, examples, base, folder, steps, sampling)
    seconds = time.monotonic() - began
    held = open_class(lesson, examples, base, folder)
    with student(held, output / "lora.safetensors") as transformer:
        with adapter_enabled(transformer, on=False):
            before = losses_of(held, transformer)
        after = losses_of(held, transformer)
        strange = {what: losses_of(held, transformer, strange=what) for what in given_of(held)}
    made = [read_previews(lesson, output, step) for step in (0, steps)]
    if pictures is not None:
        draw(lesson, examples, output, made, pictures / f"{lesson.name}.png")
    return Verdict(
        mode=lesson.name,
        steps=steps,
        judged=judged,
        loss=(float(np.mean(before)), float(np.mean(after))),
        worse={what: sum(map(float.__gt__, losses, after)) for what, losses in strange.items()},
        score=(score(lesson, examples, made[0]), score(lesson, examples, made[1])),
        says=lesson.says,
        seconds=round(seconds, 1),
    )


def teach(
    lesson: Lesson,
    examples: Sequence[Example],
    base: Path,
    folder: Path,
    steps: int,
    sampling: Changes,
) -> Path:
    """Run the command line on a lesson's archive, and give the folder of its results.

    Args:
        lesson: What is taught.
        examples: What is rendered as previews.
        base: The miniature's folder.
        folder: For the archive and the run.
        steps: Optimizer updates.
        sampling: Of the previews.

    Raises:
        SystemExit: The run failed; its message is shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = write_archive(folder / "train.zip", lesson, lesson.examples(NUM_TRAINED, TRAINED_ON))
    items = [write_item(folder / f"item-{number}", lesson, example) for number, example in enumerate(examples)]
    body = body_of(lesson, base, folder, request_of(lesson, archive, items), steps, sampling)
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(body), encoding="utf-8")
    output = folder / "out"
    out, err = folder / "out.txt", folder / "err.txt"
    process = start_command(["run", str(config), "--output", str(output)], out, err)
    process.join()
    if process.exitcode:
        sys.exit(f"{lesson.name}: {err.read_text().strip() or out.read_text().strip()}")
    check_result(lesson, output)
    return output


def body_of(
    lesson: Lesson,
    base: Path,
    folder: Path,
    request: Mapping[str, object],
    steps: int,
    sampling: Changes = SAMPLING,
) -> dict[str, object]:
    """Give the settings of a run."""
    return {
        "endpoint": lesson.mode.endpoint,
        "input": {
            **request,
            "rank": RANK,
            "learning_rate": LEARNING_RATE,
            "number_of_steps": steps,
            **sampling.get("input", {}),
        },
        "model": {"base": str(base)},
        "training": {"gradient_checkpointing": False},
        "validation": {"interval": None, "beside_base": False, **sampling["validation"]},
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
        sys.exit(f"{lesson.name}: the result has {', '.join(result)}, and no {preview}.")


def open_class(lesson: Lesson, examples: Sequence[Example], base: Path, folder: Path) -> Class:
    """Write examples that were not trained on, and encode them as a run does."""
    request = request_of(lesson, write_archive(folder / "held-out.zip", lesson, examples), [])
    if Condition.FIRST_FRAME in lesson.mode.conditions:
        request["first_frame_conditioning_p"] = float(
            lesson.is_conditional and Condition.REFERENCE not in lesson.mode.conditions
        )
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
        still_crf=settings.validation.still_crf,
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


def given_of(held: Class) -> list[str]:
    """Name what is given of each stream: what is kept of the target, and what is joined to it."""
    streams = next(_batches(held)).streams
    return [
        f"{name} {part}"
        for name, stream in streams.items()
        for part, slots in _parts(stream).items()
        if stream.given[:, slots].any()
    ]


def _parts(stream: Stream) -> dict[str, slice]:
    return {"kept": slice(0, stream.num_target), "joined": slice(stream.num_target, None)}


def _batches(held: Class) -> Iterator[Batch]:
    maker = BatchMaker(held.settings, held.family, held.cached, CPU, held.terms)
    return (maker.make_measured(example, torch.Generator().manual_seed(NOISE)) for example in held.cached.examples)


@torch.no_grad()
def losses_of(held: Class, transformer: nn.Module, *, strange: str = "") -> list[float]:
    """Give the loss of each example as training weights it, on noise that no training drew.

    Args:
        held: The examples.
        transformer: The base, with the LoRA or without.
        strange: What each is given of the next, as `given_of` names it; empty for nothing.
    """
    batches = list(_batches(held))
    if strange:
        pairs = zip(batches, batches[1:] + batches[:1], strict=True)
        batches = [_with_part_of(one, other, *strange.split()) for one, other in pairs]
    return [_loss_of(held, transformer, batch, NOISE + number) for number, batch in enumerate(batches)]


def _with_part_of(batch: Batch, other: Batch, name: str, part: str) -> Batch:
    """Put what is given of another batch in the place of what is given of one, in one part of one stream."""
    own, theirs = batch.streams[name], other.streams[name]
    swapped = torch.zeros_like(own.given)
    slots = _parts(own)[part]
    swapped[:, slots] = own.given[:, slots]
    mixed = replace(own, clean=torch.where(swapped[..., None], theirs.clean, own.clean))
    return replace(batch, streams={**batch.streams, name: mixed})


def _loss_of(held: Class, transformer: nn.Module, batch: Batch, seed: int) -> float:
    generator, weights = torch.Generator().manual_seed(seed), stream_weights(held.settings.training)
    totals = []
    for sigma in SIGMAS:
        levels = {name: torch.full((1,), sigma) for name in generated(batch.streams)}
        losses = losses_at(held.family, transformer, batch, levels, draw_noise(batch.streams, generator))
        totals.append(sum(weights[name] * float(loss) for name, loss in losses.items()))
    return float(np.mean(totals))


def read_previews(lesson: Lesson, output: Path, step: int, name: str = "item") -> list[Made]:
    """Read what was rendered of the examples at a step, or what was given of them; that is not there of text alone."""
    extension = "mp4" if lesson.mode.generates_video else "wav"
    place = output / "previews" / f"step-{step:06d}"
    files = [place / f"{name}-{number + 1}.{extension}" for number in range(NUM_JUDGED)]
    return [read_made(file) for file in files if file.is_file()]


def score(lesson: Lesson, examples: Sequence[Example], made: Sequence[Made]) -> float:
    """Give the share of examples that were made as the lesson has it."""
    return sum(lesson.judge(*pair) for pair in zip(examples, made, strict=True)) / len(made)


def draw(lesson: Lesson, examples: Sequence[Example], output: Path, made: Sequence[Sequence[Made]], path: Path) -> None:
    """Draw the first example that the LoRA made as the lesson has it: what was given, the base's and the LoRA's."""
    right = [lesson.judge(*pair) for pair in zip(examples, made[-1], strict=True)]
    number = right.index(True) if any(right) else 0
    given = read_previews(lesson, output, 0, "input")
    rows = [_shown("given", given[number])] if given else []
    if lesson.mode.has_video and not lesson.mode.generates_video:
        rows = [Shown("given", examples[number].target.frames)]
    rows += [_shown(name, clips[number]) for name, clips in zip(("base", "LoRA"), made, strict=True)]
    draw_strip(path, rows)


def _shown(name: str, made: Made) -> Shown:
    return Shown(name, made.frames, made.samples, made.rate_hz)


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
    table = Table(
        "mode",
        "steps",
        "loss",
        "falls by",
        f"strange worse, of {NUM_JUDGED}",
        "score",
        "of clips in which",
        "s",
        title=title,
    )
    for row in verdicts:
        table.add_row(
            row.mode,
            str(row.steps),
            f"{row.loss[0]:.3f} to {row.loss[1]:.3f}",
            f"{row.fall:.0%}",
            ", ".join(f"{what} {count}" for what, count in row.worse.items()),
            f"{row.score[0]:.1f} to {row.score[1]:.1f}",
            row.says,
            f"{row.seconds:.0f}",
        )
    return table


if __name__ == "__main__":
    main()
