"""Clips to tensors on disk. What is there already is not computed again."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ltx_trainer import media
from ltx_trainer.artifacts import (
    CachedExample,
    CachedPreview,
    CachedSet,
    Clips,
    Footage,
    LeftOut,
    MediaKind,
    Preview,
    Role,
    Soundtrack,
    SourceFile,
)
from ltx_trainer.cache.key import DECODING, FileDigests, tensor_key
from ltx_trainer.cache.store import TensorStore
from ltx_trainer.errors import DatasetError, MediaError
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.models.family import Family

logger = logging.getLogger(__name__)

EMPTY_PROMPT = ""

Name = TypeVar("Name", str, int)


@dataclass(frozen=True)
class Cache:
    """What every step of filling needs.

    Attributes:
        family: The base model.
        device: Where to compute.
        store: Where tensors lie.
        digests: Of weights and media.
    """

    family: Family
    device: torch.device
    store: TensorStore
    digests: FileDigests

    def weights(self, component: str) -> str:
        """Say what a component computes with: its weights and config, and the device, which decides the precision."""
        return f"{self.digests.of(self.family.component_files(component))} on {self.device.type}"


def fill_cache(
    family: Family,
    clips: Clips,
    previews: Sequence[Preview],
    negative_prompt: str,
    folder: Path,
    *,
    still_crf: int | None,
    device: torch.device,
) -> CachedSet:
    """Encode every caption, picture and sound of a run, one large component on the device at a time.

    Args:
        family: The base model.
        clips: What is trained on.
        previews: What is rendered.
        negative_prompt: What previews are guided away from.
        folder: The cache.
        still_crf: H.264 quality that a preview's still image is first compressed at; None leaves it as it is.
        device: Where to compute.

    Raises:
        DatasetError: The media of every clip failed.
        OutOfResources: The disk is full.
    """
    cache = Cache(family, device, TensorStore(folder / "tensors"), FileDigests(folder / "digests"))
    captions = [clip.caption for clip in clips.clips]
    prompts = _fill_prompts(cache, [*captions, EMPTY_PROMPT, negative_prompt, *(item.prompt for item in previews)])
    stills = {index: item.first_frame for index, item in enumerate(previews) if item.first_frame is not None}
    first_frames, _ = _fill_video(cache, stills, still_crf=still_crf, may_fail=False)
    footage = {clip.name: clip.footage[Role.TARGET] for clip in clips.clips if clip.footage}
    videos, no_video = _fill_video(cache, footage, still_crf=None, may_fail=True)
    soundtracks = {
        clip.name: clip.soundtrack[Role.TARGET] for clip in clips.clips if clip.soundtrack and clip.name not in no_video
    }
    sounds, no_sound = _fill_audio(cache, soundtracks, footage)

    failed = {**no_video, **no_sound}
    _report_failed(failed, len(clips.clips))
    return CachedSet(
        examples=tuple(
            CachedExample(
                name=clip.name,
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
            CachedPreview(item.shape, prompts[item.prompt], first_frames.get(index))
            for index, item in enumerate(previews)
        ),
        with_audio=clips.with_audio,
        computed=cache.store.num_written,
    )


def _report_failed(failed: Mapping[str, str], num_clips: int) -> None:
    """Say which clips are left out, or refuse if that is all of them."""
    if failed and len(failed) == num_clips:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise DatasetError(f"None of the {num_clips} clips could be decoded:\n{reasons}")
    for name, reason in failed.items():
        logger.warning("%s is left out: %s", name, reason)


def _fill_prompts(cache: Cache, texts: Iterable[str]) -> dict[str, Path]:
    weights = cache.weights("text_encoder")
    paths = {text: cache.store.path("prompt", tensor_key("prompt", text=text, weights=weights)) for text in texts}
    missing = [text for text, path in paths.items() if not path.is_file()]
    logger.info("Prompts: %d distinct, %d to encode.", len(paths), len(missing))
    if missing:
        for text, embeddings in cache.family.encode_prompts(missing, cache.device):
            cache.store.write(paths[text], embeddings)
    return paths


def _fill_video(
    cache: Cache, footage: Mapping[Name, Footage], *, still_crf: int | None, may_fail: bool
) -> tuple[dict[Name, Path], dict[Name, str]]:
    """Encode pictures; give the files, and the reason for each that failed."""
    if not footage:
        return {}, {}
    weights = cache.weights("vae")
    paths = {name: cache.store.path("video", _video_key(item, weights, still_crf)) for name, item in footage.items()}
    missing = {paths[name]: name for name in footage if not paths[name].is_file()}
    logger.info("Pictures: %d clips, %d to encode.", len(paths), len(missing))
    failed: dict[Name, str] = {}
    if missing:
        with cache.family.video_codec(cache.device) as codec:
            for path, name in missing.items():
                try:
                    _check_unchanged(footage[name].source, cache.digests)
                    frames = _pictures(footage[name], still_crf)
                except MediaError as error:
                    if not may_fail:
                        raise
                    failed[name] = str(error)
                    continue
                cache.store.write(path, {"latents": codec.encode(torch.from_numpy(frames))})
    return {name: path for name, path in paths.items() if path.is_file()}, _with_twins(failed, paths)


def _fill_audio(
    cache: Cache, soundtracks: Mapping[str, Soundtrack], footage: Mapping[str, Footage]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Encode sounds; give the files, and the reason for each that failed."""
    audio = cache.family.facts.audio
    if not soundtracks or audio is None:
        return {}, {}
    weights = cache.weights("audio_vae")
    lengths = {name: footage[name].shape.num_audio_tokens(audio.tokens_per_second) for name in soundtracks}
    paths = {
        name: cache.store.path("audio", _audio_key(item, weights, lengths[name])) for name, item in soundtracks.items()
    }
    missing = {paths[name]: name for name in soundtracks if not paths[name].is_file()}
    logger.info("Sounds: %d clips, %d to encode.", len(paths), len(missing))
    failed: dict[str, str] = {}
    if missing:
        with cache.family.audio_codec(cache.device) as codec:
            for path, name in missing.items():
                try:
                    _check_unchanged(soundtracks[name].source, cache.digests)
                    samples = _sound(soundtracks[name], audio.rate_hz)
                except MediaError as error:
                    failed[name] = str(error)
                    continue
                latents = codec.encode(torch.from_numpy(samples), lengths[name])
                cache.store.write(path, {"latents": latents})
    return {name: path for name, path in paths.items() if path.is_file()}, _with_twins(failed, paths)


