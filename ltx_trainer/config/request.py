"""The request body of the hosted trainers: same names, same defaults, same limits.

One class holds every field of every mode; the row of the mode says which of them a body may have and which defaults
differ. Limits are the hosted ones where they protect the model, wider where they only protect the hosted machine.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from ltx_trainer.errors import GeometryError
from ltx_trainer.geometry import check_num_frames
from ltx_trainer.modes import AUDIO_FIELDS, Mode

REQUEST_FRAMES_FACTOR = 8
"""A request's frame counts are this * k + 1, whatever the model."""

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

MODE_FIELDS = AUDIO_FIELDS | {"first_frame_conditioning_p"}


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


class PreviewItem(Section):
    """One validation item."""

    prompt: Annotated[str, Field(min_length=1)]
    """What is asked for."""

    image_url: str | None = None
    """The image that stands in the first frame: a path, a file: or http(s) URL, or a base64 data URI."""


class Request(Section):
    """The `input` of a run."""

    training_data_url: Annotated[str, Field(min_length=1)]
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
    """Stretch or squeeze every video in time to exactly `number_of_frames`. Off: too short a video is left out."""

    split_input_into_scenes: bool = True
    """Split long videos at their cuts."""

    split_input_duration_threshold: Annotated[float, Field(ge=1, le=60)] = 30.0
    """Seconds above which a video is split."""

    debug_dataset: bool = False
    """Leave an archive of exactly what training saw."""

    with_audio: bool | None = None
    """Train sound too. None: only if every video has a track."""

    audio_normalize: bool = True
    """Bring the peak of each file to -1 dBFS."""

    audio_preserve_pitch: bool = True
    """Keep the pitch when sound is stretched with its video. Off: trim it or pad it."""

    first_frame_conditioning_p: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of training samples whose first frame is given."""

    validation: tuple[PreviewItem, ...] = ()
    """What is rendered as a preview."""

    validation_negative_prompt: str = NEGATIVE_PROMPT
    """What previews are guided away from."""

    validation_number_of_frames: Annotated[int, Field(ge=1, le=257)] = 89
    """Frames of a preview, 8 * k + 1."""

    validation_frame_rate: Annotated[int, Field(ge=8, le=60)] = 24
    """Frames per second of a preview."""

    validation_resolution: Resolution = "high"
    """Size of a preview."""

    validation_aspect_ratio: AspectRatio = "1:1"
    """Shape of a preview."""

    stg_scale: Annotated[float, Field(ge=0, le=3)] = 1.0
    """Strength of spatio-temporal guidance in previews; 0 is off."""

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
    return tuple(name for name in Request.model_fields if name not in MODE_FIELDS or name in mode.fields)


def preview_problem(mode: Mode, item: PreviewItem) -> str | None:
    """Say what keeps a validation item from being one of this mode; None if nothing does."""
    given = {name for name in PreviewItem.model_fields if getattr(item, name) is not None}
    missing = [name for name in mode.preview_fields if name not in given]
    if missing:
        return f"{missing[0]} is missing; an item of {mode.name} has {' and '.join(mode.preview_fields)}"
    extra = sorted(given.difference(mode.preview_fields))
    if extra:
        return f"{extra[0]} has no meaning in {mode.name}, whose items have {' and '.join(mode.preview_fields)} only"
    return None
