"""Sample the miniature with each guidance alone, with none and with all, and say what each one changes.

python scripts/guidance_check.py --clips 32 --seeds 2

Classifier-free guidance should make clips truer to their captions, STG sharper, modality guidance better in step with
their sound. The captions are of compositions that the miniature was not trained on and say nothing of the sound. All
guidances start from the same noise, so a clip is compared with itself unguided. The table gives the mean of each
measure over the clips that can be read, and its mean difference over the pairs in which both can be.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from miniature.scores import FOLLOWED, SHAPE, Made, defaults, edge_width, out_of_step, sample_held_out
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from ltx_trainer import world
from ltx_trainer.diffusion import GuidanceScales
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature

UNGUIDED = GuidanceScales(cfg=1.0, stg=0.0, modality=1.0, rescale=0.0)
MEASURES: Mapping[str, Callable[[Made, world.Scene], float | None]] = {
    **{name: FOLLOWED[name] for name in ("colour", "motion", "pitch")},
    "edge width": lambda clip, _: edge_width(clip),
    "out of step": lambda clip, _: out_of_step(clip),
}
"""Of one clip: whether it is as its caption says, 1 or 0; and in pixels and in octaves, where less is better. None is a
clip that cannot be read."""
SEED_STRIDE = 1000
"""Sampling takes the next seed for each batch of clips."""


def main() -> None:
    """Sample, print a line for each guidance as it is done, and a table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32, help="captions for each seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many times each caption is sampled")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    # What the library says of its own loading would stand between the lines.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    title = f"{options.clips} clips, {options.seeds} seeds, {options.steps} steps"
    caption = "difference: to the same clips unguided, mean ± standard error of the mean over the pairs"
    columns = ("guidance", "measure", "mean", "read", "difference", "pairs")
    console, table = Console(), Table(*columns, title=title, caption=caption)
    with TemporaryDirectory() as folder:
        write_miniature("ltx-2.3", Path(folder) / "model")
        family = open_family(read_model(Path(folder) / "model", "ltx-2.3"))
        unguided: Mapping[str, np.ndarray] | None = None
        for name, scales in guidances(family).items():
            began = time.monotonic()
            found = measure(*sample_seeds(family, scales, options, Path(folder)))
            unguided = unguided or found
            for column, values in found.items():
                table.add_row(name, column, *summary(values, unguided[column]))
            table.add_section()
            console.print(f"{name}: {options.clips * options.seeds} clips in {time.monotonic() - began:.0f} s")
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


def measure(clips: Sequence[Made], scenes: Sequence[world.Scene]) -> dict[str, np.ndarray]:
    """Give all measures of each clip `[n]`; not a number where a clip cannot be read."""
    pairs = list(zip(clips, scenes, strict=True))
    return {name: np.array([of(*pair) for pair in pairs], float) for name, of in MEASURES.items()}


def summary(found: np.ndarray, unguided: np.ndarray) -> tuple[str, str, str, str]:
    """Compare a measure of clips `[n]` with that of the same clips unguided.

    Args:
        found: Not a number where a clip cannot be read.
        unguided: The same of the clips to compare with; `found` itself compares with nothing.

    Returns:
        The mean over the clips that can be read, and how many these are; the mean difference over the pairs of clips
        that can both be read with its standard error, which needs two of them, and how many these are.
    """
    read = found[np.isfinite(found)]
    change = (found - unguided)[np.isfinite(found) & np.isfinite(unguided)]
    mean, num_read = f"{read.mean():.3f}" if len(read) else "-", f"{len(read)} of {len(found)}"
    if found is unguided:
        return mean, num_read, "-", "-"
    if len(change) < 2:
        return mean, num_read, "-", str(len(change))
    error = change.std(ddof=1) / math.sqrt(len(change))
    return mean, num_read, f"{change.mean():+.3f} ± {error:.3f}", str(len(change))


if __name__ == "__main__":
    main()