def _with_twins(failed: Mapping[Name, str], paths: Mapping[Name, Path]) -> dict[Name, str]:
    """Extend the reasons to clips that share a failed clip's key."""
    reasons = {paths[name]: reason for name, reason in failed.items()}
    return {name: reasons[path] for name, path in paths.items() if path in reasons}


def _video_key(footage: Footage, weights: str, still_crf: int | None) -> str:
    return tensor_key(
        "video",
        decoding=DECODING,
        source=footage.source.sha256,
        kind=footage.source.kind,
        start=footage.start_seconds,
        span=footage.span_seconds,
        num_frames=footage.shape.num_frames,
        size=str(footage.shape.size),
        still_crf=still_crf,
        weights=weights,
    )


def _audio_key(soundtrack: Soundtrack, weights: str, num_tokens: int) -> str:
    stretched = soundtrack.preserve_pitch and soundtrack.span_seconds != soundtrack.duration_seconds
    return tensor_key(
        "audio",
        decoding=DECODING,
        source=soundtrack.source.sha256,
        start=soundtrack.start_seconds,
        span=soundtrack.span_seconds,
        duration=soundtrack.duration_seconds,
        stretched=stretched,
        gain=soundtrack.gain,
        num_tokens=num_tokens,
        weights=weights,
    )


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


def _pictures(footage: Footage, still_crf: int | None) -> np.ndarray:
    """Decode the pictures of a clip `[f h w 3]`, uint8."""
    if footage.source.kind is MediaKind.IMAGE:
        frame = media.decode_image(footage.source.path, footage.shape.size)
        if still_crf is not None:
            frame = media.recompress_still(frame, crf=still_crf)
        return frame[None]
    times = midpoint_times(footage.start_seconds, footage.span_seconds, footage.shape.num_frames)
    return media.decode_frames(footage.source.path, times, footage.shape.size)


def _sound(soundtrack: Soundtrack, rate_hz: int) -> np.ndarray:
    """Decode the sound of a clip `[2 n]`, float32."""
    samples = media.decode_audio(
        soundtrack.source.path,
        start_seconds=soundtrack.start_seconds,
        span_seconds=soundtrack.span_seconds,
        rate_hz=rate_hz,
    )
    num_samples = round(soundtrack.duration_seconds * rate_hz)
    if soundtrack.preserve_pitch and soundtrack.span_seconds != soundtrack.duration_seconds:
        samples = media.stretch_audio(samples, rate_hz=rate_hz, num_samples=num_samples)
    return media.fit_audio(samples, num_samples) * np.float32(soundtrack.gain)
