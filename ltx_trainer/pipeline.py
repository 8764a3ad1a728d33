"""The run, top to bottom: an archive goes in, a checked LoRA comes out.

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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from rich.console import Console

from ltx_trainer import report
from ltx_trainer.artifacts import CachedSet, Clips, LeftOut, Manifest, Preview, Role
from ltx_trainer.atomic import make_folder, write_text
from ltx_trainer.config import REQUEST_FRAMES_FACTOR, Settings, settings_as_yaml
from ltx_trainer.continuation import Identity, check_newest, run_identity
from ltx_trainer.download import fetch
from ltx_trainer.errors import ConfigError
from ltx_trainer.geometry import ClipShape
from ltx_trainer.ingest import ingest_archive
from ltx_trainer.models import ModelFacts, check_groups, check_warm_start, locate_model, lora_modules, read_model
from ltx_trainer.prepare import check_complete, check_loss, prepare_clips, prepare_previews
from ltx_trainer.report.wandb_log import check_wandb, open_wandb

if TYPE_CHECKING:
    import torch

    from ltx_trainer.models.family import Family

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
        manifest: What the archive holds.
        clips: What will be trained on.
        previews: What will be rendered.
        identity: What a checkpoint must agree with to be continued, but for the base model's weights.
    """

    facts: ModelFacts
    preview_shape: ClipShape
    manifest: Manifest
    clips: Clips
    previews: tuple[Preview, ...]
    identity: Identity

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What will not be trained on, and why."""
        return (*self.manifest.left_out, *self.clips.left_out)


def run(settings: Settings, space: Space, until: Stage, console: Console) -> None:
    """Go through the stages up to `until`, each from what it finds done.

    Raises:
        TrainerError: As the stages say.
    """
    plan = look(settings, space, console)
    if until is Stage.INSPECT:
        report.show_data(console, plan.clips.clips, plan.left_out, with_audio=plan.clips.with_audio)
        return
    check_newest(space.checkpoints, plan.identity, settings.input.number_of_steps)
    work(settings, space, plan, until, console)


def look(settings: Settings, space: Space, console: Console | None = None) -> Plan:
    """Find out what a run would do: fetch and read the archive, the model's facts and the media, without torch."""
    mode, request = settings.mode, settings.input
    check_wandb(settings.report.wandb_project)
    make_folder(space.output)
    make_folder(space.cache)
    show = report.download_progress(console or Console(quiet=True))
    find = partial(fetch, folder=space.cache / "downloads", limits=settings.downloads, show=show)
    # Of several processes one does the work; the others wait and find it done.
    with _locked(space.cache / ".lock"):
        source = find(request.training_data_url, what="input.training_data_url")
        manifest = ingest_archive(source, mode, space.cache, mixed=settings.data.mixed, ours=[space.output])
        check_complete(manifest, settings.data)
        facts = _read_base(settings, space)
        shape, preview_shape = _training_shape(facts, settings), _preview_shape(facts, settings)
        previews = prepare_previews(request, preview_shape, find)
        clips = prepare_clips(
            request,
            mode,
            shape,
            manifest,
            space.cache / "scans",
            audio_rate_hz=None if facts.audio is None else facts.audio.rate_hz,
            frames_factor=math.lcm(REQUEST_FRAMES_FACTOR, facts.factors.frames),
        )
    check_loss(manifest, clips, settings.data)
    _check_adapter(settings, facts, with_audio=clips.with_audio)
    identity = run_identity(settings, clips, int(os.environ.get("WORLD_SIZE", "1")))
    return Plan(facts, preview_shape, manifest, clips, previews, identity)


def work(settings: Settings, space: Space, plan: Plan, until: Stage, console: Console) -> None:
    """Encode, train, render and export."""
    # torch takes seconds to import; a run that is refused above never comes here.
    from ltx_trainer import cache, export, train, validate
    from ltx_trainer.models.family import open_family
    from ltx_trainer.processes import make_accelerator, on_main

    request, with_audio = settings.input, plan.clips.with_audio
    accelerator, dtype = make_accelerator(settings.training.precision)
    main = accelerator.is_main_process
    family = open_family(plan.facts)
    sampling = validate.sampling_of(settings, family)

    cached = cache.fill_cache(
        family,
        plan.clips,
        plan.previews,
        request.validation_negative_prompt,
        space.cache,
        still_crf=settings.validation.still_crf,
        accelerator=accelerator,
        track=report.track(console),
    )
    check_loss(plan.manifest, plan.clips, settings.data, failed=cached.left_out)
    base = cache.digest_of(family, "transformer", space.cache)
    identity = _whole_identity(plan, cached, base, dtype)
    start = check_newest(space.checkpoints, identity, request.number_of_steps)
    _, held_out = train.split_held_out(cached.examples, settings)
    if main:
        _record(settings, space, plan, cached, frozenset(example.name for example in held_out), console)
    debug_dataset = on_main(lambda: _debug_dataset(settings, space, plan, cached, family, accelerator.device))
    if until is Stage.PREPARE:
        return

    checkpointing = settings.training.gradient_checkpointing
    with (
        _open_logs(settings, space, console, start=start, enabled=main) as logs,
        family.transformer(accelerator.device, dtype, gradient_checkpointing=checkpointing) as transformer,
    ):
        logs.add_event(report.describe_start(settings, step=start, processes=accelerator.num_processes))
        logs.add_event(_describe_data(plan, cached, len(held_out)))
        _attach_adapter(settings, family, transformer, with_audio=with_audio)
        previews = validate.Previews(
            family,
            transformer,
            cached,
            sampling,
            space.output / "previews",
            accelerator,
            base=f"{base} {dtype}",
            on_render=logs.add_render,
        )
        adapter = train.train_adapter(
            settings,
            family,
            transformer,
            cached,
            space.checkpoints,
            identity=identity,
            accelerator=accelerator,
            hooks=[train.Hook(settings.validation.interval, previews.render)],
            observers=[logs.add_step],
            on_event=logs.add_event,
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
            debug_dataset=debug_dataset,
        )
        logs.add_event(report.describe_result(bundle))
    report.write_result(bundle, space.output)
    report.show_result(console, bundle)


def _record(
    settings: Settings, space: Space, plan: Plan, cached: CachedSet, held_out: frozenset[str], console: Console
) -> None:
    """Leave what is trained on, what is left out and why, and the settings, in the run's folder."""
    left_out = (*plan.left_out, *cached.left_out)
    failed = {item.name for item in cached.left_out}
    trained_on = [clip for clip in plan.clips.clips if clip.name not in failed]
    report.show_left_out(console, left_out)
    write_text(space.output / "config.yaml", settings_as_yaml(settings))
    report.write_record(space.output, trained_on, left_out, with_audio=cached.with_audio, held_out=held_out)


def _debug_dataset(
    settings: Settings, space: Space, plan: Plan, cached: CachedSet, family: "Family", device: "torch.device"
) -> Path | None:
    """Pack what training sees, if that is asked for."""
    from ltx_trainer.export import write_debug_dataset

    if not settings.input.debug_dataset:
        return None
    shown, record = settings.data.debug_from, space.output / report.RECORD
    return write_debug_dataset(plan.clips, cached, family, space.output, source=shown, record=record, device=device)


def _describe_data(plan: Plan, cached: CachedSet, num_held_out: int) -> report.Event:
    left_out = (*plan.left_out, *cached.left_out)
    num_clips = len(cached.examples) - num_held_out
    return report.describe_data(num_clips, num_held_out, left_out, with_audio=cached.with_audio)


