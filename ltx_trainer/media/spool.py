"""Pictures that are decoded once and wait on disk for all who look at them, scaled and before their crop."""

import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from ltx_trainer.artifacts import Footage, MediaKind, SourceFile
from ltx_trainer.atomic import disk_errors, make_folder, whole_file
from ltx_trainer.geometry import FrameSize, midpoint_times
from ltx_trainer.launcher import is_main_process
from ltx_trainer.media.decode import decode_whole
from ltx_trainer.media.decoding import DECODING
from ltx_trainer.media.picture import whole_pixels

FREE_PARTS = 4
"""Of the free disk, one of so many may be kept."""


@dataclass(frozen=True)
class Wish:
    """Which pictures of a video clips may be cut from.

    Attributes:
        size: That they are scaled to cover.
        canvas: Size that each is stretched to before; None is its own.
        reach_seconds: From the first frame on; None takes all.
        short_seconds: Of a video that is longer, all are taken nevertheless; None: of none.
    """

    size: FrameSize
    canvas: FrameSize | None = None
    reach_seconds: Fraction | None = None
    short_seconds: Fraction | None = None

    def reach_in(self, duration_seconds: Fraction) -> Fraction | None:
        """Give how far into a video of some length pictures are taken; None: to its end."""
        is_long = self.short_seconds is not None and duration_seconds > self.short_seconds
        return None if is_long else self.reach_seconds


