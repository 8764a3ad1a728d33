"""The table of training modes: data, not code. A new mode is a new row.

A row says what is generated, which conditions hold, which files make an example, which fields a request and a
validation item have, and which defaults differ. Source: the pages of the hosted trainers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType

from ltx_trainer.artifacts import MediaKind
from ltx_trainer.errors import ConfigError


class Presence(StrEnum):
    """What a stream is to a mode."""

    GENERATED = "generated"
    GENERATED_IF_SOUND = "generated if the clips have sound"


class Condition(StrEnum):
    """A part of the target that is given, not generated."""

    FIRST_FRAME = "first frame"


VIDEO_ATTENTION = ("attn1", "attn2")
ALL_ATTENTION = (*VIDEO_ATTENTION, "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")

AUDIO_FIELDS = frozenset({"with_audio", "audio_normalize", "audio_preserve_pitch"})


@dataclass(frozen=True)
class Mode:
    """One row of the table.

    Attributes:
        name: As in the endpoint's path.
        endpoint: The hosted endpoint whose request body the mode takes.
        family: The model family that it trains.
        summary: What the LoRA learns, in a sentence.
        files: What an example is in the archive, in a sentence.
        media: Which kinds the target may be.
        video: What the video stream is.
        audio: What the audio stream is.
        conditions: What may be given of the target.
        fields: Request fields beyond those that every mode has.
        defaults: Request fields whose default differs from the common one.
        preview_fields: Fields of a validation item; all required.
        silent_targets: Modules of each block that get a LoRA when audio is absent.
        targets: Modules of each block that get a LoRA when both streams are there.
    """

    name: str
    endpoint: str
    family: str
    summary: str
    files: str
    media: frozenset[MediaKind]
    video: Presence
    audio: Presence
    conditions: tuple[Condition, ...] = ()
    fields: frozenset[str] = frozenset()
    defaults: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    preview_fields: tuple[str, ...] = ("prompt",)
    silent_targets: tuple[str, ...] = VIDEO_ATTENTION
    targets: tuple[str, ...] = ALL_ATTENTION


MODES: tuple[Mode, ...] = (
    Mode(
        name="t2v",
        endpoint="fal-ai/ltx23-trainer-v2/t2v",
        family="ltx-2.3",
        summary="text to video, with sound where the clips have it",
        files="x.mp4/.mov/.avi/.mkv or x.png/.jpg/.jpeg, with x.txt as its caption",
        media=frozenset({MediaKind.VIDEO, MediaKind.IMAGE}),
        video=Presence.GENERATED,
        audio=Presence.GENERATED_IF_SOUND,
        fields=AUDIO_FIELDS,
    ),
    Mode(
        name="i2v",
        endpoint="fal-ai/ltx23-trainer-v2/i2v",
        family="ltx-2.3",
        summary="a first frame and text to video, with sound where the clips have it",
        files="x.mp4/.mov/.avi/.mkv, with x.txt as its caption",
        media=frozenset({MediaKind.VIDEO}),
        video=Presence.GENERATED,
        audio=Presence.GENERATED_IF_SOUND,
        conditions=(Condition.FIRST_FRAME,),
        fields=AUDIO_FIELDS | {"first_frame_conditioning_p"},
        preview_fields=("prompt", "image_url"),
    ),
)


def find_mode(endpoint: str) -> Mode:
    """Look up the mode of an endpoint.

    Raises:
        ConfigError: No mode has this endpoint; the message names the nearest.
    """
    by_endpoint = {mode.endpoint: mode for mode in MODES}
    if endpoint in by_endpoint:
        return by_endpoint[endpoint]
    near = get_close_matches(endpoint, by_endpoint, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"endpoint {endpoint!r} is not known.{meant} Known: {', '.join(by_endpoint)}.")
