"""Where every tensor of a run lies, which is known before anything is loaded or computed."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

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
from ltx_trainer.cache.key import audio_key, mask_key, prompt_key, video_key
from ltx_trainer.cache.reading import Mask, Pictures, Reading, Sound
from ltx_trainer.digests import FileDigests
from ltx_trainer.geometry import num_audio_tokens
from ltx_trainer.models.facts import AudioFacts, ModelFacts, component_files

EMPTY_PROMPT = ""

NVIDIA_DRIVER = Path("/dev/nvidiactl")
"""There where a CUDA device is."""

Part = tuple[str, Role]
"""A part of a clip or a preview: whose, and what it is to it."""


@dataclass(frozen=True)
class Made:
    """A tensor file of some media.

    Attributes:
        reading: What it is made from.
        path: Where it lies or will lie.
    """

    reading: Reading
    path: Path


@dataclass(frozen=True)
class PlacesOf:
    """Where the media of some clips or previews lie.

    Attributes:
        items: The clips or previews, by name.
        masks: Kept cells.
        videos: Latents of pictures.
        sounds: Latents of sounds.
    """

    items: Mapping[str, Clip | Preview]
    masks: Mapping[Part, Made]
    videos: Mapping[Part, Made]
    sounds: Mapping[Part, Made]

    @property
    def made(self) -> Iterator[Made]:
        """All of them."""
        for kind in (self.masks, self.videos, self.sounds):
            yield from kind.values()

    def cached(self, name: str) -> CachedMedia:
        """Say where the parts of one clip or preview lie."""
        item = self.items[name]
        return CachedMedia(
            video={role: (self.masks if role is Role.MASK else self.videos)[name, role].path for role in item.footage},
            audio={role: self.sounds[name, role].path for role in item.soundtrack if (name, role) in self.sounds},
            ranges=item.ranges,
        )


@dataclass(frozen=True)
class Places:
    """Where everything lies that a run trains on and renders from.

    Attributes:
        prompts: Embeddings, by text.
        previews: Media of the previews.
        clips: Media of the clips.
    """

    prompts: Mapping[str, Path]
    previews: PlacesOf
    clips: PlacesOf

    @property
    def are_filled(self) -> bool:
        """Whether everything is there."""
        made = (each.path for part in (self.previews, self.clips) for each in part.made)
        return all(path.is_file() for path in (*self.prompts.values(), *made))


def find_places(
    facts: ModelFacts,
    clips: Clips,
    previews: Sequence[Preview],
    negative_prompt: str,
    folder: Path,
    weights: Callable[[str], str],
    *,
    still_crf: int | None,
) -> Places:
    """Say where everything of a run lies.

    Args:
        facts: Of the base model.
        clips: What is trained on.
        previews: What is rendered.
        negative_prompt: What previews are guided away from.
        folder: The cache.
        weights: Says what a component computes with: its weights and config, and the type of device.
        still_crf: H.264 quality that a still image is first compressed at where it is a condition.
    """
    place = _Place(facts, folder, cache(weights), still_crf)
    texts = [clip.caption for clip in clips.clips] + [
        EMPTY_PROMPT,
        negative_prompt,
        *(each.prompt for each in previews),
    ]
    encoder = weights("text_encoder")
    return Places(
        {text: place.path("prompt", prompt_key(text, encoder)) for text in texts},
        place.of({f"input.validation.{index}": item for index, item in enumerate(previews)}),
        place.of({clip.name: clip for clip in clips.clips}),
    )


def find_filled(
    facts: ModelFacts,
    clips: Clips,
    previews: Sequence[Preview],
    negative_prompt: str,
    folder: Path,
    *,
    still_crf: int | None,
) -> CachedSet | None:
    """List what lies at its place if everything does, as this machine would compute it; None if anything is missing.

    Which type of device that is, is told without torch, and so may be wrong; what lies there is whole all the same.

    Args:
        facts: Of the base model.
        clips: What is trained on.
        previews: What is rendered.
        negative_prompt: What previews are guided away from.
        folder: The cache.
        still_crf: H.264 quality that a still image is first compressed at where it is a condition.
    """
    digests = FileDigests(folder / "digests")
    device = "cuda" if NVIDIA_DRIVER.exists() and not _is_kept_from_gpu() else "cpu"
    weights = partial(weights_of, facts, device=device, digests=digests)
    places = find_places(facts, clips, previews, negative_prompt, folder, weights, still_crf=still_crf)
    if not places.are_filled:
        return None
    return cached_set(places, clips, previews, negative_prompt, failed={}, computed=0)


def _is_kept_from_gpu() -> bool:
    """Say whether the environment keeps torch and accelerate from every GPU."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")
    return asked or os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def weights_of(facts: ModelFacts, component: str, device: str, digests: FileDigests) -> str:
    """Say what a component computes with: its weights and config, and the type of device, which decides the precision.

    Args:
        facts: Of the base model.
        component: As `component_files` names it.
        device: Such as `cuda`.
        digests: Of files; those that were read before are not read again.
    """
    return f"{digests.of(component_files(facts, component))} on {device}"


