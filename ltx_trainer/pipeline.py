"""The run, top to bottom: a zip goes in, a checked LoRA comes out.

`look` works without torch, so that a refused config or archive is answered at once; `work` imports what needs it.
"""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import IntEnum
from fractions import Fraction
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from ltx_trainer import report
from ltx_trainer.artifacts import CachedSet, Clips, LeftOut, Preview, Role
from ltx_trainer.atomic import make_folder, write_text
from ltx_trainer.config import REQUEST_FRAMES_FACTOR, Settings, settings_as_yaml
from ltx_trainer.continuation import Identity, check_newest, run_identity
from ltx_trainer.errors import ConfigError
from ltx_trainer.geometry import ClipShape
from ltx_trainer.ingest import ingest_archive
from ltx_trainer.models import ModelFacts, check_groups, locate_model, read_model
from ltx_trainer.prepare import prepare_clips, prepare_previews

logger = logging.getLogger(__name__)


class Stage(IntEnum):
    """How far a run goes."""

    INSPECT = 1
    PREPARE = 2
    TRAIN = 3
    VALIDATE = 4
    RUN = 5


@dataclass(frozen=True)
class Space:
    """The folders of a run.

    Attributes:
        output: The run's own.
        cache: Shared by all runs.
    """

    output: Path
    cache: Path

    @property
    def checkpoints(self) -> Path:
        """What a stopped run goes on from."""
        return self.output / "checkpoints"


@dataclass(frozen=True)
class Plan:
    """What is known of a run before a weight is loaded.

    Attributes:
        facts: Of the base model.
        preview_shape: Of every preview.
        clips: What will be trained on.
        previews: What will be rendered.
        left_out: What will not be trained on, and why.
        identity: What a checkpoint must agree with to be continued, but for the base model's weights.
    """

    facts: ModelFacts
    preview_shape: ClipShape
    clips: Clips
    previews: tuple[Preview, ...]
    left_out: tuple[LeftOut, ...]
    identity: Identity


def run(settings: Settings, space: Space, until: Stage, console: Console) -> None:
    """Go through the stages up to `until`, each from what it finds done.

    Raises:
        TrainerError: As the stages say.
    """
    plan = look(settings, space)
    if until is Stage.INSPECT:
        report.show_data(console, plan.clips.clips, plan.left_out, with_audio=plan.clips.with_audio)
        return
    check_newest(space.checkpoints, plan.identity, settings.input.number_of_steps)
    work(settings, space, plan, until, console)


def look(settings: Settings, space: Space) -> Plan:
    """Find out what a run would do: read the archive, the model's facts and the media, without torch."""
    mode, request = settings.mode, settings.input
    make_folder(space.output)
    make_folder(space.cache)
    # Of several processes one does the work; the others wait and find it done.
    with _locked(space.cache / ".lock"):
        manifest = ingest_archive(Path(request.training_data_url).expanduser(), mode, space.cache / "archives")
        facts = read_model(locate_model(settings.model.base, mode.family, space.cache), mode.family)
        _check_against_model(settings, facts)
        shape = _shape(facts, request.resolution, request.aspect_ratio, request.number_of_frames, request.frame_rate)
        rate_hz = None if facts.audio is None else facts.audio.rate_hz
        clips = prepare_clips(
            request,
            mode,
            shape,
            manifest,
            space.cache / "scans",
            audio_rate_hz=rate_hz,
            frames_factor=math.lcm(REQUEST_FRAMES_FACTOR, facts.factors.frames),
        )
    preview_shape = _shape(
        facts,
        request.validation_resolution,
        request.validation_aspect_ratio,
        request.validation_number_of_frames,
        request.validation_frame_rate,
    )
    previews = prepare_previews(request, preview_shape)
    check_groups(settings.lora_targets(with_audio=clips.with_audio), with_audio=clips.with_audio)
    identity = run_identity(settings, clips, int(os.environ.get("WORLD_SIZE", "1")))
    return Plan(facts, preview_shape, clips, previews, (*manifest.left_out, *clips.left_out), identity)


