"""Scenes: one coloured shape glides over a muted background while a tone follows its height.

A scene has no size, length or rate of its own; `render` and `sing` give it any. Everything is a function of the scene,
and scenes are a function of their seed.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "yellow": (0.92, 0.86, 0.12),
    "green": (0.12, 0.75, 0.16),
    "cyan": (0.12, 0.82, 0.86),
    "blue": (0.14, 0.22, 0.92),
    "purple": (0.78, 0.14, 0.86),
    "orange": (0.95, 0.48, 0.08),
}
KNOWN_COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
"""What scenes are drawn with. The rest is left for a LoRA to learn."""

SHAPES = ("circle", "square", "triangle")
TEXTURES = ("plain", "striped")
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Across and down, in picture coordinates."""
PITCH_OF_MOTION = {"left": "holds", "right": "holds", "up": "rises", "down": "falls"}

WORDINGS = (
    "a {colour} {shape} {does}",
    "a {colour} {shape} {does} on a {texture} background",
    "on a {texture} background, a {colour} {shape} {does}",
    "a {colour} {shape} {does} while a tone {pitch}",
    "{texture} background: a {colour} {shape} {does}, the tone {pitch}",
    "the camera stands still while a {colour} {shape} {does} on a {texture} background, a tone {pitch}",
)

LOWEST_PITCH_HZ = 300
OCTAVES = 3
HARMONICS = (1.0, 0.4, 0.2)
LOUDNESS = 0.3
HISS = 0.003
FADE_SECONDS = 0.01

Composition = tuple[str, str, str]


@dataclass(frozen=True)
class Scene:
    """One scene. Lengths are in units of the picture's shorter side, places in fractions of its width and height.

    Attributes:
        colour: Of the shape, a key of `COLOURS`.
        shape: One of `SHAPES`.
        motion: A key of `MOTIONS`.
        texture: Of the background, one of `TEXTURES`.
        radius: Of a circle of the shape's area, at the start.
        centre: Where the shape is halfway, across and down.
        travel: How far it goes, as a fraction of the width or the height.
        tint: Of the background, as RGB in [0, 1].
        stripe: Width of a stripe, its phase in periods.
        upright: Whether the stripes stand.
        wording: Which of the wordings its caption has.
        growth: Radius at the end by radius at the start.
        beats_hz: How often the tone swells and fades in a second; 0 is steady.
        called: What the caption calls the colour; empty for the colour's own name.
        does: What the caption says that the shape does; empty for that it moves, and where.
    """

    colour: str
    shape: str
    motion: str
    texture: str
    radius: float
    centre: tuple[float, float]
    travel: float
    tint: tuple[float, float, float]
    stripe: tuple[float, float]
    upright: bool
    wording: int
    growth: float = 1.0
    beats_hz: float = 0.0
    called: str = ""
    does: str = ""

    @property
    def composition(self) -> Composition:
        """Colour, shape and motion."""
        return self.colour, self.shape, self.motion


def draw_scenes(count: int, seed: int, *, without: Collection[Composition] = ()) -> list[Scene]:
    """Draw scenes of the known colours.

    Args:
        count: How many.
        seed: The same seed gives the same scenes.
        without: Compositions that are never drawn.
    """
    draw = np.random.default_rng(seed)
    return [_draw_scene(draw, without) for _ in range(count)]


def _draw_scene(draw: np.random.Generator, without: Collection[Composition]) -> Scene:
    while True:
        composition = (_one_of(draw, KNOWN_COLOURS), _one_of(draw, SHAPES), _one_of(draw, tuple(MOTIONS)))
        if composition not in without:
            break
    colour, shape, motion = composition
    # Mostly across the motion, so that the whole way is in the picture.
    away = [draw.uniform(-0.16, 0.16) * (1 - 0.75 * abs(step)) for step in MOTIONS[motion]]
    grey = draw.uniform(0.25, 0.75)
    red, green, blue = grey + draw.uniform(-0.04, 0.04, 3)
    return Scene(
        colour=colour,
        shape=shape,
        motion=motion,
        texture=_one_of(draw, TEXTURES),
        radius=draw.uniform(0.13, 0.19),
        centre=(0.5 + away[0], 0.5 + away[1]),
        travel=draw.uniform(0.38, 0.52),
        tint=(float(red), float(green), float(blue)),
        stripe=(draw.uniform(0.15, 0.22), draw.uniform(0, 1)),
        upright=bool(draw.integers(2)),
        wording=int(draw.integers(len(WORDINGS))),
    )


