"""Readers: what a scene shows and how it sounds, told from pixels and samples alone.

They read a scene that was drawn, encoded, generated or blurred, at any size, length and rate; what they cannot make
out is None.
"""

from dataclasses import dataclass

import numpy as np

from ltx_trainer.world.scenes import COLOURS

SMALLEST, LARGEST = 0.015, 0.5
"""Share of the picture that a shape may cover."""
LEAST_SATURATION = 0.2
LEAST_TRAVEL = 0.12
"""As a fraction of the picture; less is no motion."""

WINDOW_SECONDS, HOP_SECONDS = 0.048, 0.008
LOWEST_HZ, HIGHEST_HZ = 200, 3000
LEAST_OCTAVES = 0.4
"""Less is no change of pitch."""
QUIET = 0.1
TONAL = 0.4
"""Share of a window's energy that a tone and its harmonics hold; with less there is no tone."""
NUM_HARMONICS = 3
BEATING = 0.6
"""How deep a tone fades; less is steady."""


@dataclass(frozen=True)
class VideoReading:
    """What was read from frames.

    Attributes:
        colour: A key of `COLOURS`.
        shape: One of `SHAPES`.
        motion: A key of `MOTIONS`, or None if nothing moves far.
        growth: The shape's size (the root of its area) at the end by that at the start.
        path: Where the shape is in each frame, across and down, in fractions of width and height `[f 2]`; not a number
            where it is not seen.
    """

    colour: str | None
    shape: str | None
    motion: str | None
    growth: float
    path: np.ndarray


@dataclass(frozen=True)
class SoundReading:
    """What was read from samples.

    Attributes:
        pitch: `rises`, `falls` or `holds`; None if there is no tone in half of what is loud.
        beats: Whether the tone swells and fades.
        octaves: How far the pitch goes over the whole length.
        track: Pitch in octaves above 1 Hz, at equal distances `[n]`; not a number where no tone is heard.
    """

    pitch: str | None
    beats: bool
    octaves: float
    track: np.ndarray


def read_video(frames: np.ndarray) -> VideoReading:
    """Read uint8 frames `[f h w 3]`."""
    pixels = frames.astype(np.float32) / 255
    num_frames, height, width, _ = pixels.shape
    saturation = pixels.max(-1) - pixels.min(-1)
    peak = np.quantile(saturation.reshape(num_frames, -1), 0.99, axis=1)
    mask = saturation > np.maximum(0.5 * peak, LEAST_SATURATION)[:, None, None]
    area = mask.sum((1, 2))
    seen = (area > SMALLEST * height * width) & (area < LARGEST * height * width)
    columns, rows = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    with np.errstate(invalid="ignore"):
        path = np.stack([mask.sum(1) @ columns, mask.sum(2) @ rows], -1) / area[:, None]
    path[~seen] = np.nan
    if seen.sum() < max(1, num_frames // 2):
        return VideoReading(None, None, None, float("nan"), path)
    inside = pixels[seen][mask[seen]].mean(0)
    return VideoReading(
        colour=_nearest_colour(inside),
        shape=_shape(mask[seen], area[seen]),
        motion=_motion(path),
        growth=_growth(area[seen]),
        path=path,
    )


def _nearest_colour(colour: np.ndarray) -> str:
    """Compare hues: what is left of a colour without its lightness and strength."""
    names = list(COLOURS)
    hues = _hue(np.array([COLOURS[name] for name in names]))
    return names[int((hues @ _hue(colour)).argmax())]


def _hue(colour: np.ndarray) -> np.ndarray:
    away = colour - colour.mean(-1, keepdims=True)
    return away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)


def _shape(mask: np.ndarray, area: np.ndarray) -> str:
    """Tell a shape by how much of the box around it is filled: a triangle half, a circle 0.79, a square all."""
    box = (mask.sum(1) > 1).sum(1) * (mask.sum(2) > 1).sum(1)
    filled = float((area / np.maximum(box, 1)).mean())
    return "triangle" if filled < 0.68 else "circle" if filled < 0.9 else "square"


