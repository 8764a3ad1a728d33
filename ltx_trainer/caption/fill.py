"""Captions of clips that have none, each written once for the same pictures, model and question."""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from ltx_trainer import media
from ltx_trainer.artifacts import Clip, Clips, Footage, LeftOut, Role
from ltx_trainer.atomic import write_text
from ltx_trainer.config import CaptionsSection, Request
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError, MediaError, OutOfResources
from ltx_trainer.media.decoding import DECODING
from ltx_trainer.models.captioner import Captioner
from ltx_trainer.models.vision import CaptionWriter, open_captioner
from ltx_trainer.processes import on_main, share_of, shown_by_main, together
from ltx_trainer.workers import Tracker

logger = logging.getLogger(__name__)

WRITING = 1
"""Raised whenever the same model is asked or heard in another way."""


@dataclass(frozen=True)
class _Writing:
    """What every step of writing captions needs.

    Attributes:
        captioner: The model.
        settings: How it is asked.
        accelerator: Where this process computes, and which of how many it is.
        digests: Of weights and media.
        track: Shows how far the writing is.
    """

    captioner: Captioner
    settings: CaptionsSection
    accelerator: Accelerator
    digests: FileDigests
    track: Tracker

    def seen(self, clip: Clip) -> Footage:
        """Give the frames of a clip that the model sees: some, evenly spaced, over the span of them all."""
        target = clip.footage[Role.TARGET]
        num_frames = min(self.settings.frames, target.shape.num_frames)
        return replace(target, shape=replace(target.shape, num_frames=num_frames))

    def key(self, seen: Footage, weights: str) -> str:
        """Name a caption by everything that changes it, as 64 hexadecimal digits."""
        facts = {
            **{name: str(fact) for name, fact in seen.facts.items()},
            "decoding": DECODING,
            "writing": WRITING,
            # A patch of a release says the same.
            "library": version("transformers").rpartition(".")[0],
            "weights": weights,
            "prompt": self.settings.prompt,
            "max_tokens": self.settings.max_tokens,
        }
        return hashlib.sha256(json.dumps(["caption", facts], sort_keys=True).encode()).hexdigest()


def caption_clips(
    clips: Clips,
    names: Collection[str],
    captioner: Captioner,
    settings: CaptionsSection,
    request: Request,
    folder: Path,
    *,
    accelerator: Accelerator,
    track: Tracker,
) -> Clips:
    """Give clips their captions, with the trigger phrase before them; one of which nothing is said is left out.

    Each process writes its share of what is not there yet; all of them give the same.

    Args:
        clips: All of the run.
        names: Those of them that have none.
        captioner: Writes them.
        settings: How it is asked.
        request: Has the trigger phrase.
        folder: The cache, the same for all processes.
        accelerator: Device, and the other processes.
        track: Shows how far the main process is with its share.

    Raises:
        DatasetError: No clip is left.
        ModelError: The captioner does not load.
        OutOfResources: Memory or the disk is full.
    """
    writing = _Writing(captioner, settings, accelerator, FileDigests(folder / "digests"), track)
    digest = on_main(lambda: writing.digests.of(captioner.files))
    weights = f"{digest} on {accelerator.device.type}"
    seen = {clip.name: writing.seen(clip) for clip in clips.clips if clip.name in names}
    keys = {name: writing.key(footage, weights) for name, footage in seen.items()}
    paths = {name: folder / "captions" / key[:2] / f"{key}.json" for name, key in keys.items()}
    shares = together(lambda: _write_missing(writing, {paths[name]: footage for name, footage in seen.items()}))
    unseen = {path: reason for share in shares for path, reason in share.items()}
    captions, failed = {}, {}
    for name, path in paths.items():
        caption = "" if path in unseen else json.loads(path.read_text("utf-8"))["caption"]
        if caption:
            captions[name] = caption
        else:
            nothing = f"{captioner.source} says nothing of it. Write its caption, or ask otherwise by captions.prompt"
            failed[name] = unseen.get(path, nothing)
    return _captioned(clips, captions, failed, request)


def _captioned(clips: Clips, captions: Mapping[str, str], failed: Mapping[str, str], request: Request) -> Clips:
    if len(failed) == len(clips.clips):
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise DatasetError(f"None of the {len(failed)} clips could be captioned:\n{reasons}")
    for name, reason in failed.items():
        logger.warning("%s is left out: %s", name, reason)
    told = tuple(
        replace(clip, caption=request.with_trigger(captions[clip.name])) if clip.name in captions else clip
        for clip in clips.clips
        if clip.name not in failed
    )
    left_out = [*clips.left_out, *(LeftOut(name, reason) for name, reason in failed.items())]
    return replace(clips, clips=told, left_out=tuple(sorted(left_out, key=lambda item: item.name)))


def _write_missing(writing: _Writing, seen: Mapping[Path, Footage]) -> dict[Path, str]:
    """Write what is missing of this process's share; give the reason for each whose pictures cannot be read.

    What goes together in a batch does not depend on what is there already, because the numbers of a batch are rounded
    together: a run that was stopped ends with the captions that it would have had.
    """
    index, count = writing.accelerator.process_index, writing.accelerator.num_processes
    paths, size = sorted(seen), writing.settings.batch_size
    batches = [paths[first : first + size] for first in range(0, len(paths), size)][index::count]
    own = [path for batch in batches for path in batch]
    missing = [batch for batch in batches if not all(path.is_file() for path in batch)]
    num_missing = sum(not path.is_file() for path in own)
    whose = share_of(writing.accelerator)
    source = writing.captioner.source
    logger.info("Captions: %d clips without one, %d to write%s by %s.", len(seen), num_missing, whose, source)
    unseen: dict[Path, str] = {}
    if missing:
        show = shown_by_main(writing.track, writing.accelerator)
        with _memory_errors(), open_captioner(writing.captioner, writing.accelerator.device) as writer:
            for batch in show(missing, "captions", len(missing)):
                unseen |= _write_batch(writing, writer, {path: seen[path] for path in batch})
    return unseen


def _write_batch(writing: _Writing, writer: CaptionWriter, seen: Mapping[Path, Footage]) -> dict[Path, str]:
    pictures: dict[Path, np.ndarray] = {}
    unseen: dict[Path, str] = {}
    for path, footage in seen.items():
        try:
            writing.digests.check(footage.source.path, footage.source.sha256)
            pictures[path] = media.read_pictures(footage)
        except MediaError as error:
            unseen[path] = str(error)
    if pictures:
        asked = writing.settings
        captions = writer.write(list(pictures.values()), asked.prompt, max_tokens=asked.max_tokens)
        for path, caption in zip(pictures, captions, strict=True):
            if not path.is_file():
                record = {"caption": caption, "prompt": asked.prompt, "max_tokens": asked.max_tokens}
                write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return unseen


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Say what needs less memory where it ran out."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfResources(
            f"Memory ran out while captions were written ({error}). Lower captions.batch_size or captions.frames, or "
            "set captions.model to a smaller model."
        ) from error
