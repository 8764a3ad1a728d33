"""Sample the miniature with each guidance alone, with none and with all, and say what each one changes.

python scripts/guidance_check.py --clips 32

Classifier-free guidance should make clips truer to their captions, STG sharper, modality guidance better in step with
their sound. The captions are of compositions that the miniature was not trained on and say nothing of the sound.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from miniature.scores import Made, decode, defaults, held_out_scenes, in_step, make, prompts_of, share, sharpness
from rich.console import Console
from rich.table import Table

from ltx_trainer import world
from ltx_trainer.config.request import NEGATIVE_PROMPT
from ltx_trainer.diffusion import GuidanceScales
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature

SHAPE = ClipShape(17, FrameSize(64, 64), Fraction(24))
UNGUIDED = GuidanceScales(cfg=1.0, stg=0.0, modality=1.0, rescale=0.0)
COLUMNS = ("colour", "motion", "pitch", "sharpness", "in step")


def main() -> None:
    """Sample and print a row for each guidance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, table = Console(), Table("guidance", *COLUMNS, title=f"{options.clips} clips, {options.steps} steps")
    with TemporaryDirectory() as folder:
        write_miniature("ltx-2.3", Path(folder) / "model")
        family = open_family(read_model(Path(folder) / "model", "ltx-2.3"))
        for name, scales in guidances(family).items():
            clips, scenes = sample(family, scales, options, Path(folder))
            found = measure(clips, scenes)
            table.add_row(name, *(f"{found[column]:.3f}" for column in COLUMNS))
    console.print(table)


def guidances(family: Family) -> dict[str, Mapping[str, GuidanceScales]]:
    """Give none, each alone at the family's own strength, and all."""
    own = family.sampling.scales

    def only(**kept: bool) -> Mapping[str, GuidanceScales]:
        return {
            stream: replace(UNGUIDED, **{name: getattr(scales, name) for name in kept})
            for stream, scales in own.items()
        }

    return {
        "none": only(),
        "classifier-free": only(cfg=True),
        "STG": only(stg=True),
        "modality": only(modality=True),
        "all, rescaled": own,
    }


def sample(
    family: Family, scales: Mapping[str, GuidanceScales], options: argparse.Namespace, scratch: Path
) -> tuple[list[Made], list[world.Scene]]:
    """Make a clip for each caption, from the same noise whatever the guidance."""
    scenes = held_out_scenes(options.clips)
    prompt = prompts_of(family, [*(world.caption(scene, 0) for scene in scenes), NEGATIVE_PROMPT], scratch)
    sampling = replace(defaults(family, num_steps=options.steps, seed=options.seed), scales=scales)
    device = torch.device("cpu")
    with family.transformer(device, torch.float32) as transformer:
        latents = make(
            family,
            transformer,
            {stream: embeddings[:-1] for stream, embeddings in prompt.items()},
            {stream: embeddings[-1:] for stream, embeddings in prompt.items()},
            SHAPE,
            sampling,
        )
    with family.video_codec(device) as video, family.audio_codec(device) as audio:
        return decode(latents, video, audio), scenes


def measure(clips: list[Made], scenes: list[world.Scene]) -> dict[str, float]:
    """Give the means of all columns; only what rises or falls can be in step."""
    moving = [clip for clip, scene in zip(clips, scenes, strict=True) if world.PITCH_OF_MOTION[scene.motion] != "holds"]
    return share(clips, scenes) | {
        "sharpness": float(np.mean([sharpness(clip.frames) for clip in clips])),
        "in step": float(np.mean([in_step(clip) for clip in moving])),
    }


if __name__ == "__main__":
    main()
