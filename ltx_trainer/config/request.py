"""The request body of the hosted trainers: same names, same defaults, same limits.

One class holds every field of every mode; the row of the mode says which of them a body may have and which defaults
differ. A field that is null in a body is one that it leaves out, so that only a row's defaults make one null.

Limits are the hosted ones where they protect the model, wider where they only protect the hosted machine.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from ltx_trainer.artifacts import Range
from ltx_trainer.config.ranges import parse_ranges
from ltx_trainer.errors import GeometryError
from ltx_trainer.geometry import check_num_frames
from ltx_trainer.modes import MODES, Condition, Mode

REQUEST_FRAMES_FACTOR = 8
"""A request's frame counts are this * k + 1, whatever the model."""

MAX_CONDITIONING_FRAMES = 121

NEGATIVE_PROMPT = (
    "blurry, out of focus, overexposed, underexposed, low contrast, washed out colors, excessive noise, grainy "
    "texture, poor lighting, flickering, motion blur, distorted proportions, unnatural skin tones, deformed "
    "facial features, asymmetrical face, missing facial features, extra limbs, disfigured hands, wrong hand "
    "count, artifacts around text, inconsistent perspective, camera shake, incorrect depth of field, background "
    "too sharp, background clutter, distracting reflections, harsh shadows, inconsistent lighting direction, "
    "color banding, cartoonish rendering, 3D CGI look, unrealistic materials, uncanny valley effect, incorrect "
    "ethnicity, wrong gender, exaggerated expressions, wrong gaze direction, mismatched lip sync, silent or muted "
    "audio, distorted voice, robotic voice, echo, background noise, off-sync audio, incorrect dialogue, added "
    "dialogue, repetitive speech, jittery movement, awkward pauses, incorrect timing, unnatural transitions, "
    "inconsistent framing, tilted camera, flat lighting, inconsistent tone, cinematic oversaturation, stylized "
    "filters, or AI artifacts."
)

MODE_FIELDS = frozenset[str]().union(*(mode.fields for mode in MODES))
"""Fields that only some modes have."""


