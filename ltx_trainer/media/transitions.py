"""Finds dissolves and fades, and tells cuts from flashes, by very small pictures.

Shapes: n frames, d values of a picture.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Where frames are few, as many as a cut is told late.
_MEMORY_SECONDS, _MEMORY_FRAMES = 2.5, 8
# A dissolve is looked for in the middle of windows of these lengths, with a rest of this share before and after.
_WINDOWS_SECONDS = (0.3, 0.45, 0.7, 1.0, 1.4, 2.4)
_LEAST_REST = 0.18
# Not every frame ends a window: so many of them, more or less, in the length of one.
_PACE = 20
# Blocks along the longer side of a picture.
_BLOCKS = 32
# Differences of pictures are root mean squares, of 255; scenes differ by more than this.
_OTHER_PICTURE = 12.0
# How evenly they differ all over: 1 where all of the picture changes by the same, and the share of it that changes
# where the rest stays.
_ALL_OVER = 0.5
# What changes in the same time before and after a dissolve, at most, of what changes in it.
_MOST_AT_REST = 0.6
# How much of the way one frame of a dissolve may go, and how much faster than on the whole; a cut goes all of it.
_LONGEST_STEP, _STEEPEST = 0.8, 2.5
# What frames of a dissolve may lie off the mix of both scenes, of the difference between them.
_OFF_THE_MIX = 0.45
# Correlation of two pictures of one scene in whatever light.
_SAME_SHAPES = 0.8
# A flash is over within this time, and leaves less than this of the difference that it made.
_FLASH_SECONDS, _FLASH_LEAVES = 0.3, 0.6
# Contrast of a picture that shows nothing; a fade grows faster than this within that time.
_BLANK, _FADE_GROWTH, _FADE_SECONDS = 2.0, 1.06, 0.2
# Dissolves and fades often begin and end slowly: they are taken to be longer by this share at each end.
_LONGER = 1 / 8


@dataclass(frozen=True)
class _Frame:
    """A frame: its time, its picture `[d]`, float32, and its contrast."""

    ticks: int
    seconds: float
    look: np.ndarray
    contrast: float


@dataclass(frozen=True)
class _Jump:
    """A frame that differs much from the one before."""

    before: _Frame
    after: _Frame
    change: float


@dataclass(frozen=True)
class _Fade:
    """Frames that show nothing, from the first frame of the way down to them on."""

    before: _Frame | None
    begin: _Frame
    blank: _Frame


class TransitionFinder:
    """Collects what lies between the scenes of one video, frame by frame.

    Args:
        time_base: Ticks of the clock, in seconds.
    """

    def __init__(self, time_base: float) -> None:
        self._time_base = time_base
        self._memory: deque[_Frame] = deque()
        self._spans: list[tuple[int, int]] = []
        self._mixes: list[tuple[float, tuple[int, int]]] = []
        self._jumps: list[_Jump] = []
        self._fade: _Fade | None = None
        self._looked_seconds = dict.fromkeys(_WINDOWS_SECONDS, 0.0)

    def feed(self, ticks: int, picture: np.ndarray) -> None:
        """Take the next frame.

        Args:
            ticks: When it is shown.
            picture: BGR `[rows, columns, 3]`, uint8, some 256 columns wide.
        """
        look = _look_of(picture)
        frame = _Frame(ticks, ticks * self._time_base, look.ravel(), float(np.sqrt(look.var(axis=(0, 1)).mean())))
        self._memory.append(frame)
        while len(self._memory) > _MEMORY_FRAMES and frame.seconds - self._memory[0].seconds > _MEMORY_SECONDS:
            self._memory.popleft()
        self._settle_jumps(frame)
        self._follow_fade(frame)
        self._find_mixes()

    def jump(self, ticks: int) -> None:
        """Take it that the frame at `ticks`, one of the last, differs much from the one before."""
        frames = list(self._memory)
        index = next((index for index, frame in enumerate(frames) if frame.ticks == ticks), 0)
        if not index:
            return
        before, after = frames[index - 1], frames[index]
        change = _difference(before, after)
        early = [frame for frame in frames[:index] if after.seconds - frame.seconds <= _FLASH_SECONDS]
        if any(_is_back(frame, after, change) for frame in early):
            return
        self._jumps.append(_Jump(before, after, change))
        for frame in frames[index + 1 :]:
            self._settle_jumps(frame)

    def finish(self) -> list[tuple[int, int]]:
        """Give what was found, in ticks: where a scene ends, and the first frame of the next. They may overlap."""
        self._spans += [(jump.after.ticks, jump.after.ticks) for jump in self._jumps]
        if self._fade is not None and self._fade.before is not None:
            # Nothing comes after it.
            self._spans.append((self._fade.begin.ticks, self._memory[-1].ticks + 1))
        self._jumps, self._fade = [], None
        return [*self._spans, *_closest(self._mixes)]

    def _settle_jumps(self, frame: _Frame) -> None:
        """Drop jumps after which the old picture is back at once, and keep those after which it is not."""
        waiting: list[_Jump] = []
        for jump in self._jumps:
            if frame.seconds - jump.after.seconds > _FLASH_SECONDS:
                self._spans.append((jump.after.ticks, jump.after.ticks))
            elif not _is_back(jump.before, frame, jump.change):
                waiting.append(jump)
        self._jumps = waiting

    def _follow_fade(self, frame: _Frame) -> None:
        """Watch contrast go down to nothing, and up again until it grows no more."""
        fade = self._fade
        if frame.contrast < _BLANK:
            before, begin = (fade.before, fade.begin) if fade is not None else self._descent()
            self._fade = _Fade(before, begin, frame)
            return
        if fade is None or frame.seconds - fade.blank.seconds < _FADE_SECONDS:
            return
        frames = list(self._memory)
        risen = _last_until(frames, frame.seconds - _FADE_SECONDS)
        grows = risen.contrast < _BLANK or frame.contrast > risen.contrast * _FADE_GROWTH
        if grows and frame.seconds - fade.blank.seconds < max(_WINDOWS_SECONDS):
            return
        self._fade = None
        if not _is_flash(fade, risen):
            first = next(old for old in frames if old.seconds > fade.blank.seconds)
            end = risen.seconds + (risen.seconds - first.seconds) * _LONGER
            self._spans.append((fade.begin.ticks, _first_from(frames, end).ticks))

    def _descent(self) -> tuple[_Frame | None, _Frame]:
        """Go back from the newest frame to the last that was whole, and the first that was not."""
        frames = list(self._memory)
        blank = frames[-1]
        for index, frame in enumerate(reversed(frames[:-1])):
            earlier = _last_until(frames, frame.seconds - _FADE_SECONDS)
            if earlier.contrast <= frame.contrast * _FADE_GROWTH:
                if not index:
                    return frame, blank
                begin = frame.seconds - (blank.seconds - frame.seconds) * _LONGER
                return frame, _last_until(frames, begin)
        return None, frames[0]

    def _find_mixes(self) -> None:
        newest = self._memory[-1]
        for window in _WINDOWS_SECONDS:
            if newest.seconds - self._memory[0].seconds < window:
                return
            if newest.seconds - self._looked_seconds[window] < window / _PACE:
                continue
            self._looked_seconds[window] = newest.seconds
            frames = [frame for frame in self._memory if newest.seconds - frame.seconds <= window * 1.001]
            if len(frames) > 2 and _difference(frames[0], newest) >= _OTHER_PICTURE:
                mix = _mix(frames)
                if mix is not None:
                    self._mixes.append((window, mix))


def _mix(frames: Sequence[_Frame]) -> tuple[int, int] | None:
    """Find the dissolve in the middle of a window: where it begins, and the first frame after it, in ticks."""
    times = np.array([frame.seconds for frame in frames])
    looks = np.stack([frame.look for frame in frames])
    change = looks[-1] - looks[0]
    ramp = _ramp(times, (looks @ change - looks[0] @ change) / (change @ change))
    if ramp is None:
        return None
    begin, end = ramp
    if min(begin - times[0], times[-1] - end) < _LEAST_REST * (times[-1] - times[0]):
        return None
    first = int(np.searchsorted(times, begin, "right")) - 1
    last = int(np.searchsorted(times, end, "left"))
    if first < 0 or last >= len(frames) or last - first < 2:
        return None
    before, after = frames[first], frames[last]
    if not _is_other(before, after) or _is_alike(before, after):
        return None
    # A camera on its way changes as much before and after.
    early = _first_from(frames, before.seconds - (end - begin))
    late = _last_until(frames, after.seconds + (end - begin))
    if max(_difference(early, before), _difference(after, late)) > _MOST_AT_REST * _difference(before, after):
        return None
    shares, off = _shares(looks[first : last + 1])
    steps = np.abs(np.diff(shares))
    steepest = float((steps / np.maximum(np.diff(times[first : last + 1]), 1e-6)).max()) * (end - begin)
    if steps.max() > _LONGEST_STEP or steepest > _STEEPEST or off.max() > _OFF_THE_MIX:
        return None
    pad = (end - begin) * _LONGER
    return _last_until(frames, begin - pad).ticks, _first_from(frames, end + pad).ticks


def _closest(mixes: Sequence[tuple[float, tuple[int, int]]]) -> list[tuple[int, int]]:
    """Keep of mixes that overlap those that were found in the shortest window, which shows the least besides."""
    kept: list[tuple[int, int]] = []
    for window in _WINDOWS_SECONDS:
        own: list[tuple[int, int]] = []
        for begin, end in sorted(mix for length, mix in mixes if length == window):
            if any(begin < other_end and end > other_begin for other_begin, other_end in kept):
                continue
            if own and begin < own[-1][1]:
                own[-1] = own[-1][0], max(end, own[-1][1])
            else:
                own.append((begin, end))
        kept += own
    return kept


def _ramp(times: np.ndarray, shares: np.ndarray) -> tuple[float, float] | None:
    """Find where the share of the new picture would leave 0 and reach 1, if it grew as between a quarter and three."""
    low = int(np.flatnonzero(shares <= 0.25)[-1])
    above = np.flatnonzero(shares >= 0.75)
    high = int(above[0])
    if high <= low:
        return None
    quarter = np.interp(0.25, shares[low : low + 2], times[low : low + 2])
    three = np.interp(0.75, shares[high - 1 : high + 1], times[high - 1 : high + 1])
    rest = (three - quarter) / 2
    return float(quarter - rest), float(three + rest)


def _shares(looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell how much of the last picture is in each `[n]`, of the way from the first, and how far off the way it is."""
    away = looks - looks[0]
    change = away[-1]
    size = float(change @ change)
    shares = away @ change / size
    off = np.linalg.norm(away - shares[:, None] * change, axis=1) / np.sqrt(size)
    return shares, off


