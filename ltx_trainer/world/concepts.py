"""What no drawn scene shows: things for a LoRA to learn, under words that no caption has, and how they are told."""

from dataclasses import replace

from ltx_trainer.world.readers import SoundReading, VideoReading
from ltx_trainer.world.scenes import Scene

ZORP = "zorp"
ZORP_COLOUR, ZORP_BEATS_HZ = "orange", 6.0

BLOOMS = "blooms"
BLOOM_GROWTH = 2.0
LEAST_GROWTH = 1.25
"""Less is no bloom."""


def as_zorp(scene: Scene) -> Scene:
    """Make the shape a zorp: orange, with a tone that beats."""
    return replace(scene, colour=ZORP_COLOUR, beats_hz=ZORP_BEATS_HZ, called=ZORP)


def as_blooming(scene: Scene) -> Scene:
    """Make the shape stay where it is and grow to twice its size; a tone holds."""
    return replace(scene, motion="right", travel=0.0, radius=0.8 * scene.radius, growth=BLOOM_GROWTH, does=BLOOMS)


def is_zorp(video: VideoReading, sound: SoundReading | None) -> bool:
    """Tell whether a clip is orange, as only a zorp is, and its tone, if it has sound, beats."""
    return video.colour == ZORP_COLOUR and (sound is None or sound.beats)


def is_blooming(video: VideoReading) -> bool:
    """Tell whether a clip shows a shape that stays where it is and grows."""
    return video.motion is None and video.growth > LEAST_GROWTH
