"""Which clips are never trained on."""

from collections.abc import Sequence

from ltx_trainer.artifacts import CachedExample
from ltx_trainer.config import Settings
from ltx_trainer.errors import ConfigError
from ltx_trainer.seeds import derived_seed

PURPOSE = "held out"
"""Of the seeds that belong to them."""


def split_held_out(
    examples: Sequence[CachedExample], settings: Settings
) -> tuple[tuple[CachedExample, ...], tuple[CachedExample, ...]]:
    """Part what is trained on from what is held out, file by file, so that scenes of one video stay together.

    Returns:
        The examples to train on, and those held out, each in the order given.

    Raises:
        ConfigError: There is one file only.
    """
    fraction = settings.held_out.fraction
    if fraction == 0:
        return tuple(examples), ()
    files = {example.source for example in examples}
    if len(files) == 1:
        raise ConfigError(
            f"held_out.fraction {fraction} holds out at least one file, and {next(iter(files))} is the only one. "
            "0 holds out none."
        )
    count = min(max(1, round(fraction * len(files))), len(files) - 1)
    # By a number of each file's own, so that another file in the set moves few of the others.
    chosen = sorted(files, key=lambda file: derived_seed(settings.training.seed, PURPOSE, file))[:count]
    return (
        tuple(example for example in examples if example.source not in chosen),
        tuple(example for example in examples if example.source in chosen),
    )
