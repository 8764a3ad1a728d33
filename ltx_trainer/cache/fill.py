"""Clips to tensors on disk. What is there already is not computed again."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ltx_trainer.artifacts import CachedSet, Clips, Preview
from ltx_trainer.atomic import clear_scratch
from ltx_trainer.cache.places import Made, Part, Places, PlacesOf, cached_set, find_places, weights_of
from ltx_trainer.cache.reading import ReadAhead, Reading, Sound
from ltx_trainer.cache.store import TensorStore, TensorWriter
from ltx_trainer.conditions.masks import kept_cells
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError, MediaError
from ltx_trainer.media import Buffer, Spool
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.processes import on_main, share_of, shown_by_main, together
from ltx_trainer.workers import Tracker, ahead, num_workers, sizes_of

logger = logging.getLogger(__name__)

Codec = TypeVar("Codec", VideoCodec, AudioCodec, None)

Encode = Callable[[Codec, Reading, Tensor], Mapping[str, Tensor]]
"""Makes the tensors of what was read."""


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
        """Say what a component computes with; the main process reads its files for all."""
        return on_main(lambda: weights_of(self.family.facts, component, self.accelerator.device.type, self.digests))

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
        DatasetError: The media of every clip failed, a file is gone or has changed, or a mask keeps everything or
            nothing.
        MediaError: Those of a preview did.
        OutOfResources: The disk is full.
    """
    # A killed run may have left there what this one has no use for.
    clear_scratch(folder / "scratch")
    cache = _open_cache(family, folder, spool, workers, accelerator, track)
    places = find_places(family.facts, clips, previews, negative_prompt, folder, cache.weights, still_crf=still_crf)
    # First, because they cost least and may end the run.
    refused, failed = _fill_masks(cache, places.previews), _fill_masks(cache, places.clips)
    _refuse(refused)
    _fill_prompts(cache, places)
    _fill_media(cache, places.previews, refused)
    _refuse(refused)
    _fill_media(cache, places.clips, failed)
    _report_failed(failed, len(clips.clips))
    computed = sum(together(lambda: cache.store.num_written))
    in_order = {clip.name: failed[clip.name] for clip in clips.clips if clip.name in failed}
    return cached_set(places, clips, previews, negative_prompt, failed=in_order, computed=computed)


def _open_cache(
    family: Family, folder: Path, spool: Spool | None, workers: int | None, accelerator: Accelerator, track: Tracker
) -> Cache:
    return Cache(
        family,
        accelerator,
        TensorStore(),
        # Of its own, or the processes of one run would wait for each other.
        folder / "scratch" / str(accelerator.process_index),
        FileDigests(folder / "digests"),
        shown_by_main(track, accelerator),
        spool,
        workers,
    )


def _refuse(previews: Mapping[str, str]) -> None:
    """Refuse previews that cannot be made, each with its reason."""
    if previews:
        raise MediaError("\n".join(f"{name}: {reason}" for name, reason in previews.items()))


def _report_failed(failed: Mapping[str, str], num_clips: int) -> None:
    """Say which clips are left out, or refuse if that is all of them."""
    if failed and len(failed) == num_clips:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise DatasetError(f"None of the {num_clips} clips could be encoded:\n{reasons}")
    for name, reason in failed.items():
        logger.warning("%s is left out: %s", name, reason)


def _fill_prompts(cache: Cache, places: Places) -> None:
    together(lambda: _encode_prompts(cache, places.prompts))


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


def _fill_masks(cache: Cache, places: PlacesOf) -> dict[str, str]:
    """Turn masks into kept cells; give the reason for each clip or preview whose mask cannot be read.

    Raises:
        DatasetError: One keeps everything or nothing; it names whose.
    """
    whose = {made.reading.key: name for (name, _), made in places.masks.items()}

    def encode(_: None, reading: Reading, white: Tensor) -> dict[str, Tensor]:
        try:
            return {"kept": kept_cells(white, cache.family.facts.factors)}
        except MediaError as error:
            raise DatasetError(f"{whose[reading.key]}: {reading.source.name}: {error}") from error

    failed: dict[str, str] = {}
    _fill(cache, "mask", places.masks, lambda _: nullcontext(), encode, failed)
    return failed


