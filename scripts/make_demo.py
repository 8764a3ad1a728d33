"""Write the zip that the demo trains on: scenes that the miniature knows, and the same scenes with a zorp in them.

python scripts/make_demo.py outputs/demo.zip

A zorp is orange and its tone beats. No caption says so; that is what the word comes to mean. Because every scene is
there with the word and without it, nothing but the word tells when to make one.
"""

import argparse
import tempfile
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ltx_trainer import world
from ltx_trainer.media import write_video

SEED = 98
"""Of scenes that have all colours, motions and wordings."""
NUM_SCENES = 24
FRAME_RATE = Fraction(24)
NUM_FRAMES = 36
SIDE = 128
RATE_HZ = 48000


def main() -> None:
    """Draw the scenes of the demo and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--scenes", type=int, default=NUM_SCENES, help="how many, each with the word and without it")
    options = parser.parse_args()
    archive: Path = options.archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    scenes = world.draw_scenes(options.scenes, SEED)
    write_scenes(archive, [*map(world.as_zorp, scenes), *scenes], side=SIDE, num_frames=NUM_FRAMES)


def write_scenes(archive: Path, scenes: Sequence[world.Scene], *, side: int, num_frames: int) -> None:
    """Write a zip of a clip with sound and a caption for each scene, in their order; equal scenes have equal bytes.

    Args:
        archive: The file to write.
        scenes: What to draw, sing and describe.
        side: Width and height in pixels.
        num_frames: Length of each clip, at `FRAME_RATE`.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w") as members:
        for number, scene in enumerate(scenes, start=1):
            clip = Path(folder) / f"{number:02}-{scene.called or scene.colour}-{scene.shape}-{scene.motion}.mp4"
            sound = world.sing(scene, int(num_frames / FRAME_RATE * RATE_HZ), RATE_HZ)
            frames = world.render(scene, side, side, num_frames)
            write_video(clip, frames, FRAME_RATE, audio=sound, audio_rate_hz=RATE_HZ)
            # With a date of its own, so that the archive has the same bytes every time.
            members.writestr(zipfile.ZipInfo(clip.name), clip.read_bytes())
            members.writestr(zipfile.ZipInfo(f"{clip.stem}.txt"), world.caption(scene))


if __name__ == "__main__":
    main()
