"""Decodes a few frames of a span, and tells what they show: thumbnails, fingerprints, and what moves where.

Shapes: n frames, rows and columns of a picture or of a grid over it.
"""

from functools import lru_cache

import numpy as np

from ltx_trainer import media
from ltx_trainer.artifacts import Footage, MediaKind
from ltx_trainer.geometry import FrameSize, cover_crop, midpoint_times
from ltx_trainer.media import Spool
from ltx_trainer.survey.facts import Fingerprint, Glance

NUM_FRAMES = 9
"""Frames of a clip that are looked at, the first and the last among them."""

THUMBNAIL_PIXELS = 208
"""The longer side of a thumbnail."""

JPEG_QUALITY = 70

COLOUR_CELLS = 6
"""Parts of a picture, across and down, whose mean colours are compared."""

MOVED_LEVELS = 12
"""Of 255: what a colour of a cell changes by at least where something moves; noise and compression stay below."""

_MOST_PIXELS = 1024
_CELL_PIXELS = 4
_WAVES = 32
_LOWEST_WAVES = 8
# Of red, green and blue. Source: ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def look_at(footage: Footage, own: FrameSize, spool: Spool | None = None) -> Glance:
    """Look at `NUM_FRAMES` frames of a span at most, small, and say what they show.

    Args:
        footage: Which pictures, and what they become.
        own: Their size before.
        spool: Where they may lie decoded, and are left for who looks at all of them.

    Raises:
        MediaError: The source cannot be read.
    """
    view = _View(footage.canvas or own, footage.shape.size)
    frames = _frames_of(footage, view.whole, spool)
    cropped = frames[:, view.top : view.top + view.crop.height, view.left : view.left + view.crop.width]
    shown = sorted({0, len(frames) // 2, len(frames) - 1})
    moving, lost = _motion(frames, view) if len(frames) > 1 else (None, None)
    return Glance(
        thumbnails=tuple(media.jpeg_bytes(cropped[index], quality=JPEG_QUALITY) for index in shown),
        prints=tuple(fingerprint(frame) for frame in frames),
        moving=moving,
        lost=lost,
        cut_off=round(1 - view.crop.width * view.crop.height / (view.whole.width * view.whole.height), 4),
    )


def fingerprint(pixels: np.ndarray) -> Fingerprint:
    """Tell what makes a picture, RGB `[rows, columns, 3]`, the one that it is.

    The bits are the signs of the 8 x 8 lowest frequencies of the brightness against their median, as in pHash (Zauner
    2010, "Implementation and benchmarking of perceptual image hash functions").
    """
    small = (cell_means(pixels, _WAVES, _WAVES) @ _LUMA).astype(np.float64)
    waves = _COSINES @ small @ _COSINES.T
    # The mean brightness says nothing of what is shown.
    waves[0, 0] = 0
    signs = (waves > np.median(waves)).ravel()
    colours = cell_means(pixels, COLOUR_CELLS, COLOUR_CELLS)
    return Fingerprint(int.from_bytes(np.packbits(signs).tobytes()), np.rint(colours).astype(np.uint8).tobytes())


def cell_means(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Average `[height, width, channels]` over a grid of equal cells, to `[rows, columns, channels]`, float32."""
    height, width, channels = picture.shape
    down = _coverage(height, rows) @ picture.reshape(height, -1).astype(np.float32)
    across = _coverage(width, columns) @ down.reshape(rows, width, channels)
    return np.ascontiguousarray(across)


class _View:
    """The whole picture and the crop of it, at the size that is looked at."""

    def __init__(self, own: FrameSize, target: FrameSize) -> None:
        full = cover_crop(own, target)
        longest = max(full.scaled.width, full.scaled.height)
        scale = min(THUMBNAIL_PIXELS / max(target.width, target.height), _MOST_PIXELS / longest)
        self.whole = _scaled(full.scaled, scale)
        self.crop = _scaled(target, scale)
        self.left = min(round(full.left * scale), self.whole.width - self.crop.width)
        self.top = min(round(full.top * scale), self.whole.height - self.crop.height)


def _scaled(size: FrameSize, scale: float) -> FrameSize:
    return FrameSize(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def _frames_of(footage: Footage, size: FrameSize, spool: Spool | None) -> np.ndarray:
    """Give frames of a span whole, `[n, rows, columns, 3]`; of an image, one."""
    source, num_frames = footage.source, footage.shape.num_frames
    if source.kind is MediaKind.IMAGE:
        return media.decode_image(source.path, size, canvas=size)[None]
    count = min(NUM_FRAMES, num_frames)
    chosen = [round(index * (num_frames - 1) / max(1, count - 1)) for index in range(count)]
    if spool is not None and spool.has_room:
        spool.fill(footage)
    pictures = None if spool is None else spool.pictures(footage)
    if pictures is not None:
        return np.stack([media.resized(pictures[index], size) for index in chosen])
    times = midpoint_times(footage.start_seconds, footage.span_seconds, num_frames)
    shown = media.decode_whole(
        source.path, [times[index] for index in chosen], footage.shape.size, canvas=footage.canvas
    )
    return np.stack([small for picture, shown_for in shown for small in [media.resized(picture, size)] * shown_for])


def _motion(frames: np.ndarray, view: _View) -> tuple[float, float | None]:
    """Say which share of the crop changes over the frames, and which share of all that changes it takes away.

    Args:
        frames: Whole, RGB `[n, rows, columns, 3]`.
        view: Says where the crop is.
    """
    height, width = frames.shape[1:3]
    rows, columns = _num_cells(height), _num_cells(width)
    small = np.stack([cell_means(frame, rows, columns) for frame in frames])
    changes = np.ptp(small, axis=0).max(axis=2) >= MOVED_LEVELS
    down = (np.arange(rows) + 0.5) * height / rows
    across = (np.arange(columns) + 0.5) * width / columns
    inside = np.outer(
        (down >= view.top) & (down < view.top + view.crop.height),
        (across >= view.left) & (across < view.left + view.crop.width),
    )
    num_all, num_inside = int(changes.sum()), int(changes[inside].sum())
    moving = num_inside / max(1, int(inside.sum()))
    return round(moving, 4), round((num_all - num_inside) / num_all, 4) if num_all else None


def _num_cells(pixels: int) -> int:
    return max(1, pixels // _CELL_PIXELS)


@lru_cache(maxsize=64)
def _coverage(length: int, count: int) -> np.ndarray:
    """Say which share of each of `count` equal cells each of `length` pixels is: `[count, length]`."""
    edges = np.arange(count + 1) * length / count
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * count / length).astype(np.float32)


def _cosines() -> np.ndarray:
    """Give the lowest frequencies `[8, 32]` of a discrete cosine transform."""
    places, waves = np.arange(_WAVES) + 0.5, np.arange(_LOWEST_WAVES)
    return np.cos(np.pi * waves[:, None] * places / _WAVES)


_COSINES = _cosines()