def _fill_media(cache: Cache, places: PlacesOf, failed: dict[str, str]) -> None:
    """Encode every part of clips or previews, and add the reason for each that fails in any part to `failed`.

    What has failed in one part is not tried in the next: after the masks pictures, then sound.
    """
    _fill(cache, "video", _without(places.videos, failed), cache.family.video_codec, _encode_video, failed)
    _fill(cache, "audio", _without(places.sounds, failed), cache.family.audio_codec, _encode_audio, failed)


def _without(made: Mapping[Part, Made], failed: Mapping[str, str]) -> dict[Part, Made]:
    return {part: each for part, each in made.items() if part[0] not in failed}


def _encode_video(codec: VideoCodec, _: Reading, frames: Tensor) -> dict[str, Tensor]:
    return {"latents": codec.encode(frames)}


def _encode_audio(codec: AudioCodec, reading: Reading, samples: Tensor) -> dict[str, Tensor]:
    assert isinstance(reading, Sound)
    return {"latents": codec.encode(samples, reading.num_tokens)}


def _fill(
    cache: Cache,
    kind: str,
    made: Mapping[Part, Made],
    open_codec: Callable[[torch.device], AbstractContextManager[Codec]],
    encode: Encode[Codec],
    failed: dict[str, str],
) -> None:
    """Encode what is missing, each distinct file once, and add the reasons of those that failed to `failed`."""
    if not made:
        return
    shares = together(lambda: _encode(cache, kind, made, open_codec, encode))
    reasons = {path: reason for share in shares for path, reason in share.items()}
    for (name, _), each in made.items():
        if each.path in reasons:
            failed.setdefault(name, reasons[each.path])


def _encode(
    cache: Cache,
    kind: str,
    made: Mapping[Part, Made],
    open_codec: Callable[[torch.device], AbstractContextManager[Codec]],
    encode: Encode[Codec],
) -> dict[Path, str]:
    """Encode what is missing of this process's share; give the reason for each file that cannot be."""
    own = cache.own_share(each.path for each in made.values())
    missing = {each.path: each.reading for each in made.values() if each.path in own and not each.path.is_file()}
    num_clips = len({name for name, _ in made})
    logger.info("%s: %d clips, %d to encode%s.", kind.capitalize(), num_clips, len(missing), cache.whose)
    reasons: dict[Path, str] = {}
    if missing:
        buffer = Buffer()
        with (
            _read_ahead(cache, list(missing.values())) as readings,
            open_codec(cache.accelerator.device) as codec,
            TensorWriter(cache.store) as writer,
        ):
            coming = cache.track(readings, kind, len(missing))
            for path, reading in zip(missing, coming, strict=True):
                try:
                    writer.write(path, encode(codec, reading, torch.from_numpy(_read(cache, reading, buffer))))
                except MediaError as error:
                    reasons[path] = str(error)
                if cache.spool is not None:
                    reading.drop(cache.spool)
    return reasons


def _read(cache: Cache, reading: Reading, buffer: Buffer) -> np.ndarray:
    """Read a part of a file that has not changed since it was named, before or meanwhile.

    Raises:
        DatasetError: It has.
        MediaError: It cannot be read.
    """
    source = reading.source
    cache.digests.check(source.path, source.sha256)
    array = reading.read(cache.spool, buffer)
    cache.digests.check(source.path, source.sha256)
    return array


def _read_ahead(cache: Cache, readings: Sequence[Reading]) -> AbstractContextManager[Iterable[Reading]]:
    """Have parts read by other processes, a few ahead, if that is worth it; give each when its turn comes."""
    if cache.spool is None:
        return nullcontext(readings)
    workers = num_workers(cache.workers, sizes_of(reading.source.path for reading in readings))
    return closing(ahead(ReadAhead(cache.spool), readings, workers=workers)) if workers else nullcontext(readings)
