"""An archive of exactly what training saw and heard, to be looked at, or trained on again."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ltx_trainer import media
from ltx_trainer.artifacts import KEYFRAMES, CachedExample, CachedSet, Clip, Clips, MediaKind, Role, SourceFile
from ltx_trainer.atomic import make_folder, whole_file
from ltx_trainer.conditions.masks import spread_cells
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ScaleFactors
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.modes import Mode
from ltx_trainer.tensorfile import read_tensors, write_tensors

logger = logging.getLogger(__name__)

CRF = 10
"""H.264 quality at which nobody sees a difference."""

INDEX = "dataset.json"

KEYFRAMES_FILE = "keyframes.zip"
"""In an archive of its own, because images beside its clips are refused in a mode of keyframes."""

HEARD_WITH = {Role.REFERENCE: Role.REFERENCE_SOUND}
"""The sound that goes with pictures, where it has another role."""

Shown = Literal["sources", "latents"]


def write_debug_dataset(
    clips: Clips,
    cached: CachedSet,
    family: Family,
    folder: Path,
    *,
    mode: Mode,
    source: Shown,
    still_crf: int | None,
    record: Path,
    device: torch.device,
) -> Path:
    """Write `debug_dataset.zip`: all that each clip is made of, laid out to be trained on again by the same mode.

    These are its pictures with their sound, its caption, its exact samples and, where it has them, its reference, mask
    and seconds. Keyframes, which the mode takes from its clips, are in a `keyframes.zip` in it, to be looked at.

    A clip is made and packed before the next one is begun. Equal content has equal bytes. An archive that was made from
    the same tensors before is left as it is.

    Args:
        clips: Where the media lies.
        cached: What was encoded; nothing else is shown.
        family: Decodes latents.
        folder: Where the archive goes.
        mode: Of the run; says what the files are called.
        source: What is shown: pictures and sound as they were encoded, or decoded again from the cached latents.
        still_crf: H.264 quality that stills were compressed at.
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
        seen = (
            _as_encoded(pairs, family, still_crf)
            if source == "sources"
            else _as_decoded(pairs, family, scratch, device)
        )
        with ZipFile(scratch / KEYFRAMES_FILE, "w") as keyframes:
            for item in seen:
                _add_files(archive, item, mode, scratch)
                _add_keyframes(keyframes, item, scratch)
        if keyframes.namelist():
            _add_file(archive, KEYFRAMES_FILE, scratch / KEYFRAMES_FILE)
        _add_text(archive, INDEX, json.dumps(index, indent=2, ensure_ascii=False) + "\n")
    return path


Pair = tuple[Clip, CachedExample]


@dataclass(frozen=True)
class _Seen:
    """One clip, decoded.

    Attributes:
        clip: Which one.
        pictures: RGB `[frames, height, width, 3]`, uint8, by role; of a mask, white is what is generated.
        sound: Stereo `[2, n]`, float32, by role.
        rate_hz: Of the sound; None without any.
    """

    clip: Clip
    pictures: Mapping[Role, np.ndarray]
    sound: Mapping[Role, np.ndarray]
    rate_hz: int | None


