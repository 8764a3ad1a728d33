"""What one stage hands the next: frozen facts and paths, no tensors.

archive -> Manifest -> Clips -> CachedSet -> Adapter -> Bundle
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

from ltx_trainer.geometry import ClipShape, FrameSize


class MediaKind(StrEnum):
    """What a media file is."""

    VIDEO = "video"
    IMAGE = "image"
    AUDIO = "audio"
    RANGES = "ranges"


class Role(StrEnum):
    """What a file is to its example, or a span of pictures or sound to its clip."""

    TARGET = "target"
    REFERENCE = "reference"
    REFERENCE_SOUND = "reference sound"
    START = "start"
    SOUND = "sound"
    MASK = "mask"
    RANGES = "ranges"
    FIRST_KEYFRAME = "first keyframe"
    MIDDLE_KEYFRAME = "middle keyframe"
    LAST_KEYFRAME = "last keyframe"


KEYFRAMES = (Role.FIRST_KEYFRAME, Role.MIDDLE_KEYFRAME, Role.LAST_KEYFRAME)
"""In the order of time."""

WHITE_FROM = 128
"""The least brightness of a mask, of 255 and the mean of its channels, that counts as white."""

Range = tuple[Fraction, Fraction]
"""Begin and end in seconds."""


@dataclass(frozen=True)
class SourceFile:
    """One media file as it came.

    Attributes:
        name: Path inside the archive, which names the file in messages.
        path: Where it lies now.
        sha256: Digest of its bytes, in hexadecimal.
        kind: What it is, by its extension, or by its content where that may be an animation or a still.
    """

    name: str
    path: Path
    sha256: str
    kind: MediaKind


@dataclass(frozen=True)
class PieceCaption:
    """The caption of one scene, window or part of a file.

    Attributes:
        text: As in `Example`.
        where: What says it, for messages.
    """

    text: str | None
    where: str


@dataclass(frozen=True)
class Example:
    """The files that make one training example, and its caption.

    Attributes:
        name: Path inside the archive without the extension; unique.
        files: One file for each role of the mode.
        caption: Text beside the media, stripped; None if there is no caption file or it is empty.
        ranges: Seconds of the target's sound that are generated, in order; empty in other modes.
        pieces: Captions of single scenes, windows and parts, by what the names of their clips add to that of the
            example, such as `#scene-002`.
    """

    name: str
    files: Mapping[Role, SourceFile]
    caption: str | None
    ranges: tuple[Range, ...] = ()
    pieces: Mapping[str, PieceCaption] = field(default_factory=dict)

    def caption_of(self, clip: str) -> str | None:
        """Give the caption of one of its clips, by name: the clip's own, or that of its scene, or of the example."""
        piece = clip.removeprefix(self.name)
        while piece:
            if piece in self.pieces and self.pieces[piece].text is not None:
                return self.pieces[piece].text
            piece = piece.rpartition("#")[0]
        return self.caption


@dataclass(frozen=True)
class LeftOut:
    """A file or clip that is not trained on, and why.

    Attributes:
        name: Of the file or clip.
        reason: In words that follow the name.
        is_incomplete: Whether it is part of an example that lacks a file.
    """

    name: str
    reason: str
    is_incomplete: bool = False


