"""An archive of exactly what training saw and heard, to be looked at, or trained on again."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from torch import Tensor

from ltx_trainer import media
from ltx_trainer.artifacts import CachedExample, CachedSet, Clip, Clips, MediaKind, Role, SourceFile
from ltx_trainer.atomic import make_folder, whole_file
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import MediaError
from ltx_trainer.models.family import Family
from ltx_trainer.tensorfile import read_tensors, write_tensors

logger = logging.getLogger(__name__)

CRF = 10
"""H.264 quality at which nobody sees a difference."""

INDEX = "dataset.json"

Shown = Literal["sources", "latents"]


def write_debug_dataset(
    clips: Clips,
    cached: CachedSet,
    family: Family,
    folder: Path,
    *,
    source: Shown,
    record: Path,
    device: torch.device,
) -> Path:
    """Write `debug_dataset.zip`: each clip's pictures with their sound, its caption, and its exact samples.

    A clip is made and packed before the next one is begun. Equal content has equal bytes. An archive that was made from
    the same tensors before is left as it is.

    Args:
        clips: Where the media lies.
        cached: What was encoded; nothing else is shown.
        family: Decodes latents.
        folder: Where the archive goes.
        source: What is shown: pictures and sound as they were encoded, or decoded again from the cached latents.
        record: The run's `dataset.json`, which becomes the archive's.
        device: Where to decode latents.

    Returns:
        The archive.

    Raises:
        MediaError: A source has changed or is gone since it was encoded.
        CacheError: Latents are damaged or gone.
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    path = folder / "debug_dataset.zip"
    by_name = {clip.name: clip for clip in clips.clips}
    examples = sorted(cached.examples, key=lambda example: example.name)
    index = {"shows": source, "made_from": _digest(examples), **json.loads(record.read_text())}
    if _index_of(path) == index:
        return path
    logger.info("Packing %d clips to %s.", len(examples), path)
    pairs = [(by_name[example.name], example) for example in examples]
    with _scratch(folder) as scratch, whole_file(path) as beside, ZipFile(beside, "w") as archive:
        seen = _as_encoded(pairs, family) if source == "sources" else _as_decoded(pairs, family, scratch, device)
        for item in seen:
            _add_files(archive, item, scratch)
        _add_text(archive, INDEX, json.dumps(index, indent=2, ensure_ascii=False) + "\n")
    return path


Pair = tuple[Clip, CachedExample]


@dataclass(frozen=True)
class _Seen:
    """One clip, decoded.

    Attributes:
        clip: Which one.
        pictures: RGB `[frames, height, width, 3]`, uint8; None in a mode without video.
        sound: Stereo `[2, n]`, float32; None in a silent run.
        rate_hz: Of the sound.
    """

    clip: Clip
    pictures: np.ndarray | None
    sound: np.ndarray | None
    rate_hz: int | None