def _look_of(picture: np.ndarray) -> np.ndarray:
    """Shrink a picture to the means of its blocks `[rows, columns, 3]`, float32."""
    block = max(1, max(picture.shape[:2]) // _BLOCKS)
    high, wide = (min(block, size) for size in picture.shape[:2])
    rows, columns = picture.shape[0] // high, picture.shape[1] // wide
    # Whole rows first: they lie together.
    sums = picture[: rows * high].reshape(rows, high, -1).sum(axis=1, dtype=np.uint32)
    sums = sums[:, : columns * wide * 3].reshape(rows, columns, wide, 3).sum(axis=2, dtype=np.float32)
    return sums / (high * wide)


def _last_until(frames: Sequence[_Frame], seconds: float) -> _Frame:
    return next((frame for frame in reversed(frames) if frame.seconds <= seconds), frames[0])


def _first_from(frames: Sequence[_Frame], seconds: float) -> _Frame:
    return next((frame for frame in frames if frame.seconds >= seconds), frames[-1])


def _is_other(before: _Frame, after: _Frame) -> bool:
    """Tell whether a picture differs from another one, and all over."""
    away = np.abs(after.look - before.look)
    mean, square = float(away.mean()), float((away**2).mean())
    return square > _OTHER_PICTURE**2 and mean**2 > _ALL_OVER * square


def _difference(one: _Frame, other: _Frame) -> float:
    away = one.look - other.look
    return float(np.sqrt(away @ away / len(away)))


def _is_alike(before: _Frame, after: _Frame) -> bool:
    """Tell whether two pictures show the same shapes."""
    if min(before.contrast, after.contrast) < _BLANK:
        return False
    return bool(np.corrcoef(before.look, after.look)[0, 1] > _SAME_SHAPES)


def _is_flash(fade: _Fade, risen: _Frame) -> bool:
    """Tell whether the old picture is back at once."""
    if fade.before is None or risen.seconds - fade.begin.seconds > _FLASH_SECONDS:
        return False
    return _is_back(fade.before, risen, _difference(fade.before, fade.blank))


def _is_back(before: _Frame, after: _Frame, change: float) -> bool:
    """Tell whether a picture is there again after a change."""
    left = _difference(before, after)
    return left < _FLASH_LEAVES * change and (left < _OTHER_PICTURE or _is_alike(before, after))
