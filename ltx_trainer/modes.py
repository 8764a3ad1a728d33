"""The table of training modes: data, not code. A new mode is a new row.

A row says what is generated, which conditions hold, which files make an example, which fields a request and a
validation item have, and which defaults differ. Source: the pages of the hosted trainers; `ltx-video/v2v` is the
engine's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType

from ltx_trainer.artifacts import MediaKind, Role
from ltx_trainer.errors import ConfigError


class Presence(StrEnum):
    """What a stream is to a mode."""

    GENERATED = "generated"
    GENERATED_IF_SOUND = "generated if the clips have sound"
    FROZEN = "given whole"
    ABSENT = "absent"


class Condition(StrEnum):
    """What is given beside the text; `conditions` says which tokens that makes clean."""

    FIRST_FRAME = "first frame"
    START = "start image"
    REFERENCE = "reference"
    MASK = "mask"
    RECTANGLE = "kept rectangle"
    KEYFRAMES = "keyframes"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    RANGES = "kept seconds"


VIDEO_ATTENTION = ("attn1", "attn2")
AUDIO_ATTENTION = ("audio_attn1", "audio_attn2")
ALL_ATTENTION = (*VIDEO_ATTENTION, *AUDIO_ATTENTION, "audio_to_video_attn", "video_to_audio_attn")

AUDIO_FIELDS = frozenset({"with_audio", "audio_normalize", "audio_preserve_pitch"})
SOUND_FIELDS = AUDIO_FIELDS - {"with_audio"}
"""Of modes that cannot do without sound."""
DURATION_FIELDS = SOUND_FIELDS | {"audio_duration_seconds"}
REFERENCE_FIELDS = frozenset({"reference_downscale_factor", "reference_temporal_scale_factor"})

EITHER = frozenset({".gif", ".webp"})
"""An animation or a still, which only its content tells."""
STILLS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm"}) | EITHER
IMAGES = STILLS | EITHER
SOUNDS = frozenset({".wav", ".mp3", ".ogg", ".m4a", ".aac", ".flac"})
KINDS: Mapping[str, MediaKind] = MappingProxyType(
    {
        **dict.fromkeys(VIDEOS - EITHER, MediaKind.VIDEO),
        **dict.fromkeys(STILLS, MediaKind.IMAGE),
        **dict.fromkeys(SOUNDS, MediaKind.AUDIO),
        ".json": MediaKind.RANGES,
    }
)
"""What a file is, where its extension tells."""


@dataclass(frozen=True)
class Part:
    """One file of an example: the example's name, the suffix and one of the extensions.

    Attributes:
        role: What it is to the example.
        extensions: In lower case, with their dots.
        suffix: What its name ends with, before the extension; empty for the name alone.
        required: Whether an example without it is incomplete.
    """

    role: Role
    extensions: frozenset[str]
    suffix: str = ""
    required: bool = True

    @property
    def takes_images(self) -> bool:
        """Whether it may be a still image."""
        return bool(self.extensions & STILLS)

    @property
    def takes_videos(self) -> bool:
        """Whether it may be a video."""
        return bool(self.extensions & (VIDEOS - EITHER))


@dataclass(frozen=True)
class ItemField:
    """One field of a validation item, beside its prompt.

    Attributes:
        name: In the request.
        role: What its file is to the item.
        kinds: What its file may be.
        required: Whether an item must have it.
        all_or_none: Whether it is given to every item of a request, or to none.
    """

    name: str
    role: Role
    kinds: frozenset[MediaKind]
    required: bool = True
    all_or_none: bool = False

    @property
    def takes(self) -> str:
        """Say what its file may be."""
        return " or ".join(sorted(self.kinds))


@dataclass(frozen=True)
class Mode:
    """One row of the table.

    Attributes:
        name: Unique, and a part of the endpoint's path.
        endpoint: The hosted endpoint whose request body the mode takes, or a name of the engine's own.
        family: The model family that it trains.
        summary: What the LoRA learns, in a sentence.
        parts: The files of an example, beside its caption.
        video: What the video stream is.
        audio: What the audio stream is.
        conditions: What is given.
        fields: Request fields beyond those that are common to the modes.
        lacks: Common request fields that it has not.
        required_fields: Those of them that a request must have.
        defaults: Request fields whose default differs from the common one; of one that it lacks, what holds.
        item_fields: Fields of a validation item beside its prompt.
        silent_targets: Modules of each block that get a LoRA when audio is absent.
        targets: Modules of each block that get a LoRA when audio is there.
        needs_caption: Whether an example without a caption is refused where there is no trigger phrase.
        mixed: Whether images and videos may lie in one archive, whatever the settings say.
        auto_scale_rate: Frames per second of the clips that `auto_scale_input` makes; None for `frame_rate`.
    """

    name: str
    endpoint: str
    family: str
    summary: str
    parts: tuple[Part, ...]
    video: Presence = Presence.GENERATED
    audio: Presence = Presence.ABSENT
    conditions: tuple[Condition, ...] = ()
    fields: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    required_fields: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    item_fields: tuple[ItemField, ...] = ()
    silent_targets: tuple[str, ...] = VIDEO_ATTENTION
    targets: tuple[str, ...] = ALL_ATTENTION
    needs_caption: bool = False
    mixed: bool = False
    auto_scale_rate: int | None = None

    @property
    def has_video(self) -> bool:
        """Whether there are pictures, generated or given."""
        return self.video is not Presence.ABSENT

    @property
    def needs_audio(self) -> bool:
        """Whether an example without sound is an error, whatever the request says."""
        return self.audio in (Presence.GENERATED, Presence.FROZEN)

    @property
    def generates_video(self) -> bool:
        """Whether previews are pictures; if not, they are sound."""
        return self.video is Presence.GENERATED

    @property
    def files(self) -> str:
        """Say which files make an example."""
        told = [_told(part) for part in self.parts]
        return f"{', '.join(told)}, with x.txt as its caption"


def _told(part: Part) -> str:
    extensions = ", ".join(sorted(part.extensions))
    return f"{'' if part.required else 'optional '}x{part.suffix}({extensions})"


_VIDEO, _IMAGE, _SOUND = frozenset({MediaKind.VIDEO}), frozenset({MediaKind.IMAGE}), frozenset({MediaKind.AUDIO})
_VIDEO_OR_SOUND = _VIDEO | _SOUND
_MASK = _VIDEO | _IMAGE

CLIP = Part(Role.TARGET, VIDEOS)
SOUND = Part(Role.TARGET, SOUNDS)
START_CLIP, END_CLIP = Part(Role.REFERENCE, VIDEOS, "_start"), Part(Role.TARGET, VIDEOS, "_end")
MASK = Part(Role.MASK, VIDEOS | IMAGES, "_mask")

VIDEO_ITEM = ItemField("video_url", Role.TARGET, _VIDEO)
MASK_ITEM = ItemField("mask_url", Role.MASK, _MASK)
REFERENCE_ITEM = ItemField("reference_video_url", Role.REFERENCE, _VIDEO)
REFERENCE_SOUND_ITEM = ItemField("reference_audio_url", Role.REFERENCE_SOUND, _VIDEO_OR_SOUND, required=False)
SOUND_ITEM = ItemField("audio_url", Role.TARGET, _VIDEO_OR_SOUND)

AUDIO_ONLY_TARGETS = (*AUDIO_ATTENTION, "audio_ff")
ENDPOINT = "fal-ai/ltx23-trainer-v2/"

LTX_VIDEO_FIELDS = frozenset({"first_frame_conditioning_p", "validation_reverse"})
"""Of LTX-Video. The first is on no page: as in the other modes, it says how often a first frame is given."""
LTX_VIDEO_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "rank": 128,
        "number_of_frames": 81,
        "frame_rate": 25,
        "first_frame_conditioning_p": 0.1,
        "validation_negative_prompt": "blurry, low quality, bad quality, out of focus",
        "validation_number_of_frames": 81,
        "validation_frame_rate": None,
        "stg_scale": None,
    }
)
"""Null leaves a preview the rate of the clips, and guidance to the model's own."""


