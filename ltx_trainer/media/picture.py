"""Turns one decoded frame into upright full-range RGB pixels of the size asked for."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from threading import get_ident
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ltx_trainer.artifacts import WHITE_FROM
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import CoverCrop, FrameSize, cover_crop
from ltx_trainer.media.colour import Colours, black_codes, check_colour, colours_of, rgb_codes
from ltx_trainer.media.tone import bt709_pixels
from ltx_trainer.workers import num_threads

ACCURATE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

_EXACT = Interpolation.BICUBIC | ACCURATE
_THUMBNAIL_WIDTH = 256
_FEW_BITS = 8
_LARGEST_SAMPLE = 65535


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned to stand upright.

    Attributes:
        mirrored: Swap left and right first.
        quarter_turns: Then turn this often by 90 degrees, counter-clockwise; 0 to 3.
    """

    mirrored: bool
    quarter_turns: int

    def turned(self, size: FrameSize) -> FrameSize:
        """Give the size after turning; turning it again gives the size before."""
        return FrameSize(size.height, size.width) if self.quarter_turns % 2 else size

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Turn pixels `[rows, columns, 3]`."""
        return np.rot90(np.fliplr(pixels) if self.mirrored else pixels, self.quarter_turns)


def upright_size(frame: VideoFrame, pixel_aspect: Fraction, name: str) -> FrameSize:
    """Give the size at which a frame is shown: turned, and with square pixels.

    Args:
        frame: A decoded frame.
        pixel_aspect: Width of a stored pixel divided by its height.
        name: The file's name, for messages.

    Raises:
        MediaError: The frame is turned by something else than a multiple of 90 degrees.
    """
    square = FrameSize(max(1, round(frame.width * pixel_aspect)), frame.height)
    return orientation_of(frame, name).turned(square)


def rgb_pixels(
    frame: VideoFrame, size: FrameSize, pixel_aspect: Fraction, name: str, canvas: FrameSize | None = None
) -> np.ndarray:
    """Scale a frame to cover `size`, cut out its middle, and give it as RGB `[height, width, 3]`, uint8.

    It is scaled as it is coded, whatever its light. Colour matrix and range are converted in the same pass of swscale;
    HDR and wide colours after it, by `tone`. What is transparent lies on black.

    Args:
        frame: A decoded frame.
        size: Size of the result.
        pixel_aspect: Width of a stored pixel divided by its height.
        name: The file's name, for messages.
        canvas: Size that the picture is first stretched to; None is its own.

    Raises:
        MediaError: As in `check_colour` and `upright_size`.
    """
    return cropped(whole_pixels(frame, size, pixel_aspect, name, canvas), size)


def whole_pixels(
    frame: VideoFrame, size: FrameSize, pixel_aspect: Fraction, name: str, canvas: FrameSize | None = None
) -> np.ndarray:
    """Scale a frame to cover `size`, as in `rgb_pixels`, and cut nothing off: RGB `[rows, columns, 3]`, uint8.

    Raises:
        MediaError: As in `check_colour` and `upright_size`.
    """
    check_colour(frame, name)
    orientation = orientation_of(frame, name)
    crop = cover_crop(canvas or upright_size(frame, pixel_aspect, name), size)
    stored = orientation.turned(crop.scaled)
    colours, opaque = colours_of(frame), _on_black(frame)
    if colours.are_plain:
        return orientation.apply(_scaled_rgb(opaque, stored, colours))
    return bt709_pixels(orientation.apply(_scaled_codes(opaque, stored, colours)), colours.curve, colours.gamut)


def cropped(whole: np.ndarray, size: FrameSize) -> np.ndarray:
    """Cut the middle out of pictures `[..., rows, columns, 3]` that were scaled to cover `size`."""
    crop = cover_crop(FrameSize(whole.shape[-2], whole.shape[-3]), size)
    return whole[..., crop.top : crop.top + size.height, crop.left : crop.left + size.width, :]


def white_pixels(
    frame: VideoFrame, size: FrameSize, pixel_aspect: Fraction, name: str, canvas: FrameSize | None = None
) -> np.ndarray:
    """Tell which pixels `[height, width]` of a frame, cut as in `rgb_pixels`, hold any that is white.

    Raises:
        MediaError: As in `check_colour` and `upright_size`.
    """
    own = orientation_of(frame, name).turned(FrameSize(frame.width, frame.height))
    pixels = rgb_pixels(frame, own, Fraction(1), name)
    return white_within(pixels, cover_crop(canvas or upright_size(frame, pixel_aspect, name), size), size)


def white_within(pixels: np.ndarray, crop: CoverCrop, size: FrameSize) -> np.ndarray:
    """Tell which pixels `[height, width]` of a crop of a picture hold any that is white.

    Args:
        pixels: RGB `[rows, columns, 3]`, uint8, at the picture's own resolution.
        crop: Says what the picture is scaled to, and cut at.
        size: Of the result.
    """
    white = pixels.sum(axis=2, dtype=np.uint16) >= 3 * WHITE_FROM
    white = _any_within(white, crop.top, size.height, crop.scaled.height)
    return _any_within(white.T, crop.left, size.width, crop.scaled.width).T


def _any_within(white: np.ndarray, first: int, count: int, scaled: int) -> np.ndarray:
    """Tell of `count` rows, from the one at `first` of `scaled` on, where any of the rows that each covers is white."""
    edges = np.arange(first, first + count + 1) * len(white)
    begins, ends = edges[:-1] // scaled, -(-edges[1:] // scaled)
    before = np.concatenate([np.zeros_like(white[:1], np.int32), np.cumsum(white, axis=0, dtype=np.int32)])
    return before[ends] > before[begins]


def bgr_thumbnail(frame: VideoFrame) -> np.ndarray:
    """Give a small picture as stored, BGR uint8 `[rows, columns, 3]`, good enough to compare frames with."""
    width = min(frame.width, _THUMBNAIL_WIDTH)
    size = FrameSize(width, max(1, frame.height * width // frame.width))
    return _rgb_frame(_on_black(frame), size, "bgr24", colours_of(frame), Interpolation.BILINEAR).to_ndarray()


def yuv_frame(pixels: np.ndarray) -> VideoFrame:
    """Convert RGB pixels `[height, width, 3]`, uint8, to a limited-range BT.709 frame in yuv420p."""
    return VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_EXACT,
    )


def orientation_of(frame: VideoFrame, name: str) -> Orientation:
    """Read how a frame must be turned; libav decodes it as stored.

    Raises:
        MediaError: By something else than a multiple of 90 degrees.
    """
    # The stubs of PyAV know no kind but motion vectors.
    side_data: Any = frame.side_data
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation(mirrored=False, quarter_turns=0)
    # Rows of 3; a stored point (x, y), y downwards, is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (float(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    mirrored = a * d < b * c
    degrees = -np.degrees(np.arctan2(b, a)) if not mirrored else -np.degrees(np.arctan2(-b, -a))
    turns = round(degrees / 90)
    if abs(degrees - 90 * turns) > 1:
        raise MediaError(f"{name} is turned by {degrees:.1f} degrees; only multiples of 90 can be set upright.")
    return Orientation(mirrored=mirrored, quarter_turns=turns % 4)


def _on_black(frame: VideoFrame) -> VideoFrame:
    """Lay a frame that has transparent pixels on black, in its own codes as players do; give others as they are.

    The tags of the frame are those of the result, which has none.
    """
    layers = frame.format.components
    if not (frame.format.has_palette or any(layer.is_alpha for layer in layers)):
        return frame
    colours, own = colours_of(frame), FrameSize(frame.width, frame.height)
    if layers[0].bits <= _FEW_BITS:
        pixels = _rgb_frame(frame, own, "rgba", colours, _EXACT).to_ndarray().astype(np.uint16)
        mixed = ((pixels[..., :3] * pixels[..., 3:] + 127) // 255).astype(np.uint8)
        return VideoFrame.from_ndarray(mixed, format="rgb24")
    deep, opaque = ("rgba64le", "rgb48le") if frame.format.is_rgb else ("yuva444p16le", "yuv444p16le")
    samples = _scaled(frame, own, deep, colours).to_ndarray(channel_last=True)
    black = black_codes(colours, is_rgb=frame.format.is_rgb)
    mixed = np.rint(black + (samples[..., :3] - black) * (samples[..., 3:] / _LARGEST_SAMPLE)).astype(np.uint16)
    return VideoFrame.from_ndarray(mixed, format=opaque, channel_last=True)


def _scaled_rgb(frame: VideoFrame, size: FrameSize, colours: Colours) -> np.ndarray:
    """Scale a frame as stored, to RGB, uint8."""
    return _rgb_frame(frame, size, "rgb24", colours, _EXACT).to_ndarray()


def _scaled_codes(frame: VideoFrame, size: FrameSize, colours: Colours) -> np.ndarray:
    """Scale a frame as stored, to R'G'B' from 0 to 1, float32, without losing any of its bits.

    The matrix is not left to swscale, which makes deep RGB that ends at 255/256 of full scale.
    """
    if frame.format.is_rgb:
        return _scaled(frame, size, "rgb48le", colours).to_ndarray() / np.float32(_LARGEST_SAMPLE)
    samples = _scaled(frame, size, "yuv444p16le", colours).to_ndarray(channel_last=True)
    return rgb_codes(samples, frame.format.components[0].bits, colours)


def _rgb_frame(
    frame: VideoFrame, size: FrameSize, layout: str, colours: Colours, interpolation: Interpolation
) -> VideoFrame:
    """Scale a frame to full-range RGB."""
    return _reformatter(frame.format.name, layout, interpolation, get_ident()).reformat(
        frame,
        width=size.width,
        height=size.height,
        format=layout,
        src_colorspace=colours.matrix,
        src_color_range=ColorRange.JPEG if frame.format.is_rgb else colours.levels,
        dst_color_range=ColorRange.JPEG,
        interpolation=interpolation,
        threads=num_threads(),
    )


def _scaled(frame: VideoFrame, size: FrameSize, layout: str, colours: Colours) -> VideoFrame:
    """Scale a frame to 16 bits, and leave its matrix and range."""
    return _reformatter(frame.format.name, layout, _EXACT, get_ident()).reformat(
        frame,
        width=size.width,
        height=size.height,
        format=layout,
        src_colorspace=colours.matrix,
        dst_colorspace=colours.matrix,
        src_color_range=colours.levels,
        dst_color_range=colours.levels,
        interpolation=_EXACT,
        threads=num_threads(),
    )


@lru_cache(maxsize=8)
def _reformatter(layout: str, to_layout: str, interpolation: Interpolation, thread: int) -> VideoReformatter:
    """Give what keeps the tables of its last scaling, which cost as much as a frame; no two threads share one."""
    del layout, to_layout, interpolation, thread
    return VideoReformatter()
