"""Turns one decoded frame into upright full-range RGB pixels of the size asked for."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from ltx_trainer.artifacts import WHITE_FROM
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import CoverCrop, FrameSize, cover_crop

ACCURATE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

_HDR_CURVES = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# Matrix coefficients of ITU-T H.273 table 4 to swscale's names for them.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_MATRIX_RGB, _MATRIX_UNKNOWN = 0, 2
_THUMBNAIL_WIDTH = 256


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


def check_colour(frame: VideoFrame, name: str) -> None:
    """Refuse colours that 8-bit BT.709 pictures cannot hold.

    Raises:
        MediaError: The frame is HDR, or uses the wide BT.2020 gamut, or a matrix that is not known here.
    """
    if frame.color_trc in _HDR_CURVES:
        raise MediaError(f"{name} is HDR ({_HDR_CURVES[ColorTrc(frame.color_trc)]}). Convert it to BT.709 first.")
    if frame.color_primaries == ColorPrimaries.BT2020:
        raise MediaError(f"{name} uses the wide BT.2020 colours. Convert it to BT.709 first.")
    if frame.colorspace not in {*_MATRICES, _MATRIX_RGB, _MATRIX_UNKNOWN}:
        raise MediaError(f"{name} uses colour matrix {frame.colorspace} of ITU-T H.273. Convert it to BT.709 first.")


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

    Colour matrix and range are converted in the same pass of swscale that scales.

    Args:
        frame: A decoded frame.
        size: Size of the result.
        pixel_aspect: Width of a stored pixel divided by its height.
        name: The file's name, for messages.
        canvas: Size that the picture is first stretched to; None is its own.

    Raises:
        MediaError: As in `check_colour` and `upright_size`.
    """
    check_colour(frame, name)
    orientation = orientation_of(frame, name)
    crop = cover_crop(canvas or upright_size(frame, pixel_aspect, name), size)
    stored = orientation.turned(crop.scaled)
    scaled = frame.reformat(
        width=stored.width,
        height=stored.height,
        format="rgb24",
        src_colorspace=_matrix_of(frame),
        src_color_range=_range_of(frame),
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC | ACCURATE,
    )
    pixels = orientation.apply(scaled.to_ndarray())
    return pixels[crop.top : crop.top + size.height, crop.left : crop.left + size.width]


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
    height = max(1, frame.height * width // frame.width)
    return frame.reformat(
        width=width,
        height=height,
        format="bgr24",
        src_colorspace=_matrix_of(frame),
        src_color_range=_range_of(frame),
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BILINEAR,
    ).to_ndarray()


def yuv_frame(pixels: np.ndarray) -> VideoFrame:
    """Convert RGB pixels `[height, width, 3]`, uint8, to a limited-range BT.709 frame in yuv420p."""
    return VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | ACCURATE,
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


def _matrix_of(frame: VideoFrame) -> Colorspace:
    """Pick the matrix; a file that does not say is BT.709 from 720 lines on and BT.601 below, as players take it."""
    if frame.colorspace in _MATRICES:
        return _MATRICES[frame.colorspace]
    return Colorspace.ITU709 if frame.height >= 720 or frame.width >= 1280 else Colorspace.ITU601


def _range_of(frame: VideoFrame) -> ColorRange:
    """Pick the range; YUV that does not say is limited."""
    full = frame.color_range == ColorRange.JPEG or frame.format.is_rgb or frame.format.name.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG
