"""Clips to tensors on disk. What is there already is not computed again."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from ltx_trainer import media
from ltx_trainer.artifacts import (
    CachedExample,
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
from ltx_trainer.cache.key import audio_key, prompt_key, video_key
from ltx_trainer.cache.store import TensorStore
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError, MediaError
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.processes import on_main, together

logger = logging.getLogger(__name__)

EMPTY_PROMPT = ""

Codec = TypeVar("Codec", VideoCodec, AudioCodec)
Item = TypeVar("Item")


class Tracker(Protocol):
    """Shows how far a loop is."""

    def __call__(self, items: Iterable[Item], what: str, total: int, /) -> Iterable[Item]:
        """Give the items one by one; there are `total`."""
        ...


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
    """

    family: Family
    accelerator: Accelerator
    store: TensorStore
    scratch: Path
    digests: FileDigests
    track: Tracker

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
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        return f" in process {index + 1} of {count}" if count > 1 else ""


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
) -> CachedSet:
    """Encode every caption, picture and sound of a run, one large component on the device at a time.

    Each process encodes its share of what is not there yet; all of them give the same.

    Args:
        family: The base model.
        clips: What is trained on.
        previews: What is rendered.
        negative_prompt: What previews are guided away from.
        folder: The cache, the same for all processes.
        still_crf: H.264 quality that a preview's still image is first compressed at; None leaves it as it is.
        accelerator: Device, and the other processes.
        track: Shows how far the main process is with its share.

    Raises:
        DatasetError: The media of every clip failed.
        OutOfResources: The disk is full.
    """
    cache = _open_cache(family, folder, accelerator, track)
    captions = [clip.caption for clip in clips.clips]
    prompts = _fill_prompts(cache, [*captions, EMPTY_PROMPT, negative_prompt, *(item.prompt for item in previews)])
    stills = {str(index): item.first_frame for index, item in enumerate(previews) if item.first_frame is not None}
    first_frames, unreadable = _fill_video(cache, stills, still_crf=still_crf)
    if unreadable:
        raise MediaError("\n".join(unreadable.values()))
    footage = {clip.name: clip.footage[Role.TARGET] for clip in clips.clips if clip.footage}
    videos, no_video = _fill_video(cache, footage, still_crf=None)
    soundtracks = {
        clip.name: clip.soundtrack[Role.TARGET] for clip in clips.clips if clip.name in videos and clip.soundtrack
    }
    sounds, no_sound = _fill_audio(cache, soundtracks, footage)

    failed = {**no_video, **no_sound}
    _report_failed(failed, len(clips.clips))
    return CachedSet(
        examples=tuple(
            CachedExample(
                name=clip.name,
                source=_source_of(clip).name,
                caption=clip.caption,
                shape=clip.footage[Role.TARGET].shape if clip.footage else None,
                video=videos.get(clip.name),
                audio=sounds.get(clip.name),
                prompt=prompts[clip.caption],
            )
            for clip in clips.clips
            if clip.name not in failed
        ),
        left_out=tuple(LeftOut(name, reason) for name, reason in failed.items()),
        empty_prompt=prompts[EMPTY_PROMPT],
        negative_prompt=prompts[negative_prompt],
        previews=tuple(
            CachedPreview(item.shape, prompts[item.prompt], first_frames.get(str(index)))
            for index, item in enumerate(previews)
        ),
        with_audio=clips.with_audio,
        computed=sum(together(lambda: cache.store.num_written)),
    )


def _open_cache(family: Family, folder: Path, accelerator: Accelerator, track: Tracker) -> Cache:
    return Cache(
        family,
        accelerator,
        TensorStore(folder / "tensors"),
        # Of its own, or the processes of one run would wait for each other.
        folder / "scratch" / str(accelerator.process_index),
        FileDigests(folder / "digests"),
        track if accelerator.is_main_process else _show_nothing,
    )


def _show_nothing(items: Iterable[Item], _what: str, _total: int) -> Iterable[Item]:
    return items


def _source_of(clip: Clip) -> SourceFile:
    """Give the file that the target is cut from."""
    target = clip.footage[Role.TARGET] if clip.footage else clip.soundtrack[Role.TARGET]
    return target.source


def _report_failed(failed: Mapping[str, str], num_clips: int) -> None:
    """Say which clips are left out, or refuse if that is all of them."""
    if failed and len(failed) == num_clips:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise DatasetError(f"None of the {num_clips} clips could be decoded:\n{reasons}")
    for name, reason in failed.items():
        logger.warning("%s is left out: %s", name, reason)


def _fill_prompts(cache: Cache, texts: Iterable[str]) -> dict[str, Path]:
    weights = cache.weights("text_encoder")
    paths = {text: cache.store.path("prompt", prompt_key(text, weights)) for text in texts}
    together(lambda: _encode_prompts(cache, paths))
    return paths


def _encode_prompts(cache: Cache, paths: Mapping[str, Path]) -> None:
    """Encode what is missing of this process's share."""
    own = cache.own_share(paths.values())
    missing = [text for text, path in paths.items() if path in own and not path.is_file()]
    logger.info("Prompts: %d distinct, %d to encode%s.", len(paths), len(missing), cache.whose)
    if missing:
        encoded = cache.family.encode_prompts(missing, cache.accelerator.device, scratch=cache.scratch)
        for text, embeddings in cache.track(encoded, "prompts", len(missing)):
            cache.store.write(paths[text], embeddings)


def _fill_video(
    cache: Cache, footage: Mapping[str, Footage], *, still_crf: int | None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Encode pictures; give the files, and the reason for each that failed."""
    if not footage:
        return {}, {}
    weights = cache.weights("vae")

    def encode(codec: VideoCodec, name: str) -> Tensor:
        return codec.encode(torch.from_numpy(media.read_pictures(footage[name], still_crf=still_crf)))

    return _fill_latents(
        cache,
        "video",
        {name: item.source for name, item in footage.items()},
        {name: video_key(item, weights, still_crf) for name, item in footage.items()},
        cache.family.video_codec,
        encode,
    )


def _fill_audio(
    cache: Cache, soundtracks: Mapping[str, Soundtrack], footage: Mapping[str, Footage]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Encode sounds, as long as their pictures; give the files, and the reason for each that failed."""
    audio = cache.family.facts.audio
    if not soundtracks or audio is None:
        return {}, {}
    weights = cache.weights("audio_vae")
    lengths = {name: footage[name].shape.num_audio_tokens(audio.tokens_per_second) for name in soundtracks}

    def encode(codec: AudioCodec, name: str) -> Tensor:
        return codec.encode(torch.from_numpy(media.read_sound(soundtracks[name], audio.rate_hz)), lengths[name])

    return _fill_latents(
        cache,
        "audio",
        {name: item.source for name, item in soundtracks.items()},
        {name: audio_key(item, weights, lengths[name]) for name, item in soundtracks.items()},
        cache.family.audio_codec,
        encode,
    )


def _fill_latents(
    cache: Cache,
    kind: str,
    sources: Mapping[str, SourceFile],
    keys: Mapping[str, str],
    open_codec: Callable[[torch.device], AbstractContextManager[Codec]],
    encode: Callable[[Codec, str], Tensor],
) -> tuple[dict[str, Path], dict[str, str]]:
    """Encode what is missing, each distinct key once; give the files by clip, and the reasons of those that failed."""
    paths = {name: cache.store.path(kind, key) for name, key in keys.items()}
    shares = together(lambda: _encode_latents(cache, kind, sources, paths, open_codec, encode))
    reasons = {path: reason for share in shares for path, reason in share.items()}
    there = {name: path for name, path in paths.items() if path not in reasons}
    return there, {name: reasons[path] for name, path in paths.items() if path in reasons}


def _encode_latents(
    cache: Cache,
    kind: str,
    sources: Mapping[str, SourceFile],
    paths: Mapping[str, Path],
    open_codec: Callable[[torch.device], AbstractContextManager[Codec]],
    encode: Callable[[Codec, str], Tensor],
) -> dict[Path, str]:
    """Encode what is missing of this process's share; give the reason for each file that cannot be."""
    own = cache.own_share(paths.values())
    missing = {path: name for name, path in paths.items() if path in own and not path.is_file()}
    logger.info("%s: %d clips, %d to encode%s.", kind.capitalize(), len(paths), len(missing), cache.whose)
    reasons: dict[Path, str] = {}
    if missing:
        with open_codec(cache.accelerator.device) as codec:
            for path, name in cache.track(missing.items(), kind, len(missing)):
                try:
                    _check_unchanged(sources[name], cache.digests)
                    cache.store.write(path, {"latents": encode(codec, name)})
                except MediaError as error:
                    reasons[path] = str(error)
    return reasons


def _check_unchanged(source: SourceFile, digests: FileDigests) -> None:
    """Hold a file to the digest that its tensors are named by: what is left of a video cut short would decode too.

    Raises:
        MediaError: The file is not there, or has other bytes.
    """
    try:
        digest = digests.of_file(source.path)
    except OSError as error:
        raise MediaError(f"{source.path} cannot be read: {error.strerror}. Run again.") from error
    if digest != source.sha256:
        raise MediaError(f"{source.path} has changed since it was first read. Remove it and run again.")