def work(settings: Settings, space: Space, plan: Plan, until: Stage, console: Console) -> None:
    """Encode, train, render and export."""
    # torch takes seconds to import; a run that is refused above never comes here.
    from ltx_trainer import cache, export, train, validate
    from ltx_trainer.models.family import open_family
    from ltx_trainer.models.lora import attach_lora
    from ltx_trainer.processes import make_accelerator
    from ltx_trainer.report.board import open_board

    request, with_audio = settings.input, plan.clips.with_audio
    accelerator, dtype = make_accelerator(settings.training.precision)
    device, main = accelerator.device, accelerator.is_main_process
    family = open_family(plan.facts)
    sampling = validate.sampling_of(settings, family)
    lora_modules = family.lora_modules(settings.lora_targets(with_audio=with_audio))

    with accelerator.main_process_first():
        negative_prompt, still_crf = request.validation_negative_prompt, settings.validation.still_crf
        cached = cache.fill_cache(
            family,
            plan.clips,
            plan.previews,
            negative_prompt,
            space.cache,
            still_crf=still_crf,
            device=device,
            track=report.track(console),
        )
        base = cache.digest_of(family, "transformer", space.cache)
    identity = {
        **plan.identity,
        "clips left out while encoding": sorted(item.name for item in cached.left_out),
        "model.base": base,
        "training.precision": str(dtype),
    }
    start = check_newest(space.checkpoints, identity, request.number_of_steps)
    if main:
        _record(settings, space, plan, cached, console)
    if until is Stage.PREPARE:
        return

    generator = train.generator_for(settings.training.seed, "adapter")
    checkpointing = settings.training.gradient_checkpointing
    with (
        family.transformer(device, dtype, gradient_checkpointing=checkpointing) as transformer,
        open_board(space.output / "tensorboard", start=start, enabled=main) as board,
    ):
        attach_lora(
            transformer,
            lora_modules,
            rank=request.rank,
            alpha=settings.lora_alpha,
            dropout=settings.lora.dropout,
            generator=generator,
        )
        previews = validate.Previews(
            family,
            transformer,
            cached,
            sampling,
            space.output / "previews",
            accelerator,
            base=f"{base} {dtype}",
            on_render=board.add_render,
        )
        with report.training_progress(console, request.number_of_steps, enabled=main) as progress:
            adapter = train.train_adapter(
                settings,
                family,
                transformer,
                cached,
                space.checkpoints,
                identity=identity,
                accelerator=accelerator,
                hooks=[train.Hook(settings.validation.interval, previews.render)],
                observers=[progress.add_step, board.add_step],
            )
        if until is Stage.TRAIN:
            return
        render = previews.render(adapter.step)

    if until is Stage.VALIDATE or not main:
        return
    bundle = export.write_bundle(
        settings,
        family,
        adapter,
        render,
        space.output,
        shape=plan.clips.clips[0].footage[Role.TARGET].shape,
        preview_shape=plan.preview_shape,
        with_audio=with_audio,
        inference=asdict(sampling),
    )
    report.write_result(bundle, space.output)
    report.show_result(console, bundle)


def _record(settings: Settings, space: Space, plan: Plan, cached: CachedSet, console: Console) -> None:
    """Leave what is trained on, what is left out and why, and the settings, in the run's folder."""
    left_out = (*plan.left_out, *cached.left_out)
    failed = {item.name for item in cached.left_out}
    trained_on = [clip for clip in plan.clips.clips if clip.name not in failed]
    report.show_left_out(console, left_out)
    report.write_record(space.output, trained_on, left_out, with_audio=cached.with_audio)
    write_text(space.output / "config.yaml", settings_as_yaml(settings))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes, and say so where that takes waiting."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another run is looking at its data in %s; waiting for it.", path.parent)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_against_model(settings: Settings, facts: ModelFacts) -> None:
    """Refuse settings that only the base model shows to be wrong."""
    absent = [block for block in settings.validation.stg_blocks or () if block >= facts.num_blocks]
    if absent:
        raise ConfigError(
            f"validation.stg_blocks names block {absent[0]}; this model has blocks 0 to {facts.num_blocks - 1}. "
            "null takes the model family's own."
        )


def _shape(facts: ModelFacts, resolution: str, aspect_ratio: str, num_frames: int, frame_rate: int) -> ClipShape:
    """Look the size up in the model's own table, and hold it against what its VAE takes."""
    shape = ClipShape(num_frames, facts.resolutions[resolution][aspect_ratio], Fraction(frame_rate))
    shape.latent_grid(facts.factors)
    return shape
