"""Clips to tensors on disk. What is there already is not computed again."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from ltx_trainer.artifacts import (
    CachedExample,
    CachedMedia,
    CachedPreview,
    CachedSet,
    Clip,
    Clips,
    Footage,
    LeftOut,
    Preview,
    Role,
    Soundtrack,
    SourceFile,
)
from ltx_trainer.atomic import clear_scratch
from ltx_trainer.cache.key import audio_key, mask_key, prompt_key, video_key
from ltx_trainer.cache.reading import Mask, Pictures, ReadAhead, Reading, Sound
from ltx_trainer.cache.store import TensorStore, TensorWriter
from ltx_trainer.conditions.masks import kept_cells
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError, MediaError
from ltx_trainer.geometry import num_audio_tokens
from ltx_trainer.media import Spool
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.processes import on_main, share_of, shown_by_main, together
from ltx_trainer.workers import Tracker, ahead, num_workers

logger = logging.getLogger(__name__)

EMPTY_PROMPT = ""

Codec = TypeVar("Codec", VideoCodec, AudioCodec, None)

Place = tuple[str, Role]
"""A part of a clip or a preview: whose, and what it is to it."""


@dataclass(frozen=True)
class Cache:
    """What every step of filling needs.

    Attributes:
        family: The base model.
        accelerator: Where this process computes, and which of how many it is.
        store: Where tensors lie.
        scratch: Where what this process needs for a while lies.
        digests: Of weights and media.
        track: Shows how far the encoding is.
        spool: Where media wait that are read ahead. None: nothing is.
        workers: Processes that read ahead. None: as the work and the cores allow.
    """

    family: Family
    accelerator: Accelerator
    store: TensorStore
    scratch: Path
    digests: FileDigests
    track: Tracker
    spool: Spool | None = None
    workers: int | None = None

    def weights(self, component: str) -> str:
        """Say what a component computes with: its weights and config, and the device, which decides the precision."""
        digest = on_main(lambda: self.digests.of(self.family.component_files(component)))
        return f"{digest} on {self.accelerator.device.type}"

    def own_share(self, paths: Iterable[Path]) -> frozenset[Path]:
        """Say which files this process sees to, whichever of them are there already: others may be writing now."""
        return frozenset(sorted(set(paths))[self.accelerator.process_index :: self.accelerator.num_processes])

    @property
    def whose(self) -> str:
        """Say who encodes, for a message; nothing where one process does all."""
        return share_of(self.accelerator)


def digest_of(family: Family, component: str, folder: Path) -> str:
    """Give the digest of a component's weights and config; files that were read before are not read again.

    The main process reads them for all.

    Args:
        family: The base model.
        component: Such as `transformer`.
        folder: The cache.
    """
    return on_main(lambda: FileDigests(folder / "digests").of(family.component_files(component)))


def fill_cache(
    family: Family,
    clips: Clips,
    previews: Sequence[Preview],
    negative_prompt: str,
    folder: Path,
    *,
    still_crf: int | None,
    accelerator: Accelerator,
    track: Tracker,
    spool: Spool | None = None,
    workers: int | None = None,
) -> CachedSet:
    """Encode every caption, picture, mask and sound of a run, one large component on the device at a time.

    Each process encodes its share of what is not there yet; all of them give the same.

    Args:
        family: The base model.
        clips: What is trained on.
        previews: What is rendered.
        negative_prompt: What previews are guided away from.
        folder: The cache, the same for all processes.
        still_crf: H.264 quality that a still image is first compressed at where it is a condition; None leaves it as
            it is.
        accelerator: Device, and the other processes.
        track: Shows how far the main process is with its share.
        spool: Where pictures may lie decoded, and media wait that are read ahead. None: each is read when it is needed.
        workers: Processes that read ahead of each that encodes. None: as the work and the cores allow.

    Raises:
        DatasetError: The media of every clip failed, or a mask keeps everything or nothing.
        MediaError: Those of a preview did.
        OutOfResources: The disk is full.
    """
    # A killed run may have left there what this one has no use for.
    clear_scratch(folder / "scratch")
    cache = _open_cache(family, folder, spool, workers, accelerator, track)
    items: dict[str, Preview] = {f"input.validation.{index}": item for index, item in enumerate(previews)}
    named = {clip.name: clip for clip in clips.clips}
    # First, because they cost least and may end the run.
    shown_masks, clip_masks = _fill_masks(cache, items), _fill_masks(cache, named)
    captions = [clip.caption for clip in clips.clips]
    prompts = _fill_prompts(cache, [*captions, EMPTY_PROMPT, negative_prompt, *(item.prompt for item in previews)])
    shown, refused = _fill_media(cache, items, shown_masks, still_crf=still_crf)
    if refused:
        raise MediaError("\n".join(f"{name}: {reason}" for name, reason in refused.items()))
    media_of, failed = _fill_media(cache, named, clip_masks, still_crf=still_crf)
    _report_failed(failed, len(clips.clips))
    return CachedSet(
        examples=tuple(
            CachedExample(
                name=clip.name,
                source=_source_of(clip).name,
                caption=clip.caption,
                shape=clip.shape,
                media=media_of[clip.name],
                prompt=prompts[clip.caption],
            )
            for clip in clips.clips
            if clip.name not in failed
        ),
        left_out=tuple(LeftOut(name, reason) for name, reason in failed.items()),
        empty_prompt=prompts[EMPTY_PROMPT],
        negative_prompt=prompts[negative_prompt],
        previews=tuple(
            CachedPreview(item.shape, item.duration_seconds, shown[name], prompts[item.prompt])
            for name, item in items.items()
        ),
        with_audio=clips.with_audio,
        computed=sum(together(lambda: cache.store.num_written)),
    )


def _open_cache(
    family: Family, folder: Path, spool: Spool | None, workers: int | None, accelerator: Accelerator, track: Tracker
) -> Cache:
    return Cache(
        family,
        accelerator,
        TensorStore(folder / "tensors"),
        # Of its own, or the processes of one run would wait for each other.
        folder / "scratch" / str(accelerator.process_index),
        FileDigests(folder / "digests"),
        shown_by_main(track, accelerator),
        spool,
        workers,
    )


def _source_of(clip: Clip) -> SourceFile:
    """Give the file that the target is cut from."""
    part = clip.footage if Role.TARGET in clip.footage else clip.soundtrack
    return part[Role.TARGET].source


def _report_failed(failed: Mapping[str, str], num_clips: int) -> None:
    """Say which clips are left out, or refuse if that is all of them."""
    if failed and len(failed) == num_clips:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise DatasetError(f"None of the {num_clips} clips could be encoded:\n{reasons}")
    for name, reason in failed.items():
        logger.warning("%s is left out: %s", name, reason)


def _fill_prompts(cache: Cache, texts: Iterable[str]) -> dict[str, Path]:
    weights = cache.weights("text_encoder")
    paths = {text: cache.store.path("prompt", prompt_key(text, weights)) for text in texts}
    together(lambda: _encode_prompts(cache, paths))
    return paths


def _encode_prompts(cache: Cache, paths: Mapping[str, Path]) -> None:
    """Encode what is missing of this process's share of the batches.

    The batches are of all texts, because what is read together is rounded together: a run that was stopped ends with
    the embeddings that it would have had, and so do many processes.
    """
    missing: list[str] = []
    # What the batches are takes a tokenizer to say.
    if not all(path.is_file() for path in paths.values()):
        index, count = cache.accelerator.process_index, cache.accelerator.num_processes
        own = cache.family.prompt_batches(paths)[index::count]
        missing = [text for batch in own for text in batch if not paths[text].is_file()]
    logger.info("Prompts: %d distinct, %d to encode%s.", len(paths), len(missing), cache.whose)
    if missing:
        encoded = cache.family.encode_prompts(
            list(paths), cache.accelerator.device, scratch=cache.scratch, wanted=missing
        )
        for text, embeddings in cache.track(encoded, "prompts", len(missing)):
            cache.store.write(paths[text], embeddings)


@dataclass(frozen=True)
class _Masks:
    """The masks of clips or previews.

    Attributes:
        paths: Their kept cells.
        failed: The reason for each clip or preview whose mask cannot be read.
    """

    paths: Mapping[Place, Path]
    failed: Mapping[str, str]


def _fill_media(
    cache: Cache, items: Mapping[str, Clip | Preview], masks: _Masks, *, still_crf: int | None
) -> tuple[dict[str, CachedMedia], dict[str, str]]:
    """Encode every part of clips or previews; give what they became, and the reason for each that failed in any part.

    What has failed in one part is not tried in the next: first the masks, then pictures, then sound.
    """
    footage = {(name, role): part for name, item in items.items() for role, part in item.footage.items()}
    soundtracks = {(name, role): part for name, item in items.items() for role, part in item.soundtrack.items()}
    failed = dict(masks.failed)
    pictures = {place: part for place, part in footage.items() if place[1] is not Role.MASK and place[0] not in failed}
    videos = _fill_video(cache, pictures, failed, still_crf=still_crf)
    sounds = _fill_audio(cache, {place: part for place, part in soundtracks.items() if place[0] not in failed}, failed)
    there = {
        name: CachedMedia(
            video={role: (masks.paths if role is Role.MASK else videos)[name, role] for role in item.footage},
            audio={role: sounds[name, role] for role in item.soundtrack if (name, role) in sounds},
            ranges=item.ranges,
        )
        for name, item in items.items()
        if name not in failed
    }
    return there, {name: failed[name] for name in items if name in failed}


@dataclass(frozen=True)
class _Task(Generic[Codec]):
    """One part to encode.

    Attributes:
        reading: What it is made from.
        path: Where its tensors lie or will lie.
        encode: Makes them.
    """

    reading: Reading
    path: Path
    encode: Callable[[Codec, Tensor], Mapping[str, Tensor]]


def _fill_masks(cache: Cache, items: Mapping[str, Clip | Preview]) -> _Masks:
    """Turn masks into kept cells.

    Raises:
        DatasetError: One keeps everything or nothing; it names whose.
    """
    factors = cache.family.facts.factors

    def task(name: str, mask: Footage) -> _Task[None]:
        def encode(_: None, white: Tensor) -> dict[str, Tensor]:
            try:
                return {"kept": kept_cells(white, factors)}
            except MediaError as error:
                raise DatasetError(f"{name}: {mask.source.name}: {error}") from error

        key = mask_key(mask, factors)
        return _Task(Mask(key, mask), cache.store.path("mask", key), encode)

    masks = {(name, Role.MASK): item.footage[Role.MASK] for name, item in items.items() if Role.MASK in item.footage}
    failed: dict[str, str] = {}
    tasks = {place: task(place[0], mask) for place, mask in masks.items()}
    return _Masks(_fill(cache, "mask", tasks, lambda _: nullcontext(), failed), failed)


def _fill_video(
    cache: Cache, footage: Mapping[Place, Footage], failed: dict[str, str], *, still_crf: int | None
) -> dict[Place, Path]:
    """Encode pictures; give the files, and add the reason for each that failed to `failed`."""
    if not footage:
        return {}
    weights = cache.weights("vae")

    def task(role: Role, part: Footage) -> _Task[VideoCodec]:
        crf = part.crf_as(role, still_crf)

        key = video_key(part, weights, crf)
        return _Task(
            Pictures(key, part, crf),
            cache.store.path("video", key),
            lambda codec, frames: {"latents": codec.encode(frames)},
        )

    tasks = {place: task(place[1], part) for place, part in footage.items()}
    return _fill(cache, "video", tasks, cache.family.video_codec, failed)


def _fill_audio(cache: Cache, soundtracks: Mapping[Place, Soundtrack], failed: dict[str, str]) -> dict[Place, Path]:
    """Encode sounds, as long as what they go with; give the files, and add the reason for each that failed."""
    audio = cache.family.facts.audio
    if not soundtracks or audio is None:
        return {}
    weights = cache.weights("audio_vae")

    def task(part: Soundtrack) -> _Task[AudioCodec]:
        num_tokens = num_audio_tokens(part.duration_seconds, audio.tokens_per_second)

        key = audio_key(part, weights, num_tokens)

        def encode(codec: AudioCodec, samples: Tensor) -> dict[str, Tensor]:
            return {"latents": codec.encode(samples, num_tokens)}

        return _Task(Sound(key, part, audio.rate_hz), cache.store.path("audio", key), encode)

    tasks = {place: task(part) for place, part in soundtracks.items()}
    return _fill(cache, "audio", tasks, cache.family.audio_codec, failed)


def _fill(
    cache: Cache,
    kind: str,
    tasks: Mapping[Place, _Task[Codec]],
    open_codec: Callable[[torch.device], AbstractContextManager[Codec]],
    failed: dict[str, str],
) -> dict[Place, Path]:
    """Encode what is missing, each distinct file once; give the files, and add the reasons of those that failed."""
    if not tasks:
        return {}
    shares = together(lambda: _encode(cache, kind, tasks, open_codec))
    reasons = {path: reason for share in shares for path, reason in share.items()}
    for (name, _), task in tasks.items():
        if task.path in reasons:
            failed.setdefault(name, reasons[task.path])
    return {place: task.path for place, task in tasks.items() if task.path not in reasons}


def _encode(
    cache: Cache,
    kind: str,
    tasks: Mapping[Place, _Task[Codec]],
    open_codec: Callable[[torch.device], AbstractContextManager[Codec]],
) -> dict[Path, str]:
    """Encode what is missing of this process's share; give the reason for each file that cannot be."""
    own = cache.own_share(task.path for task in tasks.values())
    missing = {task.path: task for task in tasks.values() if task.path in own and not task.path.is_file()}
    num_clips = len({name for name, _ in tasks})
    logger.info("%s: %d clips, %d to encode%s.", kind.capitalize(), num_clips, len(missing), cache.whose)
    reasons: dict[Path, str] = {}
    if missing:
        read = _read_ahead(cache, [task.reading for task in missing.values()])
        with open_codec(cache.accelerator.device) as codec, TensorWriter(cache.store) as writer:
            for (path, task), reading in zip(missing.items(), cache.track(read, kind, len(missing)), strict=True):
                try:
                    cache.digests.check(reading.source.path, reading.source.sha256)
                    writer.write(path, task.encode(codec, torch.from_numpy(reading.read(cache.spool))))
                except MediaError as error:
                    reasons[path] = str(error)
                if cache.spool is not None:
                    reading.drop(cache.spool)
    return reasons


def _read_ahead(cache: Cache, readings: Sequence[Reading]) -> Iterable[Reading]:
    """Have parts read by other processes, a few ahead, if that is worth it; give each when its turn comes."""
    if cache.spool is None:
        return readings
    paths = [reading.source.path for reading in readings]
    workers = num_workers(cache.workers, [path.stat().st_size for path in paths if path.is_file()])
    return ahead(ReadAhead(cache.spool), readings, workers=workers) if workers else readings