def _digest(examples: list[CachedExample]) -> str:
    """Name what was encoded by the names of the tensors, which everything that changes them enters."""
    facts = [
        (item.name, item.caption, item.video and item.video.stem, item.audio and item.audio.stem) for item in examples
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _index_of(path: Path) -> object:
    """Read the index of an archive; None if there is none to be read."""
    try:
        with ZipFile(path) as archive:
            return json.loads(archive.read(INDEX))
    except (OSError, BadZipFile, KeyError, ValueError):
        return None


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give an empty folder, without what a killed process left in it, and take it away in the end."""
    # Of one name, so that the next run finds what is left of a killed one.
    scratch = folder / ".debug_dataset"
    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _as_encoded(pairs: list[Pair], family: Family) -> Iterator[_Seen]:
    """Decode the sources once more, by the functions that fed the encoders."""
    rate_hz = None if family.facts.audio is None else family.facts.audio.rate_hz
    digests: dict[Path, str] = {}
    for clip, _ in pairs:
        footage, soundtrack = clip.footage.get(Role.TARGET), clip.soundtrack.get(Role.TARGET)
        for part in (footage, soundtrack):
            if part is not None:
                _check_unchanged(part.source, digests)
        pictures = None if footage is None else media.read_pictures(footage)
        sound = None if soundtrack is None or rate_hz is None else media.read_sound(soundtrack, rate_hz)
        yield _Seen(clip, pictures, sound, rate_hz)


def _check_unchanged(source: SourceFile, digests: dict[Path, str]) -> None:
    """Hold a file to the digest that it was encoded by, reading it once."""
    try:
        if source.path not in digests:
            digests[source.path] = file_sha256(source.path)
    except OSError as error:
        raise _changed(source, f"cannot be read: {error.strerror}") from error
    if digests[source.path] != source.sha256:
        raise _changed(source, "has changed since it was encoded")


def _changed(source: SourceFile, how: str) -> MediaError:
    return MediaError(
        f"{source.path} {how}, so the debug dataset cannot show it. data.debug_from latents shows what was encoded, "
        "and input.debug_dataset false does without."
    )


def _as_decoded(pairs: list[Pair], family: Family, scratch: Path, device: torch.device) -> Iterator[_Seen]:
    """Decode the latents: first all sound, which waits on disk, then the pictures; one codec is loaded at a time."""
    heard: dict[str, Path] = {}
    rate_hz = None
    if any(example.audio is not None for _, example in pairs):
        with family.audio_codec(device) as codec:
            rate_hz = codec.output_rate_hz
            for number, (clip, example) in enumerate(pairs):
                if example.audio is not None:
                    heard[clip.name] = scratch / f"{number}.safetensors"
                    write_tensors(heard[clip.name], {"samples": codec.decode(_latents(example.audio))})
    with family.video_codec(device) as codec:
        for clip, example in pairs:
            pictures = None if example.video is None else codec.decode(_latents(example.video)).numpy()
            sound = read_tensors(heard[clip.name])["samples"].numpy() if clip.name in heard else None
            yield _Seen(clip, pictures, sound, rate_hz)


def _latents(path: Path) -> Tensor:
    return read_tensors(path)["latents"]


def _add_files(archive: ZipFile, seen: _Seen, scratch: Path) -> None:
    """Pack one clip under its name: `.mp4` or `.png`, `.txt`, and `.wav` if it has sound."""
    name = seen.clip.name
    if seen.pictures is not None:
        picture = _write_pictures(seen, scratch)
        _add_file(archive, f"{name}{picture.suffix}", picture)
    _add_text(archive, f"{name}.txt", seen.clip.caption)
    if seen.sound is not None and seen.rate_hz is not None:
        media.write_exact_audio(scratch / "clip.wav", seen.sound, seen.rate_hz)
        _add_file(archive, f"{name}.wav", scratch / "clip.wav")


def _write_pictures(seen: _Seen, scratch: Path) -> Path:
    assert seen.pictures is not None, "asked of a clip with pictures"
    footage = seen.clip.footage[Role.TARGET]
    if footage.source.kind is MediaKind.IMAGE:
        path = scratch / "clip.png"
        media.write_image(path, seen.pictures[0])
        return path
    path = scratch / "clip.mp4"
    rate = footage.shape.frame_rate
    media.write_video(path, seen.pictures, rate, audio=seen.sound, audio_rate_hz=seen.rate_hz, crf=CRF)
    return path


def _add_file(archive: ZipFile, name: str, path: Path) -> None:
    info = _entry(name, path.stat().st_size)
    with path.open("rb") as file, archive.open(info, "w") as packed:
        shutil.copyfileobj(file, packed)


def _add_text(archive: ZipFile, name: str, text: str) -> None:
    content = text.encode()
    archive.writestr(_entry(name, len(content)), content)


def _entry(name: str, num_bytes: int) -> ZipInfo:
    """Describe a file without its time and owner, so that equal content has equal bytes."""
    info = ZipInfo(name)
    info.external_attr = 0o644 << 16
    # Above 4 GB the format has another header, which zipfile must know beforehand.
    info.file_size = num_bytes
    return info
