"""Says what the codes of a decoded frame stand for: as it is tagged, or else as players take it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from ltx_trainer.errors import MediaError
from ltx_trainer.media.tone import Curve, Gamut

# Numbers of ITU-T H.273, tables 2 to 4. What is in neither table of a kind is taken as BT.709, as players do.
_CURVES: Mapping[int, Curve] = {ColorTrc.SMPTE2084: Curve.PQ, ColorTrc.ARIB_STD_B67: Curve.HLG}
_UNKNOWN_CURVES: Mapping[int, str] = {
    ColorTrc.LINEAR: "linear light",
    ColorTrc.LOG: "a log curve",
    ColorTrc.LOG_SQRT: "a log curve",
    ColorTrc.SMPTE428: "the curve of SMPTE ST 428",
}
_GAMUTS: Mapping[int, Gamut] = {ColorPrimaries.BT2020: Gamut.BT2020, ColorPrimaries.SMPTE432: Gamut.P3}
_UNKNOWN_GAMUTS: Mapping[int, str] = {
    ColorPrimaries.FILM: "the colours of film",
    ColorPrimaries.SMPTE428: "CIE XYZ",
    ColorPrimaries.SMPTE431: "the colours of DCI-P3",
}
_MATRICES: Mapping[int, Colorspace] = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_MATRIX_RGB, _MATRIX_UNKNOWN = 0, 2
# How much red and blue weigh in luma.
_LUMA = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}
_BYTE = 256


@dataclass(frozen=True)
class Colours:
    """What the codes of a frame stand for.

    Attributes:
        matrix: From Y'CbCr to R'G'B', by swscale's name for it; RGB does not use it.
        levels: Whether codes fill their bits, or leave room at both ends.
        curve: From codes to light.
        gamut: Which red, green and blue they mix.
    """

    matrix: Colorspace
    levels: ColorRange
    curve: Curve
    gamut: Gamut

    @property
    def are_plain(self) -> bool:
        """Whether they are those of a BT.709 display, but for matrix and range."""
        return self.curve is Curve.SDR and self.gamut is Gamut.BT709


def check_colour(frame: VideoFrame, name: str) -> None:
    """Refuse codes of which the light is not known here.

    Raises:
        MediaError: The frame uses another matrix, other primaries or another curve.
    """
    if frame.colorspace not in {*_MATRICES, _MATRIX_RGB, _MATRIX_UNKNOWN}:
        raise MediaError(f"{name} uses colour matrix {frame.colorspace} of ITU-T H.273. Convert it to BT.709 first.")
    unknown = _UNKNOWN_CURVES.get(frame.color_trc) or _UNKNOWN_GAMUTS.get(frame.color_primaries)
    if unknown is not None:
        raise MediaError(f"{name} uses {unknown}. Convert it to BT.709 first.")


def colours_of(frame: VideoFrame) -> Colours:
    """Read the tags of a frame that `check_colour` takes.

    HDR, and the matrix of BT.2020, that do not say are of BT.2020. YUV that does not say is limited, and its matrix is
    that of its gamut, or BT.709 from 720 lines on and BT.601 below.
    """
    matrix = _MATRICES.get(frame.colorspace)
    curve = _CURVES.get(frame.color_trc, Curve.SDR)
    gamut = _GAMUTS.get(frame.color_primaries, Gamut.BT709)
    is_open = frame.color_primaries == ColorPrimaries.UNSPECIFIED
    if is_open and (curve is not Curve.SDR or matrix is Colorspace.BT2020):
        gamut = Gamut.BT2020
    if matrix is None and gamut is Gamut.BT2020:
        matrix = Colorspace.BT2020
    large = frame.height >= 720 or frame.width >= 1280
    fills = frame.color_range == ColorRange.JPEG or frame.format.is_rgb or frame.format.name.startswith("yuvj")
    return Colours(
        matrix or (Colorspace.ITU709 if large else Colorspace.ITU601),
        ColorRange.JPEG if fills else ColorRange.MPEG,
        curve,
        gamut,
    )


def rgb_codes(samples: np.ndarray, bits: int, colours: Colours) -> np.ndarray:
    """Give Y'CbCr as R'G'B' from 0 to 1, float32, without rounding.

    Args:
        samples: `[rows, columns, 3]`, uint16: codes of `bits` bits in the upper ones.
        bits: Of the codes as they were stored.
        colours: Say what they stand for.
    """
    codes = samples / np.float32(_BYTE)
    if colours.levels is ColorRange.JPEG:
        largest = _BYTE - _BYTE / 2**bits
        luma, chroma = codes[..., 0] / largest, (codes[..., 1:] - 128) / largest
    else:
        luma, chroma = (codes[..., 0] - 16) / 219, (codes[..., 1:] - 128) / 224
    of_red, of_blue = _LUMA[colours.matrix]
    red = luma + 2 * (1 - of_red) * chroma[..., 1]
    blue = luma + 2 * (1 - of_blue) * chroma[..., 0]
    green = (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    return np.stack([red, green, blue], axis=-1)


def black_codes(colours: Colours, *, is_rgb: bool) -> np.ndarray:
    """Give black in codes of 16 bits."""
    if is_rgb:
        return np.zeros(3)
    return np.array([0 if colours.levels is ColorRange.JPEG else 16 * _BYTE, 128 * _BYTE, 128 * _BYTE])
