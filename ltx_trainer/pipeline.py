"""The run, top to bottom: an archive goes in, a checked LoRA comes out.

`look` works without torch, so that a refused config or archive is answered at once; `work` imports what needs it.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ltx_trainer import report
from ltx_trainer.artifacts import Adapter, Bundle, CachedSet, Clips, LeftOut, Manifest, Preview, Render
from ltx_trainer.atomic import locked, make_folder, write_text
from ltx_trainer.cache import find_filled
from ltx_trainer.caption import find_lacking
from ltx_trainer.conditions import Terms, describe_conditions, terms_of
from ltx_trainer.config import REQUEST_FRAMES_FACTOR, Settings, settings_as_yaml
from ltx_trainer.continuation import Identity, check_newest, encoded_identity, run_identity
from ltx_trainer.download import fetch
from ltx_trainer.errors import ConfigError, GeometryError
from ltx_trainer.geometry import ClipShape
from ltx_trainer.held_out import split_held_out
from ltx_trainer.ingest import ingest_archive
from ltx_trainer.launcher import is_main_process, num_processes
from ltx_trainer.media import Spool, opened_spool
from ltx_trainer.models import (
    Captioner,
    ModelFacts,
    check_groups,
    check_warm_start,
    locate_captioner,
    locate_model,
    lora_modules,
    read_model,
)
from ltx_trainer.prepare import check_complete, check_loss, prepare_clips, prepare_previews, settle_previews
from ltx_trainer.report.wandb_log import check_wandb, open_wandb
from ltx_trainer.survey import Survey, after_encoding, survey_data

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

    from ltx_trainer.models.family import Family
    from ltx_trainer.validate import Previews

logger = logging.getLogger(__name__)

SETTINGS = "config.yaml"
"""Name of the settings in a run's folder; they are there once everything is encoded."""


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

    @property
    def spool(self) -> Path:
        """Decoded pictures that wait for the encoder; in the run's own folder, which no other run has."""
        return self.output / "spool"


@dataclass(frozen=True)
class Plan:
    """What is known of a run before a weight is loaded.

    Attributes:
        facts: Of the base model.
        terms: What every clip becomes, and what is given of it.
        preview_terms: Likewise of every preview.
        manifest: What the archive holds.
        clips: What will be trained on.
        lacking: Names of the clips whose captions a model is still to write.
        captioner: Which model that is; None where no caption lacks, or none is to be written.
        previews: What will be rendered.
        identity: What a checkpoint must agree with to be continued, but for the base model's weights, and for the clips
            as long as captions lack.
    """

    facts: ModelFacts
    terms: Terms
    preview_terms: Terms
    manifest: Manifest
    clips: Clips
    lacking: frozenset[str]
    captioner: Captioner | None
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
    with opened_spool(space.spool, settings.data.spool_gb) as spool:
        plan = look(settings, space, console, spool)
        if until is Stage.INSPECT:
            report.show_data(
                console,
                plan.clips.clips,
                plan.left_out,
                with_audio=plan.clips.with_audio,
                conditions=_conditions(settings, plan),
            )
            if plan.captioner is not None:
                report.show_lacking(console, len(plan.lacking), plan.captioner.source)
        else:
            check_newest(space.checkpoints, plan.identity, settings.input.number_of_steps)
        folder = _folder_of_inspection(space) if until is Stage.INSPECT else space.output
        survey = _survey(settings, space, plan, folder, console, spool) if is_main_process() else None
        if until is Stage.INSPECT or (until is Stage.PREPARE and _is_prepared(settings, space, plan, console, survey)):
            return
        work(settings, space, plan, until, console, spool, survey)


def look(settings: Settings, space: Space, console: Console | None = None, spool: Spool | None = None) -> Plan:
    """Find out what a run would do: fetch and read the archive, the model's facts and the media, without torch.

    Args:
        settings: Of the run.
        space: Its folders.
        console: Where to show how far it is.
        spool: Where the pictures of clips are kept that are decoded on the way.
    """
    mode, request = settings.mode, settings.input
    check_wandb(settings.report.wandb_project)
    make_folder(space.output)
    make_folder(space.cache)
    show = report.download_progress(console or Console(quiet=True))
    find = partial(fetch, folder=space.cache / "downloads", limits=settings.downloads, show=show)
    source = find(request.training_data_url, what="input.training_data_url")
    waiting = f"Another run is looking at its data in {space.cache}; waiting for it."
    # Of several processes one does the work; the others wait and find it done.
    with locked(space.cache / ".lock", waiting=waiting):
        manifest = ingest_archive(
            source,
            mode,
            space.cache,
            mixed=settings.data.mixed or mode.mixed,
            needs_caption=mode.needs_caption and not (request.trigger_phrase.strip() or settings.captions.auto),
            ours=[space.output],
        )
    # What needs no media comes first.
    check_complete(manifest.left_out, settings.data)
    facts = _read_base(settings, space)
    terms, preview_terms = _terms(facts, settings)
    scans = space.cache / "scans"
    audio_rate_hz, sound_grid = (None, None) if facts.audio is None else (facts.audio.rate_hz, facts.audio.grid)
    with locked(space.cache / ".lock", waiting=waiting):
        previews = prepare_previews(
            request,
            mode,
            preview_terms,
            find,
            scans,
            audio=settings.audio,
            audio_rate_hz=audio_rate_hz,
            sound_grid=sound_grid,
        )
        clips = prepare_clips(
            request,
            mode,
            terms,
            manifest,
            scans,
            audio=settings.audio,
            audio_rate_hz=audio_rate_hz,
            sound_grid=sound_grid,
            frames_factor=math.lcm(REQUEST_FRAMES_FACTOR, facts.factors.frames),
            data=settings.data,
            spool=spool,
            track=None if console is None else report.track(console),
            captions_follow=settings.captions.auto,
        )
    check_complete(clips.left_out, settings.data)
    previews = settle_previews(previews, mode, with_audio=clips.with_audio)
    check_loss(manifest, clips, settings.data)
    _check_adapter(settings, facts, terms, with_audio=clips.with_audio)
    lacking = find_lacking(manifest, clips) if settings.captions.auto else frozenset()
    captioner = locate_captioner(settings.captions.model, settings.captions.revision, facts) if lacking else None
    identity = _identity(settings, clips)
    if lacking:
        identity = {name: value for name, value in identity.items() if name != "clips"}
    return Plan(facts, terms, preview_terms, manifest, clips, lacking, captioner, previews, identity)


def work(
    settings: Settings,
    space: Space,
    plan: Plan,
    until: Stage,
    console: Console,
    spool: Spool,
    survey: Survey | None = None,
) -> None:
    """Write the captions that lack, encode, train, render and export.

    Args:
        settings: Of the run.
        space: Its folders.
        plan: From `look`.
        until: The last stage.
        console: Where to show how far it is.
        spool: Where pictures may lie decoded; it is empty in the end.
        survey: Of the data; the main process has one.
    """
    # torch takes seconds to import; a run that is refused above never comes here.
    from ltx_trainer.models.family import open_family
    from ltx_trainer.processes import make_accelerator, on_main

    accelerator, dtype = make_accelerator(settings.training.precision)
    main = accelerator.is_main_process
    job = _Job(settings, space, plan, open_family(plan.facts), accelerator, dtype, console, spool, survey)
    on_main(job.family.check_weights)
    job = replace(job, plan=_captioned(job))
    encoded = _encode(job)
    on_main(spool.clear)
    if main:
        _record(settings, space, job.plan, console, survey, encoded.cached)
    debug_dataset = on_main(lambda: _debug_dataset(job, encoded))
    if until is Stage.PREPARE:
        return
    with _open_logs(job, encoded) as logs, _transformer(job) as transformer:
        previews = _previews(job, encoded, transformer, logs)
        adapter = _train(job, encoded, transformer, previews, logs)
        if until is Stage.TRAIN:
            return
        render = previews.render(adapter.step)
        if until is Stage.VALIDATE or not main:
            return
        bundle = _export(job, encoded, adapter, render, debug_dataset)
        logs.add_event(report.describe_result(bundle))
    report.write_result(bundle, space.output)
    report.show_result(console, bundle)


@dataclass(frozen=True)
class _Job:
    """What every part of the work needs."""

    settings: Settings
    space: Space
    plan: Plan
    family: "Family"
    accelerator: "Accelerator"
    dtype: "torch.dtype"
    console: Console
    spool: Spool
    survey: Survey | None