def _one_of(draw: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[draw.integers(len(choices))]


def caption(scene: Scene, wording: int | None = None) -> str:
    """Say what a scene shows and how it sounds.

    Args:
        scene: What to describe.
        wording: Which of the wordings; None takes the scene's own.
    """
    return WORDINGS[scene.wording if wording is None else wording].format(
        colour=scene.called or scene.colour,
        shape=scene.shape,
        does=scene.does or f"moves {scene.motion}",
        texture=scene.texture,
        pitch=PITCH_OF_MOTION[scene.motion],
    )


def render(scene: Scene, width: int, height: int, num_frames: int) -> np.ndarray:
    """Draw a scene as uint8 frames `[f h w 3]`; a frame shows the middle of its share of the scene."""
    side = min(width, height)
    moment = _moments(num_frames)[:, None, None]
    across, down = _place(scene, moment)
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    x, y = (columns - across * width) / side, (rows - down * height) / side
    radius = scene.radius * (1 + (scene.growth - 1) * moment)
    inside = np.clip(0.5 - _distance(scene.shape, x, y, radius) * side, 0, 1)[..., None]
    along = columns / side if scene.upright else rows / side
    stripe_width, phase = scene.stripe
    wave = np.sin(2 * math.pi * (along / (2 * stripe_width) + phase)) * (0.08 if scene.texture == "striped" else 0)
    ground = np.clip(np.array(scene.tint) + np.broadcast_to(wave, (height, width))[..., None], 0, 1)
    picture = ground * (1 - inside) + np.array(COLOURS[scene.colour]) * inside
    return np.round(picture * 255).astype(np.uint8)


def sing(scene: Scene, num_samples: int, rate_hz: int) -> np.ndarray:
    """Sound a scene as stereo float32 samples `[2 n]`: the higher the shape, the higher the tone."""
    _, down = _place(scene, _moments(num_samples))
    phase = 2 * math.pi * np.cumsum(pitch_at(down)) / rate_hz
    tone = sum(loudness * np.sin(number * phase) for number, loudness in enumerate(HARMONICS, start=1))
    seconds = np.arange(num_samples) / rate_hz
    swell = 0.5 - 0.5 * np.cos(2 * math.pi * scene.beats_hz * seconds) if scene.beats_hz else 1.0
    fade = np.clip(np.minimum(seconds, seconds[::-1]) / FADE_SECONDS, 0, 1)
    hiss = np.random.default_rng(0).normal(size=num_samples)
    wave = LOUDNESS * tone * swell * fade + HISS * hiss
    return np.stack([wave, wave]).astype(np.float32)


def pitch_at(down: np.ndarray) -> np.ndarray:
    """Give the tone, in Hz, of a shape at places down the picture: 0 is the top, 1 the bottom."""
    return LOWEST_PITCH_HZ * 2 ** (OCTAVES * (1 - down))


def _moments(count: int) -> np.ndarray:
    """Give the middles of `count` equal shares of a scene, which runs from 0 to 1."""
    return (np.arange(count) + 0.5) / count


def _place(scene: Scene, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    way = (moment - 0.5) * scene.travel
    right, down = MOTIONS[scene.motion]
    return scene.centre[0] + way * right, scene.centre[1] + way * down


def _distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Give the distance to the outline of a shape around the origin, negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.886 * radius
    half = 1.15 * radius
    slope = 1.7
    side = (slope * abs(x) - y - 0.95 * half) / math.hypot(1, slope)
    return np.maximum(y - 0.75 * half, side)
