"""From what the settings say of the base model to the folder that it lies in."""

from pathlib import Path

from ltx_trainer import __version__

MINIATURE = "miniature"


def locate_model(base: str, family: str, cache: Path) -> Path:
    """Give the folder of the base model. The miniature is written there the first time it is asked for.

    Args:
        base: A folder, or `miniature`.
        family: Which miniature.
        cache: Where the miniature is kept.

    Raises:
        ModelError: The family has no miniature.
        ConfigError: The cache cannot be written to.
        OutOfResources: The disk is full.
    """
    if base != MINIATURE:
        return Path(base).expanduser()
    folder = cache / "models" / f"{MINIATURE}-{family}-{__version__}"
    if not folder.is_dir():
        from ltx_trainer.models.miniature import write_miniature  # noqa: PLC0415 - needs torch, once

        write_miniature(family, folder)
    return folder