@dataclass(frozen=True)
class Manifest:
    """What an archive holds for the mode of the run."""

    examples: tuple[Example, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Footage:
    """The exact pictures of one file that the model sees.

    Before the file's first frame the first is held, after its last the last.

    Attributes:
        source: The video or image.
        start_seconds: Begin of the span on the file's own clock.
        span_seconds: Length of the span on the file's own clock; 0 for an image.
        shape: What the span becomes.
        canvas: Size that the pictures are stretched to before they are cropped: of a mask, its clip's own, so that
            both lose the same edges. None leaves them as they are.
    """

    source: SourceFile
    start_seconds: Fraction
    span_seconds: Fraction
    shape: ClipShape
    canvas: FrameSize | None = None

    @property
    def facts(self) -> Mapping[str, str | int | Fraction]:
        """What decides the pixels, by name: which pictures, and how they are cut; what is cached is named by it.

        Names, captions and frame rates do not enter: a rate only shows in the span of the frames taken.
        """
        facts: dict[str, str | int | Fraction] = {
            "source": self.source.sha256,
            "kind": self.source.kind,
            "start": self.start_seconds,
            "span": self.span_seconds,
            "num_frames": self.shape.num_frames,
            "size": str(self.shape.size),
        }
        # Only where there is one, so that the names of what has none stay as they were.
        return facts if self.canvas is None else {**facts, "canvas": str(self.canvas)}

    def crf_as(self, role: Role, still_crf: int | None) -> int | None:
        """Give the H.264 quality that the pictures are first compressed at: `still_crf` for a still that is given.

        The model saw stills as frames of compressed videos.
        """
        return still_crf if self.source.kind is MediaKind.IMAGE and role in (Role.START, *KEYFRAMES) else None


@dataclass(frozen=True)
class Soundtrack:
    """The exact sound of one file that the model hears.

    Attributes:
        source: The video or audio file.
        start_seconds: Begin of the span on the file's own clock, which its video shares.
        span_seconds: Length of the span on the file's own clock.
        duration_seconds: What the span becomes.
        preserve_pitch: Stretch a span of another length without changing its pitch; if not, trim it or pad it.
        gain: Factor on the samples.
    """

    source: SourceFile
    start_seconds: Fraction
    span_seconds: Fraction
    duration_seconds: Fraction
    preserve_pitch: bool
    gain: float

    @property
    def is_stretched(self) -> bool:
        """Whether the span is stretched to its duration, rather than trimmed or padded."""
        return self.preserve_pitch and self.span_seconds != self.duration_seconds


@dataclass(frozen=True)
class Clip:
    """One training example, cut to what the model sees and hears.

    Attributes:
        name: The example's name, with the number of the scene, window or part where a file gives several.
        caption: What the model reads, trigger phrase included.
        footage: Pictures by role: the target; what is given beside it, masks too. Empty in a mode without video.
        soundtrack: Sound by role: the target, and the reference. Empty in a silent run.
        ranges: Seconds of the target's sound that are generated; empty in modes that have no such ranges.
    """

    name: str
    caption: str
    footage: Mapping[Role, Footage]
    soundtrack: Mapping[Role, Soundtrack]
    ranges: tuple[Range, ...] = ()

    @property
    def shape(self) -> ClipShape | None:
        """Of the target's pictures; None in a mode without video."""
        return self.footage[Role.TARGET].shape if Role.TARGET in self.footage else None


class FindingKind(StrEnum):
    """What was found in a file that is trained on."""

    SILENT_TRACK = "silent track"
    SILENT_CLIPS = "silent clips"
    PAUSES = "pauses"
    CLIPPED = "clipped"
    OFFSET = "offset"
    NO_LOUDNESS = "no loudness"


@dataclass(frozen=True)
class Finding:
    """What a person should know of a file that is trained on all the same.

    Attributes:
        kind: What it is.
        file: Name of the file.
        sentence: All of it in words.
        numbers: What was measured, by name.
        clips: Names of the clips that it concerns, where not all of the file's are.
        ranges: Where it is, on the file's clock.
    """

    kind: FindingKind
    file: str
    sentence: str
    numbers: Mapping[str, float]
    clips: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class PictureFacts:
    """What decoding a video or an image told of its pictures.

    Attributes:
        size: Upright, with square pixels.
        num_frames: All of them; 1 of an image.
        duration_seconds: From the first to the end of the last; 0 of an image.
        cuts: From the end of each scene to the begin of the next, on the file's clock; empty where none were looked
            for.
        start_seconds: Time of the first frame on the file's clock.
    """

    size: FrameSize
    num_frames: int
    duration_seconds: Fraction
    cuts: tuple[Range, ...] = ()
    start_seconds: Fraction = Fraction(0)

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames per second on average; None of an image."""
        return self.num_frames / self.duration_seconds if self.duration_seconds else None


@dataclass(frozen=True)
class SoundFacts:
    """What decoding a track told.

    Attributes:
        rate_hz: Of the file.
        channels: Of the file.
        duration_seconds: From the first sample to the end of the last.
        loudness_lufs: Of the whole track; None if it is too short or too quiet to have one.
        true_peak: Of the whole track; 1 is full scale.
        start_seconds: Time of the first sample on the file's clock.
    """

    rate_hz: int
    channels: int
    duration_seconds: Fraction
    loudness_lufs: float | None
    true_peak: float
    start_seconds: Fraction = Fraction(0)


@dataclass(frozen=True)
class SourceFacts:
    """What decoding a file told; None of what it does not have, or of what was not looked at."""

    pictures: PictureFacts | None = None
    sound: SoundFacts | None = None


@dataclass(frozen=True)
class Clips:
    """Everything that will be trained on, what was left out on the way, and what was found in the rest.

    Attributes:
        clips: Trained on.
        left_out: Not trained on.
        with_audio: Whether sound is trained.
        findings: What a person should know of the files.
        sources: What each file is that a clip is cut from, by its digest.
    """

    clips: tuple[Clip, ...]
    left_out: tuple[LeftOut, ...]
    with_audio: bool
    findings: tuple[Finding, ...] = ()
    sources: Mapping[str, SourceFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """One validation item, before anything is encoded.

    Attributes:
        prompt: What is asked for.
        shape: Of the pictures that are rendered; None in a mode without video.
        duration_seconds: Of what is rendered.
        footage: Pictures that are given, by role; the target's too where some or all of it is given.
        soundtrack: Sound that is given, by role; the target's too where some or all of it is given.
        ranges: As in `Clip`.
        sources: What each file is that it is cut from, by its digest.
    """

    prompt: str
    shape: ClipShape | None
    duration_seconds: Fraction
    footage: Mapping[Role, Footage]
    soundtrack: Mapping[Role, Soundtrack]
    ranges: tuple[Range, ...] = ()
    sources: Mapping[str, SourceFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class CachedMedia:
    """What the model is given of one clip, or learns from it, as tensors on disk.

    Attributes:
        video: Normalised latents of pictures `[channels, frames, rows, columns]` by role; of a mask, which cells are
            kept, as `kept` `[frames, rows, columns]`.
        audio: Normalised latents of sound `[channels, steps, mel]` by role.
        ranges: As in `Clip`.
    """

    video: Mapping[Role, Path]
    audio: Mapping[Role, Path]
    ranges: tuple[Range, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, in the order of their roles."""
        return tuple(part[role] for part in (self.video, self.audio) for role in sorted(part))


@dataclass(frozen=True)
class CachedExample:
    """One training example as tensors on disk.

    Attributes:
        name: As in `Clip`.
        source: Name of the file that the target is cut from.
        caption: As in `Clip`.
        shape: Pixel shape of the target; None in a mode without video.
        media: Its pictures and sound.
        prompt: Embeddings of the caption, one tensor for each stream.
    """

    name: str
    source: str
    caption: str
    shape: ClipShape | None
    media: CachedMedia
    prompt: Path


@dataclass(frozen=True)
class CachedPreview:
    """One validation item as tensors on disk.

    Attributes:
        shape: As in `Preview`.
        duration_seconds: As in `Preview`.
        media: What is given.
        prompt: Embeddings of what is asked for, one tensor for each stream.
    """

    shape: ClipShape | None
    duration_seconds: Fraction
    media: CachedMedia
    prompt: Path


@dataclass(frozen=True)
class CachedSet:
    """Everything that training and validation read.

    Attributes:
        examples: What is trained on.
        left_out: Clips whose media failed while it was encoded.
        empty_prompt: Embeddings of the empty text, which stand in for a dropped caption.
        negative_prompt: Embeddings of the validation's negative prompt.
        previews: The validation items.
        with_audio: Whether the examples have sound.
        computed: How many tensor files had to be computed; 0 when all were there.
    """

    examples: tuple[CachedExample, ...]
    left_out: tuple[LeftOut, ...]
    empty_prompt: Path
    negative_prompt: Path
    previews: tuple[CachedPreview, ...]
    with_audio: bool
    computed: int


ADAPTER_PREFIX = "adapter/"
"""What the names of the adapter's tensors begin with in a checkpoint."""

AVERAGE_PREFIX = "average/"
"""What the names of its moving average begin with, where the run keeps one; the LoRA is then made from that."""


@dataclass(frozen=True)
class Adapter:
    """A trained LoRA as the training loop left it.

    Attributes:
        checkpoint: The last checkpoint.
        prefix: What the names of the tensors to publish, in fp32, begin with in it: `ADAPTER_PREFIX` or
            `AVERAGE_PREFIX`.
        step: Optimizer updates done.
    """

    checkpoint: Path
    prefix: str
    step: int


@dataclass(frozen=True)
class Render:
    """One preview as files.

    Attributes:
        step: Optimizer updates done when it was rendered.
        items: One video or sound file for each validation item.
        joined: All items in one file; sound, if the mode generates no pictures.
    """

    step: int
    items: tuple[Path, ...]
    joined: Path


@dataclass(frozen=True)
class Bundle:
    """What the run leaves.

    Attributes:
        lora: The published adapter.
        config: What an inference endpoint needs to know of it.
        video: The joined preview; None in a run without validation items, and in a mode that generates no pictures.
        audio: The joined preview of a mode that generates sound alone; None in others and without validation items.
        debug_dataset: The archive of what training saw; None unless it was asked for.
    """

    lora: Path
    config: Path
    video: Path | None
    audio: Path | None
    debug_dataset: Path | None
