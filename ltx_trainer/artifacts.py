"""What one stage hands the next: frozen facts and paths, no tensors.

archive -> Manifest -> Clips -> CachedSet -> Adapter -> Bundle
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

from ltx_trainer.geometry import ClipShape


class MediaKind(StrEnum):
    """What a media file is."""

    VIDEO = "video"
    IMAGE = "image"
    AUDIO = "audio"


class Role(StrEnum):
    """What a file is to its example."""

    TARGET = "target"


@dataclass(frozen=True)
class SourceFile:
    """One media file as it came.

    Attributes:
        name: Path inside the archive, which names the file in messages.
        path: Where it lies now.
        sha256: Digest of its bytes, in hexadecimal.
        kind: What it is, by its extension.
    """

    name: str
    path: Path
    sha256: str
    kind: MediaKind


@dataclass(frozen=True)
class Example:
    """The files that make one training example, and its caption.

    Attributes:
        name: Path inside the archive without the extension; unique.
        files: One file for each role of the mode.
        caption: Text beside the media, stripped; None if there is no caption file or it is empty.
    """

    name: str
    files: Mapping[Role, SourceFile]
    caption: str | None


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

    Attributes:
        source: The video or image.
        start_seconds: Begin of the span on the file's own clock.
        span_seconds: Length of the span on the file's own clock; 0 for an image.
        shape: What the span becomes.
    """

    source: SourceFile
    start_seconds: Fraction
    span_seconds: Fraction
    shape: ClipShape


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
        name: The example's name, with the scene's number where a video was split.
        caption: What the model reads, trigger phrase included.
        footage: Pictures by role; empty in a mode without video.
        soundtrack: Sound by role; empty in a silent run.
    """

    name: str
    caption: str
    footage: Mapping[Role, Footage]
    soundtrack: Mapping[Role, Soundtrack]


@dataclass(frozen=True)
class Clips:
    """Everything that will be trained on, and what was left out on the way."""

    clips: tuple[Clip, ...]
    left_out: tuple[LeftOut, ...]
    with_audio: bool


@dataclass(frozen=True)
class Preview:
    """One validation item, before anything is encoded.

    Attributes:
        prompt: What is asked for.
        shape: What is rendered.
        first_frame: The image that stands in frame 0; None without one.
    """

    prompt: str
    shape: ClipShape
    first_frame: Footage | None


@dataclass(frozen=True)
class CachedExample:
    """One training example as tensors on disk.

    Attributes:
        name: As in `Clip`.
        source: Name of the file that the target is cut from.
        caption: As in `Clip`.
        shape: Pixel shape of the target; None in a mode without video.
        video: Normalised latents of the target's pictures `[channels, frames, rows, columns]`.
        audio: Normalised latents of the target's sound `[channels, steps, mel]`.
        prompt: Embeddings of the caption, one tensor for each stream.
    """

    name: str
    source: str
    caption: str
    shape: ClipShape | None
    video: Path | None
    audio: Path | None
    prompt: Path


@dataclass(frozen=True)
class CachedPreview:
    """One validation item as tensors on disk.

    Attributes:
        shape: What is rendered.
        prompt: Embeddings of what is asked for, one tensor for each stream.
        first_frame: Latents of the image that stands in frame 0 `[channels, 1, rows, columns]`; None without one.
    """

    shape: ClipShape
    prompt: Path
    first_frame: Path | None


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
        joined: All items in one file.
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
        video: The joined preview; None in a run without validation items.
        debug_dataset: The archive of what training saw; None unless it was asked for.
    """

    lora: Path
    config: Path
    video: Path | None
    debug_dataset: Path | None