class Section(BaseModel):
    """A closed, frozen group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _tell_numbers_from_flags(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("Input should be text or a number, not true or false")
        return value


def _integer_of_text(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Rank = Annotated[Literal[8, 16, 32, 64, 128], BeforeValidator(_integer_of_text)]
Resolution = Literal["low", "medium", "high"]
AspectRatio = Literal["16:9", "1:1", "9:16"]


def _seconds_of_ranges(value: object) -> object:
    return None if value is None else tuple((float(begin), float(end)) for begin, end in parse_ranges(value))


def _named(source: str) -> str:
    if not source.strip():
        raise ValueError("is empty; give a path, a file: or http(s) URL, or a base64 data URI")
    return source


Source = Annotated[str, AfterValidator(_named)]
"""A path, a file: or http(s) URL, or a base64 data URI."""

TimeRanges = Annotated[tuple[tuple[float, float], ...], BeforeValidator(_seconds_of_ranges)]

MAX_REFERENCE_FACTOR = 8
"""Of references, in space and in time."""

Factor = Annotated[int, Field(ge=1, le=MAX_REFERENCE_FACTOR)]
Corner = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


class PreviewItem(Section):
    """One validation item. Files are given as a path, a file: or http(s) URL, or a base64 data URI."""

    prompt: Annotated[str, Field(min_length=1)]
    """What is asked for."""

    image_url: Source | None = None
    """The image that stands in the first frame."""

    video_url: Source | None = None
    """The video that is inpainted, outpainted, extended or given a sound; of outpaint with its full canvas."""

    mask_url: Source | None = None
    """Image or video: white is generated, black is kept. It may have any size."""

    reference_video_url: Source | None = None
    """The video that guides the preview."""

    reference_audio_url: Source | None = None
    """The sound, or video with sound, that guides the preview. None in av2av: the sound of the reference video."""

    audio_url: Source | None = None
    """The sound, or video with sound, that is given, extended or inpainted."""

    start_image_url: Source | None = None
    """The first keyframe."""

    end_image_url: Source | None = None
    """The last keyframe."""

    middle_image_url: Source | None = None
    """The middle keyframe, where `include_middle_keyframe` is on."""

    time_ranges: Annotated[
        TimeRanges | None, Field(validation_alias=AliasChoices("time_ranges", "mask_ranges", "ranges"))
    ] = None
    """Seconds of the sound that are generated again, such as `[[1.0, 2.0]]`. `mask_ranges` and `ranges` are taken
    too."""

    @property
    def exact_ranges(self) -> tuple[Range, ...]:
        """The time ranges as exact numbers, in order; none if there are none."""
        return tuple((Fraction(str(begin)), Fraction(str(end))) for begin, end in self.time_ranges or ())


class Request(Section):
    """The `input` of a run."""

    training_data_url: Source
    """The training data: a zip, tar or tar.gz, or a folder; as a path, a file: or http(s) URL, or a base64 data URI."""

    rank: Rank = 32
    """Rank of the LoRA."""

    number_of_steps: Annotated[int, Field(ge=1, le=20000)] = 2000
    """Optimizer updates."""

    learning_rate: Annotated[float, Field(ge=1e-6, le=1)] = 2e-4
    """Peak rate."""

    number_of_frames: Annotated[int, Field(ge=1, le=257)] = 89
    """Frames of each training clip, 8 * k + 1."""

    frame_rate: Annotated[int, Field(ge=8, le=60)] = 24
    """Frames per second that training clips are resampled to."""

    resolution: Resolution = "medium"
    """Size of training clips; the model's table says what it is in pixels."""

    aspect_ratio: AspectRatio = "1:1"
    """Shape of training clips."""

    trigger_phrase: str = ""
    """Put before every caption."""

    auto_scale_input: bool = False
    """Stretch or squeeze every video in time to exactly `number_of_frames`; in ltx-video-trainer at 16 frames per
    second, whatever `frame_rate` is. Off: too short a video is left out."""

    split_input_into_scenes: bool = True
    """Split long videos at their cuts."""

    split_input_duration_threshold: Annotated[float, Field(ge=1, le=60)] = 30.0
    """Seconds above which a video is split."""

    debug_dataset: bool = False
    """Leave an archive of exactly what training saw."""

    with_audio: bool | None = None
    """Train sound too. None: only if every video has a track."""

    audio_normalize: bool = True
    """Bring the sound of every file to one level: its peak to -1 dBFS, or as `audio.normalize` says."""

    audio_preserve_pitch: bool = True
    """Keep the pitch when sound is stretched with its video. Off: trim it or pad it."""

    first_frame_conditioning_p: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of training samples whose first frame is given."""

    reference_downscale_factor: Factor = 1
    """How many times smaller than the target the reference is in width and height. Both sizes are then still multiples
    of 32."""

    reference_temporal_scale_factor: Factor = 1
    """Of how many frames of the target the reference has one. It divides (`number_of_frames` - 1) / 8."""

    crop_top_left: Corner | None = None
    """`[x, y]` where the kept rectangle begins, in pixels of the training frame; snapped inward to multiples of 32."""

    crop_bottom_right: Corner | None = None
    """`[x, y]` where the kept rectangle ends, in pixels of the training frame; snapped inward to multiples of 32."""

    include_middle_keyframe: bool = False
    """Give the middle frame too. Then every validation item has `middle_image_url`."""

    conditioning_frames: Annotated[int, Field(ge=REQUEST_FRAMES_FACTOR, le=MAX_CONDITIONING_FRAMES)] = 9
    """Frames that are given: 8 * k + 1 of a prefix, 8 * k of a suffix; fewer than the clips and previews have."""

    audio_duration_seconds: Annotated[float, Field(ge=0.5, le=60)] = 5.0
    """Seconds of each training clip and preview of sound."""

    conditioning_seconds: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    """Seconds of sound that are given; fewer than `audio_duration_seconds`."""

    validation: tuple[PreviewItem, ...] = ()
    """What is rendered as a preview."""

    validation_negative_prompt: str = NEGATIVE_PROMPT
    """What previews are guided away from."""

    validation_number_of_frames: Annotated[int, Field(ge=1, le=257)] = 89
    """Frames of a preview, 8 * k + 1."""

    validation_frame_rate: Annotated[int, Field(ge=8, le=60)] | None = 24
    """Frames per second of a preview. None: those of the clips, as in ltx-video-trainer."""

    validation_resolution: Resolution = "high"
    """Size of a preview."""

    validation_aspect_ratio: AspectRatio = "1:1"
    """Shape of a preview."""

    validation_reverse: bool = False
    """Show previews, and what they are given, backwards in time: for an effect that is learned in reverse."""

    stg_scale: Annotated[float, Field(ge=0, le=3)] | None = 1.0
    """Strength of spatio-temporal guidance in previews; 0 is off. None: the model's own, as in ltx-video-trainer."""

    def with_trigger(self, caption: str | None) -> str:
        """Put the trigger phrase before a caption that does not begin with it; it stands for one that is not there."""
        trigger = self.trigger_phrase.strip()
        if not caption or not trigger:
            return caption or trigger
        # "cat" does not begin "category", but "TOK:" begins "TOK:cat".
        end = r"\b" if re.search(r"\w\Z", trigger) else ""
        if re.match(re.escape(trigger) + end, caption, re.IGNORECASE):
            return caption
        return f"{trigger} {caption}"

    @field_validator("number_of_frames", "validation_number_of_frames")
    @classmethod
    def _fit_frames(cls, num_frames: int) -> int:
        try:
            check_num_frames(num_frames, REQUEST_FRAMES_FACTOR)
        except GeometryError as error:
            raise ValueError(str(error)) from error
        return num_frames


