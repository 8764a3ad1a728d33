"""Sample the miniature with each guidance alone, with none and with all, and say what each one changes.

python scripts/guidance_check.py --clips 32 --seeds 2

Classifier-free guidance should make clips truer to their captions, STG sharper, modality guidance better in step with
their sound. The captions are of compositions that the miniature was not trained on and say nothing of the sound. All
guidances start from the same noise, so a clip is compared with itself unguided.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from miniature.scores import SHAPE, Made, defaults, edge_width, out_of_step, sample_held_out, share
from rich.console import Console
from rich.table import Table

from ltx_trainer import world
from ltx_trainer.diffusion import GuidanceScales
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature

UNGUIDED = GuidanceScales(cfg=1.0, stg=0.0, modality=1.0, rescale=0.0)
READ = ("colour", "motion", "pitch")
MEASURES: Mapping[str, Callable[[Made], float | None]] = {
    "edge width": lambda clip: edge_width(clip.frames),
    "out of step": out_of_step,
}
"""Of one clip, in pixels and in octaves: less is better. None is a clip that cannot be read."""
SEED_STRIDE = 1000
"""Sampling takes the next seed for each batch of clips."""


def main() -> None:
    """Sample and print a row for each guidance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32, help="captions for each seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many times each caption is sampled")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    title = f"{options.clips} clips, {options.seeds} seeds, {options.steps} steps; ± is one standard error"
    columns = [column for name in MEASURES for column in (name, "unread", "less none")]
    console, table = Console(), Table("guidance", *READ, *columns, title=title)
    with TemporaryDirectory() as folder:
        write_miniature("ltx-2.3", Path(folder) / "model")
        family = open_family(read_model(Path(folder) / "model", "ltx-2.3"))
        unguided: Mapping[str, np.ndarray] | None = None
        for name, scales in guidances(family).items():
            clips, scenes = sample_seeds(family, scales, options, Path(folder))
            found, shares = measure(clips), share(clips, scenes)
            unguided = unguided or found
            cells = [cell for column in MEASURES for cell in summary(found[column], unguided[column])]
            table.add_row(name, *(f"{shares[column]:.3f}" for column in READ), *cells)
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


def sample_seeds(
    family: Family, scales: Mapping[str, GuidanceScales], options: argparse.Namespace, scratch: Path
) -> tuple[list[Made], list[world.Scene]]:
    """Make a clip for each caption and seed, from the same noise whatever the guidance."""
    clips: list[Made] = []
    scenes: list[world.Scene] = []
    for number in range(options.seeds):
        seed = options.seed + SEED_STRIDE * number
        sampling = replace(defaults(family), num_steps=options.steps, seed=seed, scales=scales)
        made, shown = sample_held_out(family, SHAPE, options.clips, scratch, sampling, wording=0)
        clips += made
        scenes += shown
    return clips, scenes


def measure(clips: Sequence[Made]) -> dict[str, np.ndarray]:
    """Give all measures of each clip `[n]`; not a number where a clip cannot be read."""
    return {name: np.array([of(clip) for clip in clips], float) for name, of in MEASURES.items()}


def summary(found: np.ndarray, unguided: np.ndarray) -> tuple[str, str, str]:
    """Give the mean, how many clips it leaves out, and the mean difference to the same clips unguided."""
    read = found[np.isfinite(found)]
    change = (found - unguided)[np.isfinite(found) & np.isfinite(unguided)]
    mean = f"{read.mean():.3f}" if len(read) else "-"
    left_out = f"{len(found) - len(read)} of {len(found)}"
    if found is unguided or len(change) < 2:
        return mean, left_out, "-"
    return mean, left_out, f"{change.mean():+.3f} ± {change.std(ddof=1) / math.sqrt(len(change)):.3f}"


if __name__ == "__main__":
    main()
