"""A small world of moving shapes and the tones that follow them: what the miniature is trained on and judged by."""

from ltx_trainer.world.concepts import BLOOMS, ZORP, ZORP_COLOUR, as_blooming, as_zorp, is_blooming, is_zorp
from ltx_trainer.world.readers import SoundReading, VideoReading, read_sound, read_video
from ltx_trainer.world.scenes import (
    COLOURS,
    KNOWN_COLOURS,
    MOTIONS,
    PITCH_OF_MOTION,
    SHAPES,
    TEXTURES,
    WORDINGS,
    Composition,
    Scene,
    caption,
    draw_scenes,
    pitch_at,
    render,
    sing,
)

__all__ = [
    "BLOOMS",
    "COLOURS",
    "KNOWN_COLOURS",
    "MOTIONS",
    "PITCH_OF_MOTION",
    "SHAPES",
    "TEXTURES",
    "WORDINGS",
    "ZORP",
    "ZORP_COLOUR",
    "Composition",
    "Scene",
    "SoundReading",
    "VideoReading",
    "as_blooming",
    "as_zorp",
    "caption",
    "draw_scenes",
    "is_blooming",
    "is_zorp",
    "pitch_at",
    "read_sound",
    "read_video",
    "render",
    "sing",
]
