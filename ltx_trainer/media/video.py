"""Opens the moving pictures of a file: by libav, and animations by Pillow.

libav does not decode animated WebP, and of a GIF that gives its pictures no time it gives only one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from PIL import Image, ImageSequence

from ltx_trainer.errors import MediaError
from ltx_trainer.media.container import (
    choice_of,
    declared_seconds,
    opened,
    time_base_of,
    timed_frames,
    video_stream_of,
)
from ltx_trainer.media.deinterlace import Timed, deinterlaced
from ltx_trainer.media.images import opened_image

_TICKS_PER_SECOND = 1000
_SHORTEST_TICKS, _DEFAULT_TICKS = 11, 100
"""A picture of an animation that is shown for less is shown for the default, as browsers do."""
_GIF_BEGINS, _GIF_ENDS = b"GIF8", b";"
_WEBP_BEGINS = (b"RIFF", b"WEBP")
_TAIL_BYTES = 4096


class Video(Protocol):
    """The moving pictures of an open file."""

    @property
    def time_base(self) -> Fraction:
        """Length of one tick of their clock, in seconds."""
        ...

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a stored pixel divided by its height."""
        ...

    @property
    def has_fields(self) -> bool:
        """Whether a frame that is marked as interlaced holds two fields."""
        ...

    @property
    def usual_seconds(self) -> Fraction:
        """How long one frame is shown, as the header says; 0 if it does not."""
        ...

    @property
    def declared_seconds(self) -> Fraction:
        """Longest length that the header promises; 0 if it promises none."""
        ...

    def frames(self, start_seconds: Fraction | None = None) -> Iterator[Timed]:
        """Decode the frames in the order of the screen, each with its time on the file's clock, in seconds.

        Args:
            start_seconds: Begin at a frame at or before this time; None begins at the first frame.

        Raises:
            MediaError: The file is damaged, a frame has no time, or times run backwards.
        """
        ...

    @property
    def choice(self) -> str | None:
        """Which track these are, in words that follow a name; None where the file has no other."""
        ...


@contextmanager
def opened_video(path: Path) -> Iterator[Video]:
    """Open a file of which the pictures move.

    Raises:
        MediaError: The file is missing, empty, of a format that is not read, damaged, or has no video that can be
            decoded.
    """
    if is_animation(path):
        with opened_image(path) as image:
            _check_animation(image, path)
            yield _Animation(image)
    else:
        with opened(path) as container:
            yield _Track(container, path.name)


def progressive(video: Video, frames: Iterator[Timed]) -> Iterator[Timed]:
    """Make whole frames of those of a video that are interlaced.

    Args:
        video: Whose frames.
        frames: As `Video.frames` gives them.
    """
    return deinterlaced(frames) if video.has_fields else frames


class _Track:
    """A video stream of a container.

    Args:
        container: An open file that nothing was read from.
        name: The file's name, for messages.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        self._container = container
        self._name = name
        self._stream = video_stream_of(container, name)

    @property
    def time_base(self) -> Fraction:
        return time_base_of(self._stream)

    @property
    def pixel_aspect(self) -> Fraction:
        return self._stream.sample_aspect_ratio or Fraction(1)

    @property
    def has_fields(self) -> bool:
        # HEVC stores each field as a frame of its own.
        return self._stream.codec_context.name != "hevc"

    @property
    def usual_seconds(self) -> Fraction:
        return 1 / self._stream.guessed_rate if self._stream.guessed_rate else Fraction(0)

    @property
    def declared_seconds(self) -> Fraction:
        return declared_seconds(self._container, self._stream)

    def frames(self, start_seconds: Fraction | None = None) -> Iterator[Timed]:
        return timed_frames(self._container, self._stream, self._name, start_seconds=start_seconds)

    @property
    def choice(self) -> str | None:
        return choice_of(self._container, self._stream)


class _Animation:
    """An animated image.

    Args:
        image: Open; it has several pictures.
    """

    time_base = Fraction(1, _TICKS_PER_SECOND)
    pixel_aspect = Fraction(1)
    has_fields = False
    usual_seconds = Fraction(_DEFAULT_TICKS, _TICKS_PER_SECOND)
    declared_seconds = Fraction(0)
    choice = None

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def frames(self, start_seconds: Fraction | None = None) -> Iterator[Timed]:
        del start_seconds  # Every picture is painted over the one before.
        ticks = 0
        for picture in ImageSequence.Iterator(self._image):
            pixels = np.ascontiguousarray(picture.convert("RGBA"))
            frame = VideoFrame.from_ndarray(pixels, format="rgba")
            frame.time_base = self.time_base
            frame.pts, frame.duration = ticks, _shown_ticks(picture)
            yield ticks * self.time_base, frame
            ticks += frame.duration


def _shown_ticks(image: Image.Image) -> int:
    ticks = int(image.info.get("duration") or 0)
    return ticks if ticks >= _SHORTEST_TICKS else _DEFAULT_TICKS


def is_animation(path: Path) -> bool:
    """Tell a GIF or WebP by how it begins; it has pictures alone."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(12)
    return head.startswith(_GIF_BEGINS) or (head[:4], head[8:]) == _WEBP_BEGINS


def _check_animation(image: Image.Image, path: Path) -> None:
    if not getattr(image, "is_animated", False):
        raise MediaError(f"{path.name} is a still image, not an animation. Give a video, or use it as an image.")
    # Pillow tells a picture that is cut short, and not one that is missing.
    if image.format == "GIF" and not _tail(path).rstrip(b"\0\r\n ").endswith(_GIF_ENDS):
        raise MediaError(f"{path.name} is cut short: it does not end as a GIF does. Export it again.")


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read()