def request_fields(mode: Mode) -> tuple[str, ...]:
    """Name the fields that a request of this mode may have."""
    common = Request.model_fields.keys() - MODE_FIELDS - mode.lacks
    return tuple(name for name in Request.model_fields if name in common | mode.fields)


def default_of(mode: Mode, name: str) -> object:
    """Give what a request field is in a mode where a request leaves it out; None if it must not."""
    field = Request.model_fields[name]
    return mode.defaults.get(name, None if field.is_required() else field.default)


def request_problem(mode: Mode, request: Request) -> str | None:
    """Say what keeps a request from being one of this mode; None if nothing does."""
    return next(_request_problems(mode, request), None)


def preview_problem(mode: Mode, item: PreviewItem, *, with_middle: bool) -> str | None:
    """Say what keeps a validation item from being one of this mode; None if nothing does.

    Args:
        mode: Of the run.
        item: Of the request.
        with_middle: Whether the middle keyframe is given too.
    """
    problem = next(_item_problems(mode, item, with_middle=with_middle), None)
    if problem is None:
        return None
    others = [
        other
        for other in MODES
        if other is not mode and next(_item_problems(other, item, with_middle=None), None) is None
    ]
    # Of the same model, if there is one.
    names = [other.name for other in others if other.family == mode.family] or [other.name for other in others]
    return f"{problem}. As it stands it is an item of {' or '.join(names)}" if names else problem


