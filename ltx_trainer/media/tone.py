"""Turns HDR and wide colours into BT.709 pictures of 8 bits, in linear light.

A pixel's codes become light on a display (ITU-R BT.2100; BT.1886 for SDR), the light is given in the primaries of
BT.709, highlights are rolled off (the EETF of ITU-R BT.2390), and what is left is coded for a BT.1886 display. Light 1
is reference white: 203 cd/m2 in HDR (ITU-R BT.2408), full white in SDR.

Shapes: pixels `[rows, columns, 3]`, in the order red, green, blue.
"""

from enum import StrEnum
from functools import cache

import numpy as np


class Curve(StrEnum):
    """How codes stand for light."""

    SDR = "SDR"
    PQ = "PQ"
    HLG = "HLG"


class Gamut(StrEnum):
    """Which red, green and blue the codes mix."""

    BT709 = "BT.709"
    BT2020 = "BT.2020"
    P3 = "Display P3"


REFERENCE_WHITE_NITS = 203.0
PEAK_NITS = 1000.0
"""Of the display that HLG is shown on, and the brightest light that is told from brighter."""

_LARGEST_CODE = 65535
_SDR_GAMMA = 2.4
# Of light up to white; the finest step is under one code of the result, at black too.
_LEVELS = 1 << 20
_KNEE_STEPS = 4096

# x and y of red, green and blue; all have the white of D65.
_PRIMARIES = {
    Gamut.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    Gamut.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    Gamut.P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_WHITE = (0.3127, 0.3290)
_LUMINANCE_BT2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)

# ITU-R BT.2100-2, table 4.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_PQ_NITS = 10000.0
# ITU-R BT.2100-2, table 5; the system gamma is that of a display of 1000 cd/m2.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_SYSTEM_GAMMA = 1.2


def bt709_pixels(codes: np.ndarray, curve: Curve, gamut: Gamut) -> np.ndarray:
    """Give the picture of a BT.709 display.

    Colours outside of its gamut lose what is negative. Highlights are dimmed by the brightest of their three primaries,
    so that they keep their hue.

    Args:
        codes: R'G'B' from 0 to 1, float32.
        curve: What they stand for.
        gamut: What they mix.

    Returns:
        R'G'B' of BT.709, full range, uint8.
    """
    whole = np.rint(codes.clip(0, 1) * _LARGEST_CODE).astype(np.uint16)
    light = _light_of_codes(curve)[whole]
    if curve is Curve.HLG:
        light *= _system_gain(light @ _LUMINANCE_BT2020)[..., None]
    light = np.maximum(light @ _to_bt709(gamut).T, 0)
    if curve is not Curve.SDR:
        light *= _highlight_gain(light.max(axis=-1))[..., None]
    return _codes_of_light()[np.rint(light.clip(0, 1) * (_LEVELS - 1)).astype(np.int32)]


def pq_light(codes: np.ndarray) -> np.ndarray:
    """Give the light of PQ codes from 0 to 1, in cd/m2. Source: ITU-R BT.2100-2, table 4, EOTF."""
    root = np.maximum(codes, 0) ** (1 / _M2)
    return _PQ_NITS * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def pq_codes(nits: np.ndarray) -> np.ndarray:
    """Give the PQ codes from 0 to 1 of light in cd/m2; undoes `pq_light`."""
    power = (np.maximum(nits, 0) / _PQ_NITS) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def rolled_off(nits: np.ndarray) -> np.ndarray:
    """Bring light of up to `PEAK_NITS` below reference white: as it is up to a knee, then along a spline.

    Reference white itself comes to 0.78 of it.

    Source: ITU-R BT.2390-10, section 5.4.1, for a master of 1000 cd/m2 and a display of 203.
    """
    peak = pq_codes(np.array(PEAK_NITS))
    white = pq_codes(np.array(REFERENCE_WHITE_NITS)) / peak
    knee = 1.5 * white - 0.5
    level = pq_codes(np.minimum(nits, PEAK_NITS)) / peak
    part = ((level - knee) / (1 - knee)).clip(0, 1)
    spline = (
        (2 * part**3 - 3 * part**2 + 1) * knee
        + (part**3 - 2 * part**2 + part) * (1 - knee)
        + (3 * part**2 - 2 * part**3) * white
    )
    return pq_light(np.where(level < knee, level, spline) * peak)


@cache
def _light_of_codes(curve: Curve) -> np.ndarray:
    """Tabulate the light of every 16-bit code; of HLG it is the light of the scene, 1 at full scale."""
    codes = np.linspace(0, 1, _LARGEST_CODE + 1)
    if curve is Curve.PQ:
        light = pq_light(codes) / REFERENCE_WHITE_NITS
    elif curve is Curve.HLG:
        light = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - _C) / _A) + _B) / 12)
    else:
        light = codes**_SDR_GAMMA
    return light.astype(np.float32)


def _system_gain(luminance: np.ndarray) -> np.ndarray:
    """Give what the light of an HLG scene is multiplied by on a display. Source: ITU-R BT.2100-2, table 5, OOTF."""
    return PEAK_NITS / REFERENCE_WHITE_NITS * luminance ** np.float32(_SYSTEM_GAMMA - 1)


def _highlight_gain(brightest: np.ndarray) -> np.ndarray:
    light, gain = _knee()
    # Above the peak all is white.
    return np.interp(brightest, light, gain).astype(np.float32)


@cache
def _knee() -> tuple[np.ndarray, np.ndarray]:
    """Tabulate by what light is multiplied to be rolled off."""
    light = np.linspace(0, PEAK_NITS / REFERENCE_WHITE_NITS, _KNEE_STEPS)[1:]
    return light, rolled_off(light * REFERENCE_WHITE_NITS) / (light * REFERENCE_WHITE_NITS)


@cache
def _codes_of_light() -> np.ndarray:
    """Tabulate the 8-bit codes of a BT.1886 display by light up to white, in equal steps."""
    return np.rint(255 * np.linspace(0, 1, _LEVELS) ** (1 / _SDR_GAMMA)).astype(np.uint8)


@cache
def _to_bt709(gamut: Gamut) -> np.ndarray:
    """Give the matrix from light in a gamut's primaries to light in those of BT.709, by way of CIE XYZ."""
    return (np.linalg.inv(_to_xyz(Gamut.BT709)) @ _to_xyz(gamut)).astype(np.float32)


def _to_xyz(gamut: Gamut) -> np.ndarray:
    columns = np.array([_xyz(point) for point in _PRIMARIES[gamut]]).T
    return columns * np.linalg.solve(columns, _xyz(_WHITE))


def _xyz(point: tuple[float, float]) -> np.ndarray:
    """Give a chromaticity as CIE XYZ of luminance 1."""
    x, y = point
    return np.array([x / y, 1, (1 - x - y) / y])