@dataclass(frozen=True)
class _Encoded:
    """What there is once everything is encoded.

    Attributes:
        cached: The tensors.
        left_out: Everything that is not trained on, and why.
        held_out: Names of the clips that are only measured on.
        base: Digest of the transformer.
        identity: What a checkpoint must agree with to be continued.
        start: The step that training goes on from.
    """

    cached: CachedSet
    left_out: tuple[LeftOut, ...]
    held_out: frozenset[str]
    base: str
    identity: Identity
    start: int


def _captioned(job: _Job) -> Plan:
    """Have the captions written that lack; nothing is left to be settled of the clips then."""
    from ltx_trainer.caption.fill import caption_clips

    settings, space, plan = job.settings, job.space, job.plan
    if plan.captioner is None:
        return plan
    clips = caption_clips(
        plan.clips,
        plan.lacking,
        plan.captioner,
        settings.captions,
        settings.input,
        space.cache,
        accelerator=job.accelerator,
        track=report.track(job.console),
    )
    check_loss(plan.manifest, clips, settings.data)
    identity = _identity(settings, clips)
    check_newest(space.checkpoints, identity, settings.input.number_of_steps)
    return replace(plan, clips=clips, lacking=frozenset(), captioner=None, identity=identity)


def _encode(job: _Job) -> _Encoded:
    """Encode what is not in the cache, and settle whether the run may go on from what it finds."""
    from ltx_trainer.cache.fill import digest_of, fill_cache

    settings, space, plan = job.settings, job.space, job.plan
    cached = fill_cache(
        job.family,
        plan.clips,
        plan.previews,
        settings.input.validation_negative_prompt,
        space.cache,
        spool=job.spool,
        workers=settings.data.workers,
        still_crf=settings.validation.still_crf,
        accelerator=job.accelerator,
        track=report.track(job.console),
    )
    check_loss(plan.manifest, plan.clips, settings.data, failed=cached.left_out)
    base = digest_of(job.family, "transformer", space.cache)
    identity = {
        **plan.identity,
        "encoded clips": encoded_identity(cached),
        "model.base": base,
        "training.precision": str(job.dtype),
    }
    start = check_newest(space.checkpoints, identity, settings.input.number_of_steps)
    return _Encoded(cached, (*plan.left_out, *cached.left_out), _held_out(settings, cached), base, identity, start)


def _folder_of_inspection(space: Space) -> Path:
    """Give where `inspect` leaves its report: the run's folder, or one in it where a run has left its own.

    The run's tells which clips are held out and which captions were written, which is not known without the model.
    """
    if not (space.output / SETTINGS).is_file():
        return space.output
    folder = space.output / "inspect"
    make_folder(folder)
    return folder


def _survey(settings: Settings, space: Space, plan: Plan, folder: Path, console: Console, spool: Spool) -> Survey:
    """Look at a little of every clip, leave what that tells in a folder, and say where it will disappoint."""
    survey = survey_data(
        plan.clips,
        plan.left_out,
        plan.previews,
        space.cache / "glimpses",
        title=settings.endpoint,
        run=space.output.resolve().name,
        shape=plan.terms.shape,
        audio_rate_hz=None if plan.facts.audio is None else plan.facts.audio.rate_hz,
        conditions=_conditions(settings, plan),
        lacking=plan.lacking,
        decoded=settings.report.dataset_page,
        spool=spool,
        workers=settings.data.workers,
        track=report.track(console),
    )
    _write_survey(settings, folder, survey)
    report.show_advice(console, survey.advice, folder / report.PAGE if settings.report.dataset_page else None)
    return survey


def _write_survey(settings: Settings, output: Path, survey: Survey) -> None:
    report.write_record(output, survey)
    if settings.report.dataset_page:
        report.write_page(output, survey)


def _is_prepared(settings: Settings, space: Space, plan: Plan, console: Console, survey: Survey | None) -> bool:
    """Say whether everything is encoded already; if so, the run's folder says so too. It takes no torch to tell."""
    if plan.captioner is not None or settings.input.debug_dataset or num_processes() > 1:
        return False
    cached = find_filled(
        plan.facts,
        plan.clips,
        plan.previews,
        settings.input.validation_negative_prompt,
        space.cache,
        still_crf=settings.validation.still_crf,
    )
    if cached is None:
        return False
    logger.info("%d clips and their prompts are encoded already.", len(cached.examples))
    _record(settings, space, plan, console, survey, cached)
    return True


def _held_out(settings: Settings, cached: CachedSet) -> frozenset[str]:
    return frozenset(example.name for example in split_held_out(cached.examples, settings)[1])


def _record(
    settings: Settings, space: Space, plan: Plan, console: Console, survey: Survey | None, cached: CachedSet
) -> None:
    """Leave what is trained on, what is left out and why, and the settings, in the run's folder."""
    output, left_out = space.output, (*plan.left_out, *cached.left_out)
    failed = {item.name for item in cached.left_out}
    encoded_clips = [clip for clip in plan.clips.clips if clip.name not in failed]
    report.show_conditions(console, _conditions(settings, plan))
    report.show_left_out(console, left_out)
    write_text(output / SETTINGS, settings_as_yaml(settings))
    if survey is not None:
        survey = after_encoding(survey, encoded_clips, left_out, _held_out(settings, cached))
        _write_survey(settings, output, survey)


def _conditions(settings: Settings, plan: Plan) -> list[dict[str, Any]]:
    return describe_conditions(settings.mode, settings.input, plan.terms, plan.facts.factors)


def _debug_dataset(job: _Job, encoded: _Encoded) -> Path | None:
    """Pack what training sees, if that is asked for."""
    from ltx_trainer.export import write_debug_dataset

    if not job.settings.input.debug_dataset:
        return None
    return write_debug_dataset(
        job.plan.clips,
        encoded.cached,
        job.family,
        job.space.output,
        mode=job.settings.mode,
        source=job.settings.data.debug_from,
        still_crf=job.settings.validation.still_crf,
        record=job.space.output / report.RECORD,
        device=job.accelerator.device,
    )


@contextmanager
def _open_logs(job: _Job, encoded: _Encoded) -> Iterator[report.Logs]:
    """Open everyone who is told of the training; in every process but the main one, they stay silent."""
    from ltx_trainer.report.board import open_board

    settings, output = job.settings, job.space.output
    start, main = encoded.start, job.accelerator.is_main_process
    num_clips = len(encoded.cached.examples) - len(encoded.held_out)
    with (
        report.open_events(output, start=start, enabled=main) as events,
        open_board(output / "tensorboard", start=start, enabled=main) as board,
        open_wandb(output, settings, start=start, enabled=main) as wandb,
        report.training_progress(job.console, settings.input.number_of_steps, enabled=main) as progress,
    ):
        logs = report.Logs(events, board, wandb, progress)
        logs.add_event(report.describe_start(settings, step=start, processes=job.accelerator.num_processes))
        logs.add_event(
            report.describe_data(
                num_clips,
                len(encoded.held_out),
                encoded.left_out,
                with_audio=encoded.cached.with_audio,
                given=[str(condition) for condition in settings.mode.conditions],
            )
        )
        yield logs


@contextmanager
def _transformer(job: _Job) -> Iterator["nn.Module"]:
    """Load the transformer with the LoRA attached: fresh, or as a file has it."""
    from ltx_trainer.models.lora import attach_lora, load_warm_start
    from ltx_trainer.train import generator_for

    settings, family = job.settings, job.family
    checkpointing = settings.training.gradient_checkpointing
    with family.transformer(job.accelerator.device, job.dtype, gradient_checkpointing=checkpointing) as transformer:
        attach_lora(
            transformer,
            family.lora_modules(
                settings.lora_targets(with_audio=job.plan.clips.with_audio), frozen=job.plan.terms.frozen
            ),
            rank=settings.input.rank,
            alpha=settings.lora_alpha,
            dropout=settings.lora.dropout,
            generator=generator_for(settings.training.seed, "adapter"),
        )
        if settings.model.lora is not None:
            load_warm_start(transformer, settings.model.lora.expanduser())
        yield transformer


def _previews(job: _Job, encoded: _Encoded, transformer: "nn.Module", logs: report.Logs) -> "Previews":
    from ltx_trainer.cache.fill import digest_of
    from ltx_trainer.validate import Previews, Showing, sampling_of

    validation = job.settings.validation
    decoders = digest_of(job.family, "decoders", job.space.cache)
    return Previews(
        job.family,
        transformer,
        encoded.cached,
        job.plan.preview_terms,
        sampling_of(job.settings, job.family),
        job.space.output / "previews",
        job.accelerator,
        base=f"{encoded.base} {decoders} {job.dtype}",
        on_render=logs.add_render,
        showing=Showing(
            validation.beside_base,
            validation.beside_input,
            validation.composite,
            reverse=job.settings.input.validation_reverse,
        ),
    )


def _train(job: _Job, encoded: _Encoded, transformer: "nn.Module", previews: "Previews", logs: report.Logs) -> Adapter:
    from ltx_trainer.train import Hook, train_adapter

    return train_adapter(
        job.settings,
        job.family,
        transformer,
        encoded.cached,
        job.space.checkpoints,
        terms=job.plan.terms,
        identity=encoded.identity,
        accelerator=job.accelerator,
        hooks=[Hook(job.settings.validation.interval, previews.render)],
        observers=[logs.add_step],
        on_event=logs.add_event,
    )


def _export(
    job: _Job, encoded: _Encoded, adapter: Adapter, render: Render | None, debug_dataset: Path | None
) -> Bundle:
    from ltx_trainer.export import write_bundle
    from ltx_trainer.validate import sampling_of

    shapes = [example.shape for example in encoded.cached.examples if example.shape is not None]
    return write_bundle(
        job.settings,
        job.family,
        adapter,
        render,
        job.space.output,
        # Of a mixed set, the videos' shape.
        shape=max(shapes, key=lambda shape: shape.num_frames, default=None),
        terms=job.plan.terms,
        preview_terms=job.plan.preview_terms,
        with_audio=encoded.cached.with_audio,
        inference=asdict(sampling_of(job.settings, job.family)),
        debug_dataset=debug_dataset,
    )


def _identity(settings: Settings, clips: Clips) -> Identity:
    return run_identity(settings, clips, num_processes())


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
        version=model.version,
        allow_unsuitable_base=model.allow_unsuitable_base,
    )
    facts = read_model(located, family, version=model.version, allow_unsuitable_base=model.allow_unsuitable_base)
    if facts.version is not None:
        logger.info("The base model is of version %s.", facts.version)
    absent = [block for block in settings.validation.stg_blocks or () if block >= facts.num_blocks]
    if absent:
        raise ConfigError(
            f"validation.stg_blocks names block {absent[0]}; this model has blocks 0 to {facts.num_blocks - 1}. "
            "null takes the model family's own."
        )
    return facts


def _check_adapter(settings: Settings, facts: ModelFacts, terms: Terms, *, with_audio: bool) -> None:
    """Refuse an adapter that no block has or that has nothing to learn from, and a warm start that does not fit."""
    groups = settings.lora_targets(with_audio=with_audio)
    check_groups(facts.modules, groups, with_video=settings.mode.has_video, with_audio=with_audio)
    if settings.model.lora is not None:
        modules = lora_modules(facts.modules, groups, facts.num_blocks, terms.frozen)
        check_warm_start(settings.model.lora.expanduser(), modules, settings.input.rank)


def _terms(facts: ModelFacts, settings: Settings) -> tuple[Terms, Terms]:
    """Settle what is given of the training clips and of the previews.

    Without validation items, what would not fit a preview is no reason to refuse: those of the clips stand for it.

    Raises:
        GeometryError: A shape or a condition does not fit.
    """
    request, mode = settings.input, settings.mode
    shape, preview_shape = None, None
    if mode.has_video:
        shape, preview_shape = _training_shape(facts, settings), _preview_shape(facts, settings)
    size = None if shape is None else shape.size
    terms = terms_of(mode, request, facts.factors, shape, trained_size=size)
    try:
        return terms, terms_of(mode, request, facts.factors, preview_shape, trained_size=size)
    except GeometryError as error:
        if not request.validation:
            return terms, terms
        raise GeometryError(f"In previews, {error}") from error


def _training_shape(facts: ModelFacts, settings: Settings) -> ClipShape:
    request = settings.input
    return _shape(facts, request.resolution, request.aspect_ratio, request.number_of_frames, settings.clip_rate)


def _preview_shape(facts: ModelFacts, settings: Settings) -> ClipShape:
    request = settings.input
    return _shape(
        facts,
        request.validation_resolution,
        request.validation_aspect_ratio,
        request.validation_number_of_frames,
        settings.preview_rate,
    )


def _shape(facts: ModelFacts, resolution: str, aspect_ratio: str, num_frames: int, frame_rate: int) -> ClipShape:
    """Look the size up in the model's own table, and hold it against what its VAE takes."""
    shape = ClipShape(num_frames, facts.resolutions[resolution][aspect_ratio], Fraction(frame_rate))
    shape.latent_grid(facts.factors)
    return shape