def _request_problems(mode: Mode, request: Request) -> Iterator[str]:
    given = {name for name in request.model_fields_set if getattr(request, name) is not None}
    for name in sorted(given.difference(request_fields(mode))):
        having = [other.name for other in MODES if name in request_fields(other)]
        yield f"input.{name} is not a field of {mode.endpoint}; it is one of {', '.join(having)}"
    for name in mode.required_fields:
        if getattr(request, name) is None:
            yield f"input.{name} is missing, which {mode.name} needs: {_described(name)}"
    if "conditioning_frames" in mode.fields:
        yield from _conditioning_problems(mode, request)
    if "conditioning_seconds" in mode.fields and request.conditioning_seconds >= request.audio_duration_seconds:
        yield (
            f"input.conditioning_seconds {request.conditioning_seconds:g} must be less than "
            f"input.audio_duration_seconds {request.audio_duration_seconds:g}, or nothing is left to generate; "
            f"{request.audio_duration_seconds / 2:g} works"
        )
    if request.validation_number_of_frames == 1 and any(item.image_url is not None for item in request.validation):
        yield "input.validation_number_of_frames 1 leaves nothing to generate after an image_url; 9 works"
    for index, item in enumerate(request.validation):
        if problem := preview_problem(mode, item, with_middle=request.include_middle_keyframe):
            yield f"input.validation.{index}: {problem}"
    for field in mode.item_fields:
        if field.all_or_none:
            yield from _uneven(field.name, request.validation)


def _conditioning_problems(mode: Mode, request: Request) -> Iterator[str]:
    count = request.conditioning_frames
    rest = 1 if Condition.PREFIX in mode.conditions else 0
    known = range(REQUEST_FRAMES_FACTOR + rest, MAX_CONDITIONING_FRAMES + 1, REQUEST_FRAMES_FACTOR)
    if count not in known:
        near = sorted(sorted(known, key=lambda number: abs(number - count))[:2])
        rule = f"{REQUEST_FRAMES_FACTOR} * k{' + 1' if rest else ''}"
        yield (
            f"input.conditioning_frames {count} does not fit {mode.name}, which takes {rule}. "
            f"Nearest: {near[0]} or {near[1]}"
        )
    lengths = {"number_of_frames": request.number_of_frames}
    if request.validation:
        lengths["validation_number_of_frames"] = request.validation_number_of_frames
    for name, num_frames in lengths.items():
        if count >= num_frames:
            below = [number for number in known if number < num_frames]
            longer = ((count - 1) // REQUEST_FRAMES_FACTOR + 1) * REQUEST_FRAMES_FACTOR + 1
            works = f"{below[-1]} works" if below else f"{name} {longer} works"
            yield (
                f"input.conditioning_frames {count} must be less than input.{name} {num_frames}, or nothing is left to "
                f"generate; {works}"
            )


def _uneven(name: str, items: Sequence[PreviewItem]) -> Iterator[str]:
    """Say which item lacks a field that another has."""
    having = [index for index, item in enumerate(items) if getattr(item, name) is not None]
    lacking = [index for index in range(len(items)) if index not in having]
    if having and lacking:
        yield (
            f"input.validation.{lacking[0]}: {name} is missing, which input.validation.{having[0]} has; all items have "
            "it, or none"
        )


def _item_problems(mode: Mode, item: PreviewItem, *, with_middle: bool | None) -> Iterator[str]:
    """Say what is wrong with an item; with the middle keyframe wanted, refused, or as it comes."""
    given = {name for name in PreviewItem.model_fields if getattr(item, name) is not None}
    required = ["prompt", *(field.name for field in mode.item_fields if field.required)]
    optional = [field.name for field in mode.item_fields if not field.required]
    has = f"has {_listed(required)}{f', and may have {_listed(optional)}' if optional else ''}"
    for name in required:
        if name not in given:
            yield f"{name} is missing; an item of {mode.name} {has}"
    for name in sorted(given.difference(required, optional)):
        yield f"{name} has no meaning in {mode.name}, whose item {has}{'' if optional else ' only'}"
    if "middle_image_url" in optional and with_middle is not None and with_middle != ("middle_image_url" in given):
        yield (
            "middle_image_url is missing, which input.include_middle_keyframe: true needs of every item"
            if with_middle
            else "middle_image_url has no meaning without input.include_middle_keyframe: true"
        )


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _described(name: str) -> str:
    return " ".join((Request.model_fields[name].description or "").split()).rstrip(".")