def _digest(examples: list[CachedExample]) -> str:
    """Name what was encoded by the names of the tensors, which everything that changes them enters."""
    facts = [
        (item.name, item.caption, [path.stem for path in item.media.files], item.media.ranges) for item in examples
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


def _as_encoded(pairs: list[Pair], family: Family, still_crf: int | None) -> Iterator[_Seen]:
    """Decode the sources once more, by the functions that fed the encoders."""
    rate_hz = None if family.facts.audio is None else family.facts.audio.rate_hz
    digests: dict[Path, str] = {}
    for clip, _ in pairs:
        for part in (*clip.footage.values(), *clip.soundtrack.values()):
            _check_unchanged(part.source, digests)
        pictures = {
            role: _drawn(media.read_mask(footage))
            if role is Role.MASK
            else media.read_pictures(footage, still_crf=footage.crf_as(role, still_crf))
            for role, footage in clip.footage.items()
        }
        soundtracks = clip.soundtrack.items()
        sound = {role: media.read_sound(item, rate_hz) for role, item in soundtracks if rate_hz is not None}
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
    waiting: dict[str, Path] = {}
    rate_hz = None
    if any(example.media.audio for _, example in pairs):
        with family.audio_codec(device) as codec:
            rate_hz = codec.output_rate_hz
            for number, (clip, example) in enumerate(pairs):
                waiting[clip.name] = scratch / f"{number}.safetensors"
                write_tensors(waiting[clip.name], _decoded_sound(codec, clip, example))
    has_pictures = any(role is not Role.MASK for _, example in pairs for role in example.media.video)
    with family.video_codec(device) if has_pictures else nullcontext() as codec:
        for clip, example in pairs:
            pictures = {
                role: _white_cells(path, family.facts.factors) if role is Role.MASK else _decoded(codec, path)
                for role, path in example.media.video.items()
            }
            heard = read_tensors(waiting[clip.name]) if clip.name in waiting else {}
            yield _Seen(clip, pictures, {Role(name): sound.numpy() for name, sound in heard.items()}, rate_hz)


def _decoded_sound(codec: AudioCodec, clip: Clip, example: CachedExample) -> dict[str, Tensor]:
    """Decode the sound `[2, n]` of each role, with silence up to its length where the last token ends before that."""
    sounds: dict[str, Tensor] = {}
    for role, path in example.media.audio.items():
        samples = codec.decode(read_tensors(path)["latents"])
        lacking = round(clip.soundtrack[role].duration_seconds * codec.output_rate_hz) - samples.shape[1]
        sounds[role.value] = functional.pad(samples, (0, max(0, lacking)))
    return sounds


def _decoded(codec: VideoCodec | None, path: Path) -> np.ndarray:
    assert codec is not None, "opened where there are pictures"
    return codec.decode(read_tensors(path)["latents"]).numpy()


def _white_cells(path: Path, factors: ScaleFactors) -> np.ndarray:
    """Draw the cells of a mask `[frames, height, width, 3]`: black where they are kept, else white."""
    return _drawn(spread_cells(~read_tensors(path)["kept"], factors).numpy())


def _drawn(white: np.ndarray) -> np.ndarray:
    """Draw a mask `[frames, height, width, 3]` of the pixels that are white."""
    return np.repeat(white[..., None], 3, axis=3).astype(np.uint8) * 255


def _add_files(archive: ZipFile, seen: _Seen, mode: Mode, scratch: Path) -> None:
    """Pack one clip under its name, as the mode lays it out: pictures, caption, exact sound and seconds."""
    name = seen.clip.name
    for role in [role for role in seen.pictures if role not in KEYFRAMES]:
        picture = _write_pictures(seen, role, scratch)
        _add_file(archive, f"{name}{_suffix(mode, role)}{picture.suffix}", picture)
    _add_text(archive, f"{name}.txt", seen.clip.caption)
    for role, samples in seen.sound.items():
        assert seen.rate_hz is not None, "of sound"
        media.write_exact_audio(scratch / "clip.wav", samples, seen.rate_hz)
        _add_file(archive, f"{name}{_sound_suffix(mode, role)}.wav", scratch / "clip.wav")
    if seen.clip.ranges:
        seconds = [[float(begin), float(end)] for begin, end in seen.clip.ranges]
        _add_text(archive, f"{name}{_suffix(mode, Role.RANGES)}.json", json.dumps(seconds) + "\n")


def _add_keyframes(archive: ZipFile, seen: _Seen, scratch: Path) -> None:
    """Pack the keyframes of one clip as `x_first.png` and so on."""
    for role in [role for role in KEYFRAMES if role in seen.pictures]:
        media.write_image(scratch / "keyframe.png", seen.pictures[role][0])
        _add_file(archive, f"{seen.clip.name}_{role.value.partition(' ')[0]}.png", scratch / "keyframe.png")


def _suffix(mode: Mode, role: Role) -> str:
    """Give what follows the example's name in the names of a role's files."""
    return next(part.suffix for part in mode.parts if part.role is role)


def _sound_suffix(mode: Mode, role: Role) -> str:
    """Give it for sound, which may come with the pictures of another role."""
    files = {Role.TARGET: (Role.SOUND, Role.TARGET), Role.REFERENCE_SOUND: (Role.REFERENCE_SOUND, Role.REFERENCE)}
    there = {part.role for part in mode.parts}
    return next(_suffix(mode, file) for file in files[role] if file in there)


def _write_pictures(seen: _Seen, role: Role, scratch: Path) -> Path:
    footage, pixels = seen.clip.footage[role], seen.pictures[role]
    if footage.source.kind is MediaKind.IMAGE or role is Role.START:
        path = scratch / "clip.png"
        media.write_image(path, pixels[0])
        return path
    path = scratch / "clip.mp4"
    sound = seen.sound.get(HEARD_WITH.get(role, role))
    rate_hz = None if sound is None else seen.rate_hz
    media.write_video(path, pixels, footage.shape.frame_rate, audio=sound, audio_rate_hz=rate_hz, crf=CRF)
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
