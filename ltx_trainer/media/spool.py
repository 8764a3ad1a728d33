"""Pictures that are decoded once and wait on disk for all who look at them, scaled and before their crop."""

import hashlib
import json
import math
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Self
from uuid import uuid4

import numpy as np
from av.video.frame import VideoFrame

from ltx_trainer.artifacts import Footage, MediaKind
from ltx_trainer.atomic import disk_errors, make_folder, whole_file, write_text
from ltx_trainer.errors import OutOfResources
from ltx_trainer.geometry import ClipShape, FrameSize, midpoint_times
from ltx_trainer.launcher import is_main_process, num_processes
from ltx_trainer.media.decode import decode_whole
from ltx_trainer.media.decoding import DECODING
from ltx_trainer.media.picture import whole_pixels

MEASURED_EVERY = 32
"""Pictures of a reel after which its room is measured again."""

FREE_PARTS = 4
"""Of the free disk, one of so many may be kept."""


Time = Fraction | float
"""In seconds; a float is infinite."""


@dataclass(frozen=True)
class Wish:
    """Which pictures of a video clips may be cut from.

    Attributes:
        size: That they are scaled to cover.
        canvas: Size that each is stretched to before; None is its own.
        first: Only those that are on screen in the first clip of this shape are taken; None takes all.
        short_seconds: Of a video that is longer, all are taken nevertheless; None: of none.
    """

    size: FrameSize
    canvas: FrameSize | None = None
    first: ClipShape | None = None
    short_seconds: Fraction | None = None

    def first_in(self, duration_seconds: Fraction) -> ClipShape | None:
        """Say what of a video of some length is taken, as `first` says it."""
        is_long = self.short_seconds is not None and duration_seconds > self.short_seconds
        return None if is_long else self.first


@dataclass(frozen=True)
class Strip:
    """Some pictures of a reel, before their crop.

    Attributes:
        path: Of the reel.
        shape: Of each picture: rows, columns, 3.
        indices: Which pictures, in order.
    """

    path: Path
    shape: tuple[int, ...]
    indices: tuple[int, ...]

    def __len__(self) -> int:
        """Count them."""
        return len(self.indices)

    def __getitem__(self, number: int) -> np.ndarray:
        """Give one, RGB `[rows, columns, 3]`, uint8; it is only read."""
        return self._reel[self.indices[number]]

    @cached_property
    def _reel(self) -> np.ndarray:
        num_bytes = math.prod(self.shape)
        count = self.path.stat().st_size // num_bytes
        return np.memmap(self.path, np.uint8, "r", shape=(count, *self.shape))


@dataclass(frozen=True)
class _Pending:
    """A frame of which it is not known yet how long it is on screen."""

    begin_seconds: Time
    frame: VideoFrame
    pixel_aspect: Fraction
    name: str


