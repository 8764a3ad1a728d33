"""What the dataset report shows: facts of every clip, what clips have in common, and advice. No pictures but JPEGs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

from ltx_trainer.artifacts import Clip, Finding, Footage, LeftOut, Role, SourceFacts
from ltx_trainer.geometry import ClipShape


@dataclass(frozen=True)
class Fingerprint:
    """What tells one picture from another, whatever its size and compression.

    Attributes:
        bits: 64 signs of the lowest frequencies of its brightness.
        colours: Means of its `COLOUR_CELLS` x `COLOUR_CELLS` parts, RGB, row by row, 0 to 255.
    """

    bits: int
    colours: bytes


@dataclass(frozen=True)
class Glance:
    """What a few frames of one span of pictures told.

    Attributes:
        thumbnails: JPEGs of the first, the middle and the last frame after the crop; of a still, one.
        prints: Of frames spread evenly over the span, before the crop.
        moving: Share of what is left by the crop that changes in the span; None of a still.
        lost: Share of all that changes that the crop takes away; None of a still, and where nothing changes.
        cut_off: Share of the picture that the crop takes away.
    """

    thumbnails: tuple[bytes, ...]
    prints: tuple[Fingerprint, ...]
    moving: float | None
    lost: float | None
    cut_off: float


@dataclass(frozen=True)
class Waveform:
    """The outline of a span of sound, before its gain.

    Attributes:
        peaks: Largest absolute sample of each of equal parts of the clip, in steps of `PEAK_STEP` of full scale.
    """

    peaks: tuple[int, ...]


@dataclass(frozen=True)
class Glimpse:
    """What decoding a little of a clip told.

    Attributes:
        pictures: By role; what is cut from the target's own file is not looked at again.
        sound: By role, likewise.
        problem: Why a part is missing; None if none is.
    """

    pictures: Mapping[Role, Glance] = field(default_factory=dict)
    sound: Mapping[Role, Waveform] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class SurveyedClip:
    """One clip, its file, and what was seen of it.

    Attributes:
        clip: As it is trained on.
        sources: What its files are, by their digests.
        glimpse: Empty if nothing was decoded.
        held_out: Whether it is only measured on.
        lacks_caption: Whether a model is still to write its caption.
    """

    clip: Clip
    sources: Mapping[str, SourceFacts] = field(default_factory=dict)
    glimpse: Glimpse = field(default_factory=Glimpse)
    held_out: bool = False
    lacks_caption: bool = False

    @property
    def name(self) -> str:
        """Of the clip."""
        return self.clip.name

    @property
    def footage(self) -> Footage | None:
        """The target's pictures; None in a mode without video."""
        return self.clip.footage.get(Role.TARGET)

    @property
    def file(self) -> str:
        """Name of the file that the target is cut from."""
        return (self.footage or self.clip.soundtrack[Role.TARGET]).source.name

    @property
    def source(self) -> SourceFacts:
        """What that file is."""
        part = self.footage or self.clip.soundtrack[Role.TARGET]
        return self.sources.get(part.source.sha256, SourceFacts())

    @property
    def heard(self) -> SourceFacts:
        """What the file is that the target's sound is cut from."""
        part = self.clip.soundtrack.get(Role.TARGET)
        return SourceFacts() if part is None else self.sources.get(part.source.sha256, SourceFacts())

    @property
    def gain(self) -> float:
        """Factor on the samples of the target's sound; 1 where it has none."""
        sound = self.clip.soundtrack.get(Role.TARGET)
        return 1.0 if sound is None else sound.gain

    @property
    def glance(self) -> Glance | None:
        """What was seen of the target."""
        return self.glimpse.pictures.get(Role.TARGET)

    @property
    def waveform(self) -> Waveform | None:
        """What was heard of the target."""
        return self.glimpse.sound.get(Role.TARGET)

    @property
    def duration_seconds(self) -> Fraction:
        """Of what the clip becomes."""
        shape = self.clip.shape
        return self.clip.soundtrack[Role.TARGET].duration_seconds if shape is None else shape.duration_seconds

    @property
    def is_still(self) -> bool:
        """Whether it has one frame."""
        return self.clip.shape is not None and self.clip.shape.num_frames == 1


@dataclass(frozen=True)
class LookAlikes:
    """Two clips of different files that show nearly the same.

    Attributes:
        clips: Their names.
        distance: Mean number of bits, of 64, by which their frames differ; 0 for the same span of the same bytes.
        same_bytes: Whether their files are equal.
    """

    clips: tuple[str, str]
    distance: float
    same_bytes: bool


@dataclass(frozen=True)
class Overlap:
    """A file of a validation item that stands in the training data too.

    Attributes:
        item: Number of the validation item, from 0.
        role: What the file is to the item.
        file: Its name.
        clips: Names of the clips that hold it.
        same_bytes: Whether it is the very file, rather than one that looks alike.
    """

    item: int
    role: Role
    file: str
    clips: tuple[str, ...]
    same_bytes: bool


class AdviceKind(StrEnum):
    """Why training will disappoint."""

    FEW_CLIPS = "few clips"
    LITTLE_SPEECH = "little speech"
    EMPTY_CAPTIONS = "empty captions"
    ALIKE_CAPTIONS = "captions all alike"
    REPEATED_CAPTIONS = "repeated captions"
    CUTS = "cuts in clips"
    LOST_MOTION = "motion cut off"
    HARDLY_MOVES = "hardly moves"
    ENLARGED = "enlarged"
    LOST_SOUND = "sound left out"
    SILENCE = "silence"
    CLIPPING = "clipping"
    LOOK_ALIKES = "near-duplicates"
    IN_VALIDATION = "validation in training"


@dataclass(frozen=True)
class Advice:
    """One sentence where the data will disappoint.

    Attributes:
        kind: Why.
        sentence: What was found, and what would help.
        clips: Names of the clips that it is about; none where it is about all.
    """

    kind: AdviceKind
    sentence: str
    clips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """Everything that the dataset report says.

    Attributes:
        title: What the data is for: the endpoint.
        run: Name of the run.
        clips: What is trained on, or measured on.
        left_out: What is not, and why.
        with_audio: Whether sound is trained.
        audio_rate_hz: Sample rate of the model; None if it has no sound.
        shape: What every video becomes; None in a mode without video.
        conditions: What is given of every clip, as `describe_conditions` says it.
        findings: What a person should know of the files' sound.
        look_alikes: Clips that show nearly the same, those that differ least first.
        overlaps: Validation inputs that stand in the training data.
        advice: Where the data will disappoint.
        was_decoded: Whether frames were looked at.
    """

    title: str
    run: str
    clips: tuple[SurveyedClip, ...]
    left_out: tuple[LeftOut, ...]
    with_audio: bool
    audio_rate_hz: int | None
    shape: ClipShape | None
    conditions: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Finding, ...] = ()
    look_alikes: tuple[LookAlikes, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    advice: tuple[Advice, ...] = ()
    was_decoded: bool = True
