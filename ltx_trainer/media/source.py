"""The exact pictures and sound of a clip, decoded from its sources: what the encoders are given."""

import math

import numpy as np

from ltx_trainer.artifacts import Footage, MediaKind, Soundtrack
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.media.audio import decode_audio, fit_audio
from ltx_trainer.media.decode import decode_frames, decode_white
from ltx_trainer.media.encode import recompress_still
from ltx_trainer.media.images import decode_image, image_white
from ltx_trainer.media.picture import cropped
from ltx_trainer.media.spool import Spool
from ltx_trainer.media.stretch import stretch_audio


class Buffer:
    """Room for the pictures of one clip, which the next clip takes again: fresh memory costs as much as scaling."""

    def __init__(self) -> None:
        self._pixels = np.empty(0, np.uint8)

    def of(self, shape: tuple[int, ...]) -> np.ndarray:
        """Give an array of a shape, uint8, whatever is in it; the one before is lost."""
        count = math.prod(shape)
        if self._pixels.size < count:
            self._pixels = np.empty(count, np.uint8)
        return self._pixels[:count].reshape(shape)


def read_pictures(
    footage: Footage, *, still_crf: int | None = None, spool: Spool | None = None, buffer: Buffer | None = None
) -> np.ndarray:
    """Decode the pictures of a clip `[frames, height, width, 3]`, uint8. An image fills every frame.

    Args:
        footage: Which pictures, and what they become.
        still_crf: H.264 quality that an image is first compressed at; None leaves it as it is.
        spool: Where they may lie decoded already.
        buffer: Where those of the spool are put; None takes new memory.

    Raises:
        MediaError: The source cannot be read.
    """
    if footage.source.kind is MediaKind.IMAGE:
        frame = decode_image(footage.source.path, footage.shape.size, canvas=footage.canvas)
        if still_crf is not None:
            frame = recompress_still(frame, crf=still_crf)
        # A copy, because torch takes no array that is read-only, as that of an image may be.
        return np.repeat(frame[None], footage.shape.num_frames, axis=0)
    strip = spool.pictures(footage) if spool is not None else None
    if strip is not None:
        size = footage.shape.size
        frames = (buffer or Buffer()).of((len(strip), size.height, size.width, 3))
        for index in range(len(strip)):
            frames[index] = cropped(strip[index], size)
        return frames
    times = midpoint_times(footage.start_seconds, footage.span_seconds, footage.shape.num_frames)
    return decode_frames(footage.source.path, times, footage.shape.size, canvas=footage.canvas)


def read_mask(footage: Footage) -> np.ndarray:
    """Tell which pixels `[frames, height, width]` of a mask are white; an image covers every frame.

    A pixel of the mask's own is white from half of full brightness on, and a pixel of the clip where any of the mask's
    that it covers is: no line is so thin that scaling loses it.

    Raises:
        MediaError: The source cannot be read.
    """
    path, shape = footage.source.path, footage.shape
    if footage.source.kind is MediaKind.IMAGE:
        white = image_white(path, shape.size, canvas=footage.canvas)
        return np.repeat(white[None], shape.num_frames, axis=0)
    times = midpoint_times(footage.start_seconds, footage.span_seconds, shape.num_frames)
    return decode_white(path, times, shape.size, canvas=footage.canvas)


def read_sound(soundtrack: Soundtrack, rate_hz: int) -> np.ndarray:
    """Decode the sound of a clip `[2, n]`, float32, as long as its pictures and with its gain.

    Args:
        soundtrack: Which sound, and what it becomes.
        rate_hz: Rate of the result.

    Raises:
        MediaError: The source cannot be read, or has no sound.
    """
    samples = decode_audio(
        soundtrack.source.path,
        start_seconds=soundtrack.start_seconds,
        span_seconds=soundtrack.span_seconds,
        rate_hz=rate_hz,
    )
    num_samples = round(soundtrack.duration_seconds * rate_hz)
    if soundtrack.is_stretched:
        samples = stretch_audio(samples, rate_hz=rate_hz, num_samples=num_samples)
    return fit_audio(samples, num_samples) * np.float32(soundtrack.gain)