class Reel:
    """The pictures of one video in the order of the screen, as they are decoded.

    Args:
        path: Where they lie.
        wish: Which are taken, and how they are scaled.
        most_bytes: Of all; a video that has more leaves nothing.
    """

    def __init__(self, path: Path, wish: Wish, most_bytes: int) -> None:
        self.wish = wish
        self._path = path
        self._most_bytes = most_bytes
        self._reach_seconds = wish.reach_seconds
        self._expected_frames = 0
        self._times: list[Fraction] = []
        self._shape: tuple[int, ...] | None = None
        self._has_ended = False
        self._is_whole = False
        self._file = path.open("wb")

    def begin(self, duration_seconds: Fraction, frame_seconds: Fraction) -> None:
        """Prepare for a video.

        Args:
            duration_seconds: What its header promises; 0 if it promises nothing.
            frame_seconds: How long its header says that a frame is shown; 0 if it does not.
        """
        self._reach_seconds = self.wish.reach_in(duration_seconds)
        reach = duration_seconds if self._reach_seconds is None else self._reach_seconds
        self._expected_frames = int(reach / frame_seconds) if frame_seconds else 0

    @property
    def is_full(self) -> bool:
        """Whether no more pictures are taken."""
        return self._has_ended

    def add(self, time_seconds: Fraction, frame: VideoFrame, pixel_aspect: Fraction, name: str) -> None:
        """Take the next frame, on screen from `time_seconds` on, unless all that is wished is there.

        Raises:
            MediaError: As in `whole_pixels`.
            OutOfResources: The disk is full.
        """
        if self._has_ended:
            return
        picture = whole_pixels(frame, self.wish.size, pixel_aspect, name, self.wish.canvas)
        self._shape = self._shape or picture.shape
        num_frames = max(len(self._times) + 1, self._expected_frames)
        if picture.shape != self._shape or num_frames * picture.nbytes > self._most_bytes:
            self._times.clear()
            self._has_ended = True
            return
        with disk_errors(self._path):
            self._file.write(np.ascontiguousarray(picture).data)
        self._times.append(time_seconds)
        reach = self._reach_seconds
        self._has_ended = reach is not None and time_seconds >= self._times[0] + reach

    def finish(self) -> None:
        """Say that the video has no more frames."""
        self._is_whole = not self._has_ended
        self._has_ended = True
        with disk_errors(self._path):
            self._file.close()

    def cut(self, times: Iterable[Fraction]) -> Iterator[np.ndarray] | None:
        """Give the picture on screen at each time; None if one may be on screen that is not here."""
        indices = [max(0, bisect_right(self._times, time) - 1) for time in times]
        known = len(self._times) if self._is_whole else len(self._times) - 1
        if self._shape is None or not indices or max(indices) >= known:
            return None
        pictures = np.memmap(self._path, np.uint8, "r", shape=(len(self._times), *self._shape))
        return (pictures[index] for index in indices)

    def drop(self) -> None:
        """Remove what was taken."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Spool:
    """Pictures of clips, each clip's in one file.

    Args:
        folder: Where they lie, of one run.
        most_bytes: Of all that is kept before somebody asks for it; 0 keeps nothing.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def reel(self, source: SourceFile, wish: Wish) -> Reel | None:
        """Begin to take what is decoded of a video; None if there is no room for any of it."""
        room = self._room_bytes()
        if room <= 0:
            return None
        make_folder(self._folder)
        return Reel(self._folder / f".{source.sha256}.{os.getpid()}.reel", wish, room)

    def keep(self, footage: Footage, reel: Reel) -> None:
        """Keep the pictures of a clip, if the reel of its source has them.

        Raises:
            OutOfResources: The disk is full.
        """
        wish, shape = reel.wish, footage.shape
        if (wish.size, wish.canvas) != (shape.size, footage.canvas) or self.has(footage):
            return
        pictures = reel.cut(_times_of(footage))
        if pictures is not None:
            self._write(footage, ((picture, 1) for picture in pictures))

    def fill(self, footage: Footage) -> None:
        """Decode the pictures of a clip, unless they are here; there is always room for what is asked for.

        Those of an image, and of a video that changes its form on the way, are not kept.

        Raises:
            MediaError: The source cannot be read.
            OutOfResources: The disk is full.
        """
        if footage.source.kind is MediaKind.VIDEO and not self.has(footage):
            times = _times_of(footage)
            shape = footage.shape
            self._write(footage, decode_whole(footage.source.path, times, shape.size, canvas=footage.canvas))

    @property
    def has_room(self) -> bool:
        """Whether more may be kept that nobody has asked for."""
        return self._room_bytes() > 0

    def has(self, footage: Footage) -> bool:
        """Say whether the pictures of a clip are here."""
        return self._path(footage).is_file()

    def pictures(self, footage: Footage) -> np.ndarray | None:
        """Give the pictures of a clip `[frames, rows, columns, 3]`, uint8, before their crop; None if not here."""
        path = self._path(footage)
        # Copied on writing, because torch takes no array that is read-only.
        return np.load(path, mmap_mode="c") if path.is_file() else None

    def drop(self, footage: Footage) -> None:
        """Remove the pictures of a clip."""
        self._path(footage).unlink(missing_ok=True)

    def hold(self, key: str, make: Callable[[], np.ndarray]) -> None:
        """Make an array and keep it, unless it is here; there is always room for what is asked for.

        Raises:
            MediaError: As `make` does.
            OutOfResources: The disk is full.
        """
        path = self._held_path(key)
        if not path.is_file():
            array = make()
            with whole_file(path) as beside:
                np.save(beside, array)

    def held(self, key: str) -> np.ndarray | None:
        """Give an array; None if it is not here."""
        path = self._held_path(key)
        return np.load(path) if path.is_file() else None

    def release(self, key: str) -> None:
        """Remove an array."""
        self._held_path(key).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, footage: Footage) -> Path:
        facts = json.dumps([DECODING, footage.facts], sort_keys=True, default=str)
        return self._held_path(hashlib.sha256(facts.encode()).hexdigest())

    def _held_path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _write(self, footage: Footage, pictures: Iterator[tuple[np.ndarray, int]]) -> None:
        with suppress(_ChangesForm), whole_file(self._path(footage)) as beside, beside.open("wb") as file:
            form = None
            for picture, count in pictures:
                if form is None:
                    form = picture.shape
                    shape = (footage.shape.num_frames, *form)
                    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                if picture.shape != form:
                    raise _ChangesForm
                for _ in range(count):
                    file.write(np.ascontiguousarray(picture).data)

    def _room_bytes(self) -> int:
        used = 0
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with suppress(FileNotFoundError):
                used += path.stat().st_size
        return self._most_bytes - used


@contextmanager
def opened_spool(folder: Path, gigabytes: float | None) -> Iterator[Spool]:
    """Give a spool, of which the main process leaves nothing at the end of the `with`.

    Args:
        folder: Where it lies.
        gigabytes: Room for what is kept before somebody asks for it, in 10^9 bytes. None: a quarter of what is free.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    make_folder(folder)
    free = shutil.disk_usage(folder).free
    spool = Spool(folder, free // FREE_PARTS if gigabytes is None else round(gigabytes * 10**9))
    try:
        yield spool
    finally:
        if is_main_process():
            spool.clear()


class _ChangesForm(Exception):
    """The pictures of a video are not all of one size."""


def _times_of(footage: Footage) -> tuple[Fraction, ...]:
    return midpoint_times(footage.start_seconds, footage.span_seconds, footage.shape.num_frames)