class Reel:
    """The pictures of one video in the order of the screen, as they are decoded.

    Args:
        path: Where they lie.
        wish: Which are taken, and how they are scaled.
        room: Gives the bytes that are left for more; a video that needs more leaves nothing. None: always enough, and a
            full disk is an error.
    """

    def __init__(self, path: Path, wish: Wish, room: Callable[[], int] | None) -> None:
        self.wish = wish
        self.path = path
        self._room = room
        self._first = wish.first
        self._expected_frames = 0
        self._wanted: tuple[Fraction, ...] | None = None
        self._pending: _Pending | None = None
        self._begins: list[Time] = []
        self._ends: list[Time] = []
        self._shape: tuple[int, ...] | None = None
        self._rows: np.ndarray | None = None
        self._has_ended = False
        self._file = path.open("wb")

    def begin(self, duration_seconds: Fraction, frame_seconds: Fraction) -> None:
        """Prepare for a video.

        Args:
            duration_seconds: What its header promises; 0 if it promises nothing.
            frame_seconds: How long its header says that a frame is shown; 0 if it does not.
        """
        self._first = self.wish.first_in(duration_seconds)
        if self._first is not None:
            self._expected_frames = self._first.num_frames
        elif frame_seconds:
            self._expected_frames = int(duration_seconds / frame_seconds)

    @property
    def has_ended(self) -> bool:
        """Whether no more pictures are taken: all that are wished for are here, or there is no room."""
        return self._has_ended

    def add(self, time_seconds: Fraction, frame: VideoFrame, pixel_aspect: Fraction, name: str) -> None:
        """Take the next frame, on screen from `time_seconds` on, if it is wished for.

        Raises:
            MediaError: As in `whole_pixels`.
            OutOfResources: The disk is full.
        """
        if self._pending is None:
            if self._first is not None:
                self._wanted = midpoint_times(time_seconds, self._first.duration_seconds, self._first.num_frames)
            self._pending = _Pending(-math.inf, frame, pixel_aspect, name)
        else:
            self._take_pending(time_seconds)
            self._pending = _Pending(time_seconds, frame, pixel_aspect, name)
        self._has_ended = self._has_ended or (self._wanted is not None and time_seconds > self._wanted[-1])

    def put(self, picture: np.ndarray, begin_seconds: Time, end_seconds: Time) -> None:
        """Take a picture `[rows, columns, 3]`, uint8, that is on screen from one time until before another.

        Raises:
            OutOfResources: The disk is full.
        """
        if self._has_ended:
            return
        self._shape = self._shape or picture.shape
        if picture.shape != self._shape or not self._fits(picture.nbytes):
            self._give_up()
            return
        # Rows that lie apart, as swscale leaves them, are brought together in one place that is used again and again.
        if self._rows is None:
            self._rows = np.empty(self._shape, np.uint8)
        np.copyto(self._rows, picture)
        try:
            with disk_errors(self.path):
                self._file.write(self._rows.data)
        except OutOfResources:
            if self._room is None:
                raise
            self._give_up()
            return
        self._begins.append(begin_seconds)
        self._ends.append(end_seconds)

    def finish(self) -> None:
        """Say that the video has no more frames, or that no more are wished for."""
        self._take_pending(math.inf)
        self._has_ended = True
        self._pending = None
        with disk_errors(self.path):
            self._file.close()

    def cut(self, times: Iterable[Fraction]) -> Strip | None:
        """Give the pictures on screen at some times; None if one of them is not here."""
        indices = []
        for time in times:
            index = bisect_right(self._begins, time) - 1
            if index < 0 or time >= self._ends[index]:
                return None
            indices.append(index)
        return Strip(self.path, self._shape, tuple(indices)) if self._shape is not None else None

    def _fits(self, num_bytes: int) -> bool:
        """Say whether a picture has room, and all that are expected after it; now and then, for others write too."""
        done = len(self._begins)
        if self._room is None or done % MEASURED_EVERY:
            return True
        return self._room() >= num_bytes * max(1, self._expected_frames - done)

    def _give_up(self) -> None:
        """Leave nothing, and take nothing more."""
        self._begins.clear()
        self._has_ended = True
        self._file.truncate(0)

    def _take_pending(self, end_seconds: Time) -> None:
        """Take the last frame, which is on screen until before a time, if it is wished for."""
        last, wanted = self._pending, self._wanted
        if last is None or self._has_ended:
            return
        if wanted is None or bisect_left(wanted, last.begin_seconds) < bisect_left(wanted, end_seconds):
            size, canvas = self.wish.size, self.wish.canvas
            self.put(
                whole_pixels(last.frame, size, last.pixel_aspect, last.name, canvas), last.begin_seconds, end_seconds
            )

    def __enter__(self) -> Self:
        """Give the reel; at the end of the `with` only what clips keep of it is left."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take its own name away."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Spool:
    """Pictures of clips that wait: reels, and for each clip a note of which pictures of a reel are its own.

    Args:
        folder: Where they lie, of one run.
        most_bytes: Of all that is kept before somebody asks for it; 0 keeps nothing.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def reel(self, wish: Wish) -> Reel | None:
        """Begin to take what is decoded of a video; None if there is no room for any of it."""
        return self._reel(wish, self._room_bytes) if self.has_room else None

    def keep(self, footage: Footage, reel: Reel) -> None:
        """Keep the pictures of a clip, if the reel of its source has them.

        Raises:
            OutOfResources: The disk is full.
        """
        wish, shape = reel.wish, footage.shape
        if (wish.size, wish.canvas) != (shape.size, footage.canvas) or self.has(footage):
            return
        strip = reel.cut(_times_of(footage))
        if strip is None:
            return
        # A name of its own, so that no note ever speaks of another reel. The pictures go with the last name.
        own = self._folder / f"{uuid4().hex}.reel"
        with disk_errors(own):
            own.hardlink_to(reel.path)
        write_text(self._note_of(footage), json.dumps([own.name, strip.shape, strip.indices]))

    def fill(self, footage: Footage) -> None:
        """Decode the pictures of a clip, unless they are here; there is always room for what is asked for.

        Those of an image, and of a video that changes its form on the way, are not kept.

        Raises:
            MediaError: The source cannot be read.
            OutOfResources: The disk is full.
        """
        if footage.source.kind is not MediaKind.VIDEO or self.has(footage):
            return
        times, shape = _times_of(footage), footage.shape
        with self._reel(Wish(shape.size, footage.canvas), None) as reel:
            done = 0
            for picture, count in decode_whole(footage.source.path, times, shape.size, canvas=footage.canvas):
                reel.put(picture, times[done], (*times, math.inf)[done + count])
                done += count
            reel.finish()
            self.keep(footage, reel)

    @property
    def has_room(self) -> bool:
        """Whether more may be kept that nobody has asked for."""
        return self._room_bytes() > 0

    def has(self, footage: Footage) -> bool:
        """Say whether the pictures of a clip are here."""
        return self._note_of(footage).is_file()

    def pictures(self, footage: Footage) -> Strip | None:
        """Give the pictures of a clip; None if they are not here."""
        note = self._note_of(footage)
        if not note.is_file():
            return None
        name, shape, indices = json.loads(note.read_text("utf-8"))
        return Strip(self._folder / name, tuple(shape), tuple(indices))

    def drop(self, footage: Footage) -> None:
        """Remove the pictures of a clip, but for those that others have too."""
        strip = self.pictures(footage)
        if strip is not None:
            self._note_of(footage).unlink(missing_ok=True)
            strip.path.unlink(missing_ok=True)

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

    def _reel(self, wish: Wish, room: Callable[[], int] | None) -> Reel:
        make_folder(self._folder)
        # Of its own: two files of equal bytes may be scanned at once.
        return Reel(self._folder / f"{uuid4().hex}.reel", wish, room)

    def _note_of(self, footage: Footage) -> Path:
        return self._folder / f"{_key_of(footage)}.json"

    def _held_path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _room_bytes(self) -> int:
        used = 0
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with suppress(FileNotFoundError):
                facts = path.stat()
                # A reel has a name for each of its clips.
                used += facts.st_size // max(1, facts.st_nlink)
        return self._most_bytes - used


@contextmanager
def opened_spool(folder: Path, gigabytes: float | None) -> Iterator[Spool]:
    """Give a spool, of which the main process leaves nothing at the end of the `with`.

    What a killed run has left is taken away first; of several processes, none knows whether another has begun.

    Args:
        folder: Where it lies.
        gigabytes: Room for what is kept before somebody asks for it, in 10^9 bytes. None: a quarter of what is free.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    if num_processes() == 1:
        shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    free = shutil.disk_usage(folder).free
    spool = Spool(folder, free // FREE_PARTS if gigabytes is None else round(gigabytes * 10**9))
    try:
        yield spool
    finally:
        if is_main_process():
            spool.clear()


def _key_of(footage: Footage) -> str:
    facts = json.dumps([DECODING, footage.facts], sort_keys=True, default=str)
    return hashlib.sha256(facts.encode()).hexdigest()


def _times_of(footage: Footage) -> tuple[Fraction, ...]:
    return midpoint_times(footage.start_seconds, footage.span_seconds, footage.shape.num_frames)