def _motion(path: np.ndarray) -> str | None:
    right, down = (_change(places) for places in path.T)
    if max(abs(right), abs(down)) < LEAST_TRAVEL:
        return None
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _growth(area: np.ndarray) -> float:
    ends = max(1, len(area) // 4)
    return float(np.sqrt(area[-ends:].mean() / area[:ends].mean()))


def _change(values: np.ndarray) -> float:
    """Give how far a straight line through the values goes from the first to the last, those that are there."""
    there = np.flatnonzero(~np.isnan(values))
    if len(there) < 2:
        return 0.0
    slope, _ = np.polyfit(there, values[there], 1)
    return float(slope * (len(values) - 1))


def read_sound(samples: np.ndarray, rate_hz: int) -> SoundReading:
    """Read samples `[channels n]`."""
    windows = _windows(samples.mean(0), rate_hz)
    loudness = np.sqrt((windows**2).mean(1))
    loud = loudness > QUIET * loudness.max(initial=1e-6)
    spectrum, hertz = _spectrum(windows, rate_hz)
    heard = _pitch(spectrum, hertz)
    track = np.where(loud & (_tonality(spectrum, hertz, heard) > TONAL), heard, np.nan)
    if loudness.max(initial=0) < 1e-3 or np.isfinite(track).sum() < max(3, 0.5 * loud.sum()):
        return SoundReading(None, beats=False, octaves=0.0, track=track)
    octaves = _change(track)
    pitch = "holds" if abs(octaves) < LEAST_OCTAVES else "rises" if octaves > 0 else "falls"
    return SoundReading(pitch, beats=_depth(loudness) > BEATING, octaves=octaves, track=track)


def _windows(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    length, hop = int(WINDOW_SECONDS * rate_hz), int(HOP_SECONDS * rate_hz)
    if len(wave) < length:
        return np.zeros((0, length))
    return np.lib.stride_tricks.sliding_window_view(wave, length)[::hop].astype(np.float64)


def _spectrum(windows: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the magnitudes of each window `[n k]` and their frequencies in Hz `[k]`."""
    length = windows.shape[1]
    return abs(np.fft.rfft(windows * np.hanning(length), n=4 * length)), np.fft.rfftfreq(4 * length, 1 / rate_hz)


def _pitch(spectrum: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Give the lowest strong partial of each window, in octaves above 1 Hz."""
    band = (hertz >= LOWEST_HZ) & (hertz <= HIGHEST_HZ)
    spectrum, hertz = spectrum[:, band], hertz[band]
    strong = spectrum > 0.6 * spectrum.max(1, keepdims=True)
    first = strong.argmax(1)
    # From where it begins to be strong, climb to the top.
    reach = int(np.searchsorted(hertz, LOWEST_HZ + 2 / WINDOW_SECONDS))
    places = np.minimum(first[:, None] + np.arange(reach), len(hertz) - 1)
    top = np.take_along_axis(places, np.take_along_axis(spectrum, places, 1).argmax(1)[:, None], 1)[:, 0]
    return np.log2(hertz[top])


def _tonality(spectrum: np.ndarray, hertz: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Give the share of each window's energy that lies at its pitch, in octaves above 1 Hz, and at its harmonics."""
    energy = spectrum**2
    near = np.zeros(energy.shape, bool)
    for number in range(1, NUM_HARMONICS + 1):
        near |= abs(hertz - number * 2 ** pitch[:, None]) < 2 / WINDOW_SECONDS
    return (energy * near).sum(1) / np.maximum(energy.sum(1), 1e-12)


def _depth(loudness: np.ndarray) -> float:
    """Give how deep the tone fades between swells, away from the ends."""
    middle = loudness[len(loudness) // 8 : len(loudness) - len(loudness) // 8]
    low, high = np.quantile(middle, [0.1, 0.9])
    return float(1 - low / max(high, 1e-9))