def cached_set(
    places: Places,
    clips: Clips,
    previews: Sequence[Preview],
    negative_prompt: str,
    *,
    failed: Mapping[str, str],
    computed: int,
) -> CachedSet:
    """List what lies at its place.

    Args:
        places: Of everything.
        clips: What is trained on.
        previews: What is rendered.
        negative_prompt: What previews are guided away from.
        failed: Why clips have no tensors, by name.
        computed: How many files were not there.
    """
    return CachedSet(
        examples=tuple(
            CachedExample(
                name=clip.name,
                source=_source_of(clip).name,
                caption=clip.caption,
                shape=clip.shape,
                media=places.clips.cached(clip.name),
                prompt=places.prompts[clip.caption],
            )
            for clip in clips.clips
            if clip.name not in failed
        ),
        left_out=tuple(LeftOut(name, reason) for name, reason in failed.items()),
        empty_prompt=places.prompts[EMPTY_PROMPT],
        negative_prompt=places.prompts[negative_prompt],
        previews=tuple(
            CachedPreview(item.shape, item.duration_seconds, places.previews.cached(name), places.prompts[item.prompt])
            for name, item in zip(places.previews.items, previews, strict=True)
        ),
        with_audio=clips.with_audio,
        computed=computed,
    )


@dataclass(frozen=True)
class _Place:
    """Names what is made of media."""

    facts: ModelFacts
    folder: Path
    weights: Callable[[str], str]
    still_crf: int | None

    def path(self, kind: str, key: str) -> Path:
        return self.folder / "tensors" / kind / key[:2] / f"{key}.safetensors"

    def of(self, items: Mapping[str, Clip | Preview]) -> PlacesOf:
        footage = {(name, role): part for name, item in items.items() for role, part in item.footage.items()}
        sounds = {(name, role): part for name, item in items.items() for role, part in item.soundtrack.items()}
        return PlacesOf(
            items,
            {part: self._mask(each) for part, each in footage.items() if part[1] is Role.MASK},
            {part: self._video(part[1], each) for part, each in footage.items() if part[1] is not Role.MASK},
            {part: self._sound(each, self.facts.audio) for part, each in sounds.items()} if self.facts.audio else {},
        )

    def _mask(self, footage: Footage) -> Made:
        key = mask_key(footage, self.facts.factors)
        return Made(Mask(key, footage), self.path("mask", key))

    def _video(self, role: Role, footage: Footage) -> Made:
        crf = footage.crf_as(role, self.still_crf)
        key = video_key(footage, self.weights("vae"), crf)
        return Made(Pictures(key, footage, crf), self.path("video", key))

    def _sound(self, soundtrack: Soundtrack, audio: AudioFacts) -> Made:
        num_tokens = num_audio_tokens(soundtrack.duration_seconds, audio.tokens_per_second)
        key = audio_key(soundtrack, self.weights("audio_vae"), num_tokens)
        return Made(Sound(key, soundtrack, audio.rate_hz, num_tokens), self.path("audio", key))


def _source_of(clip: Clip) -> SourceFile:
    """Give the file that the target is cut from."""
    part = clip.footage if Role.TARGET in clip.footage else clip.soundtrack
    return part[Role.TARGET].source