def _whole_identity(plan: Plan, cached: CachedSet, base: str, dtype: "torch.dtype") -> Identity:
    """Add to the plan's identity what only the encoded data and the weights show."""
    return {
        **plan.identity,
        "clips left out while encoding": sorted(item.name for item in cached.left_out),
        "model.base": base,
        "training.precision": str(dtype),
    }


@contextmanager
def _open_logs(
    settings: Settings, space: Space, console: Console, *, start: int, enabled: bool
) -> Iterator[report.Logs]:
    """Open everyone who is told of the training; in every process but the main one, they stay silent."""
    from ltx_trainer.report.board import open_board

    with (
        report.open_events(space.output, start=start, enabled=enabled) as events,
        open_board(space.output / "tensorboard", start=start, enabled=enabled) as board,
        open_wandb(space.output, settings, start=start, enabled=enabled) as wandb,
        report.training_progress(console, settings.input.number_of_steps, enabled=enabled) as progress,
    ):
        yield report.Logs(events, board, wandb, progress)


def _attach_adapter(settings: Settings, family: "Family", transformer: "torch.nn.Module", *, with_audio: bool) -> None:
    """Attach the LoRA: fresh, or as a file has it."""
    from ltx_trainer.models.lora import attach_lora, load_warm_start
    from ltx_trainer.train import generator_for

    attach_lora(
        transformer,
        family.lora_modules(settings.lora_targets(with_audio=with_audio)),
        rank=settings.input.rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora.dropout,
        generator=generator_for(settings.training.seed, "adapter"),
    )
    if settings.model.lora is not None:
        load_warm_start(transformer, settings.model.lora.expanduser())


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


def _read_base(settings: Settings, space: Space) -> ModelFacts:
    """Find or fetch the base model, and refuse what does not fit the settings."""
    model, family = settings.model, settings.mode.family
    located = locate_model(
        model.base,
        family,
        space.cache,
        revision=model.revision,
        text_encoder=model.text_encoder,
        text_encoder_revision=model.text_encoder_revision,
        allow_unsuitable_base=model.allow_unsuitable_base,
    )
    facts = read_model(located, family, allow_unsuitable_base=model.allow_unsuitable_base)
    absent = [block for block in settings.validation.stg_blocks or () if block >= facts.num_blocks]
    if absent:
        raise ConfigError(
            f"validation.stg_blocks names block {absent[0]}; this model has blocks 0 to {facts.num_blocks - 1}. "
            "null takes the model family's own."
        )
    return facts


def _check_adapter(settings: Settings, facts: ModelFacts, *, with_audio: bool) -> None:
    """Refuse an adapter that no block has or that a silent run cannot train, and a warm start that does not fit."""
    if settings.training.video_loss_weight == 0 and not with_audio:
        raise ConfigError("training.video_loss_weight 0 leaves nothing to learn in a silent run. 1 works.")
    groups = settings.lora_targets(with_audio=with_audio)
    check_groups(groups, with_audio=with_audio)
    if settings.model.lora is not None:
        check_warm_start(settings.model.lora.expanduser(), lora_modules(groups, facts.num_blocks), settings.input.rank)


def _training_shape(facts: ModelFacts, settings: Settings) -> ClipShape:
    request = settings.input
    return _shape(facts, request.resolution, request.aspect_ratio, request.number_of_frames, request.frame_rate)


def _preview_shape(facts: ModelFacts, settings: Settings) -> ClipShape:
    request = settings.input
    return _shape(
        facts,
        request.validation_resolution,
        request.validation_aspect_ratio,
        request.validation_number_of_frames,
        request.validation_frame_rate,
    )


def _shape(facts: ModelFacts, resolution: str, aspect_ratio: str, num_frames: int, frame_rate: int) -> ClipShape:
    """Look the size up in the model's own table, and hold it against what its VAE takes."""
    shape = ClipShape(num_frames, facts.resolutions[resolution][aspect_ratio], Fraction(frame_rate))
    shape.latent_grid(facts.factors)
    return shape