def _row(name: str, summary: str, *parts: Part, **facts: object) -> Mode:
    return Mode(name, ENDPOINT + name, "ltx-2.3", summary, parts, **facts)  # pyright: ignore[reportArgumentType]


def _sound_row(name: str, summary: str, *parts: Part, fields: frozenset[str] = frozenset(), **facts: object) -> Mode:
    return _row(
        name,
        summary,
        *parts,
        video=Presence.ABSENT,
        audio=Presence.GENERATED,
        fields=DURATION_FIELDS | fields,
        targets=AUDIO_ONLY_TARGETS,
        **facts,
    )


def _ltx_video_row(
    name: str,
    endpoint: str,
    summary: str,
    *parts: Part,
    steps: int,
    targets: tuple[str, ...],
    fields: frozenset[str] = frozenset(),
    **facts: object,
) -> Mode:
    return Mode(
        name,
        endpoint,
        "ltx-video",
        summary,
        parts,
        fields=LTX_VIDEO_FIELDS | fields,
        defaults={**LTX_VIDEO_DEFAULTS, "number_of_steps": steps},
        silent_targets=targets,
        targets=targets,
        **facts,  # pyright: ignore[reportArgumentType]
    )


MODES: tuple[Mode, ...] = (
    _row(
        "t2v",
        "text to video, with sound where the clips have it",
        Part(Role.TARGET, VIDEOS | IMAGES),
        audio=Presence.GENERATED_IF_SOUND,
        fields=AUDIO_FIELDS,
    ),
    _row(
        "i2v",
        "a first frame and text to video, with sound where the clips have it",
        CLIP,
        audio=Presence.GENERATED_IF_SOUND,
        conditions=(Condition.FIRST_FRAME,),
        fields=AUDIO_FIELDS | {"first_frame_conditioning_p"},
        item_fields=(ItemField("image_url", Role.START, _IMAGE),),
    ),
    _row(
        "v2v",
        "a reference video to a video that follows it",
        START_CLIP,
        END_CLIP,
        conditions=(Condition.REFERENCE, Condition.FIRST_FRAME),
        fields=REFERENCE_FIELDS | {"first_frame_conditioning_p"},
        defaults={"number_of_steps": 3000, "first_frame_conditioning_p": 0.1},
        item_fields=(REFERENCE_ITEM,),
        silent_targets=(*VIDEO_ATTENTION, "ff"),
    ),
    _row(
        "v2v-masked",
        "a reference video to what is masked in a video",
        START_CLIP,
        END_CLIP,
        MASK,
        conditions=(Condition.REFERENCE, Condition.MASK),
        defaults={"number_of_steps": 3000, "split_input_into_scenes": False},
        item_fields=(VIDEO_ITEM, MASK_ITEM, REFERENCE_ITEM),
        silent_targets=(*VIDEO_ATTENTION, "ff"),
    ),
    _row(
        "inpaint",
        "a video around a mask to what is masked",
        CLIP,
        MASK,
        conditions=(Condition.MASK,),
        defaults={"split_input_into_scenes": False},
        item_fields=(VIDEO_ITEM, MASK_ITEM),
    ),
    _row(
        "outpaint",
        "the middle of a picture to what surrounds it",
        CLIP,
        conditions=(Condition.RECTANGLE,),
        fields=frozenset({"crop_top_left", "crop_bottom_right"}),
        required_fields=("crop_top_left", "crop_bottom_right"),
        item_fields=(VIDEO_ITEM,),
    ),
    _row(
        "interpolate",
        "first and last keyframes, perhaps a middle one, to the video between them",
        CLIP,
        conditions=(Condition.KEYFRAMES,),
        fields=frozenset({"include_middle_keyframe"}),
        item_fields=(
            ItemField("start_image_url", Role.FIRST_KEYFRAME, _IMAGE),
            ItemField("end_image_url", Role.LAST_KEYFRAME, _IMAGE),
            ItemField("middle_image_url", Role.MIDDLE_KEYFRAME, _IMAGE, required=False),
        ),
    ),
    _row(
        "extend-prefix",
        "the first frames of a video to what follows",
        CLIP,
        audio=Presence.GENERATED_IF_SOUND,
        conditions=(Condition.PREFIX,),
        fields=AUDIO_FIELDS | {"conditioning_frames"},
        defaults={"with_audio": False, "conditioning_frames": 9},
        item_fields=(VIDEO_ITEM,),
    ),
    _row(
        "extend-suffix",
        "the last frames of a video to what comes before",
        CLIP,
        audio=Presence.GENERATED_IF_SOUND,
        conditions=(Condition.SUFFIX,),
        fields=AUDIO_FIELDS | {"conditioning_frames"},
        defaults={"with_audio": False, "conditioning_frames": 8},
        item_fields=(VIDEO_ITEM,),
    ),
    _row(
        "a2v",
        "a start image and a sound to the video that goes with them",
        Part(Role.START, VIDEOS | IMAGES, "_start"),
        Part(Role.SOUND, SOUNDS, "_audio", required=False),
        END_CLIP,
        audio=Presence.FROZEN,
        conditions=(Condition.START,),
        fields=SOUND_FIELDS,
        defaults={"split_input_into_scenes": False},
        item_fields=(ItemField("image_url", Role.START, _IMAGE), ItemField("audio_url", Role.SOUND, _VIDEO_OR_SOUND)),
        needs_caption=True,
    ),
    _row(
        "v2a",
        "a video to its sound",
        CLIP,
        video=Presence.FROZEN,
        audio=Presence.GENERATED,
        defaults={"split_input_into_scenes": False},
        item_fields=(VIDEO_ITEM,),
        targets=(*AUDIO_ATTENTION, "audio_ff", "video_to_audio_attn"),
    ),
    _sound_row("t2a", "text to sound", SOUND),
    _sound_row(
        "a2a",
        "a reference sound to a sound that follows it",
        Part(Role.REFERENCE_SOUND, SOUNDS, "_start"),
        Part(Role.TARGET, SOUNDS, "_end"),
        conditions=(Condition.REFERENCE,),
        defaults={"split_input_into_scenes": False},
        item_fields=(ItemField("reference_audio_url", Role.REFERENCE_SOUND, _VIDEO_OR_SOUND),),
    ),
    _sound_row(
        "audio-extend-prefix",
        "the first seconds of a sound to what follows",
        SOUND,
        conditions=(Condition.PREFIX,),
        fields=frozenset({"conditioning_seconds"}),
        item_fields=(SOUND_ITEM,),
    ),
    _sound_row(
        "audio-extend-suffix",
        "the last seconds of a sound to what comes before",
        SOUND,
        conditions=(Condition.SUFFIX,),
        fields=frozenset({"conditioning_seconds"}),
        item_fields=(SOUND_ITEM,),
    ),
    _sound_row(
        "audio-inpaint",
        "a sound around some seconds to those seconds",
        SOUND,
        Part(Role.RANGES, frozenset({".json"}), "_mask"),
        conditions=(Condition.RANGES,),
        item_fields=(SOUND_ITEM, ItemField("time_ranges", Role.RANGES, frozenset({MediaKind.RANGES}))),
    ),
    _row(
        "av2av",
        "a reference video with sound to a video with sound that follows it",
        START_CLIP,
        END_CLIP,
        audio=Presence.GENERATED,
        conditions=(Condition.REFERENCE,),
        fields=SOUND_FIELDS | REFERENCE_FIELDS,
        defaults={"split_input_into_scenes": False},
        item_fields=(REFERENCE_ITEM, REFERENCE_SOUND_ITEM),
    ),
    _row(
        "av2av-masked",
        "a reference video with sound to the sound of a video and to what is masked in it",
        START_CLIP,
        END_CLIP,
        MASK,
        audio=Presence.GENERATED,
        conditions=(Condition.REFERENCE, Condition.MASK),
        fields=SOUND_FIELDS,
        defaults={"split_input_into_scenes": False},
        item_fields=(VIDEO_ITEM, MASK_ITEM, REFERENCE_ITEM, REFERENCE_SOUND_ITEM),
    ),
    _ltx_video_row(
        "ltx-video-trainer",
        "fal-ai/ltx-video-trainer",
        "text to video, and a first frame and text to video",
        Part(Role.TARGET, VIDEOS | IMAGES),
        conditions=(Condition.FIRST_FRAME,),
        lacks=frozenset({"debug_dataset", "validation_frame_rate", "stg_scale"}),
        item_fields=(ItemField("image_url", Role.START, _IMAGE, required=False, all_or_none=True),),
        steps=1000,
        targets=VIDEO_ATTENTION,
        mixed=True,
        auto_scale_rate=16,
    ),
    _ltx_video_row(
        "ltx-video/v2v",
        "ltx-video/v2v",
        "a reference video to a video that follows it",
        START_CLIP,
        END_CLIP,
        conditions=(Condition.REFERENCE, Condition.FIRST_FRAME),
        fields=REFERENCE_FIELDS,
        item_fields=(REFERENCE_ITEM,),
        steps=2000,
        targets=(*VIDEO_ATTENTION, "ff"),
    ),
)

ALIASES: Mapping[str, str] = MappingProxyType(
    {f"{ENDPOINT}ic-lora/{name}": ENDPOINT + name for name in ("v2v", "v2v-masked", "av2av", "av2av-masked")}
)
"""Older names of the same endpoints."""


def find_mode(endpoint: str) -> Mode:
    """Look up the mode of an endpoint, by its name or by an older one.

    Raises:
        ConfigError: No mode has this endpoint; the message names the nearest.
    """
    by_endpoint = {mode.endpoint: mode for mode in MODES}
    found = by_endpoint.get(ALIASES.get(endpoint, endpoint))
    if found is not None:
        return found
    near = get_close_matches(endpoint, by_endpoint, n=1)
    known = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(by_endpoint)}."
    raise ConfigError(f"endpoint {endpoint!r} is not known. {known}")
