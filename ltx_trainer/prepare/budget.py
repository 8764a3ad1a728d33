"""How much of the training data may be lost before a run is refused."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from ltx_trainer.artifacts import Clips, Example, LeftOut, Manifest
from ltx_trainer.config import DataSection
from ltx_trainer.errors import DatasetError

MAX_ROWS = 20
"""Reasons that a message lists."""

OTHER_MEDIA = frozenset(
    (
        *(".3gp", ".flv", ".m2ts", ".m4v", ".mpeg", ".mpg", ".mts", ".ogv", ".wmv"),
        *(".avif", ".heic", ".heif", ".jxl"),
    )
)
"""Extensions of pictures that no mode takes: leaving them out is a loss, and leaving out a README is none."""


def check_complete(left_out: Sequence[LeftOut], data: DataSection) -> None:
    """Refuse examples that lack a file, and captions of clips that there are not, unless the settings skip them.

    Args:
        left_out: What the archive holds besides its examples, or what was left out when they were cut.
        data: The user's limits.

    Raises:
        DatasetError: With every one of them, up to a limit.
    """
    incomplete = [item for item in left_out if item.is_incomplete]
    if incomplete and data.incomplete == "refuse":
        raise DatasetError(
            f"{len(incomplete)} files of the training data belong to no whole example:\n{_table(incomplete)}\n"
            "Complete them, take them out, or set data.incomplete: skip to train without them."
        )


def check_loss(manifest: Manifest, clips: Clips, data: DataSection, failed: Sequence[LeftOut] = ()) -> None:
    """Refuse a run that would leave out more of its media files than the settings take.

    A file is left out if no clip of it is left, so one lost scene of many is no loss. With an example all of its files
    are lost.

    Args:
        manifest: What the archive holds.
        clips: What is left of it.
        data: The user's limits.
        failed: Clips that are lost since, because their media failed while it was encoded.

    Raises:
        DatasetError: With the reason for each, up to a limit.
    """
    gone = {item.name for item in failed}
    kept = {
        item.source.name
        for clip in clips.clips
        if clip.name not in gone
        for item in (*clip.footage.values(), *clip.soundtrack.values())
    }
    foreign = [item for item in manifest.left_out if PurePosixPath(item.name).suffix.lower() in OTHER_MEDIA]
    lost = [example for example in manifest.examples if kept.isdisjoint(_files_of(example))]
    num_lost = len(foreign) + sum(len(_files_of(example)) for example in lost)
    num_files = len(foreign) + sum(len(_files_of(example)) for example in manifest.examples)
    if num_lost > data.max_left_out * num_files:
        rows = [*foreign, *(_reason_for(example, (*clips.left_out, *failed)) for example in lost)]
        raise DatasetError(
            f"{num_lost} of {num_files} media files would be left out:\n{_table(rows)}\n"
            f"data.max_left_out takes a share of {data.max_left_out:g}. Mend the files or take them out, or set it to "
            f"{_share_above(num_lost / num_files)} to train on the others."
        )


def _files_of(example: Example) -> set[str]:
    return {source.name for source in example.files.values()}


def _reason_for(example: Example, left_out: Sequence[LeftOut]) -> LeftOut:
    """Give the reason for an example, or for the first of its scenes, windows or parts."""
    pieces = tuple(f"{example.name}#{kind}-" for kind in ("scene", "window", "part"))
    lost = [item for item in left_out if not item.is_incomplete]
    found = [item for item in lost if item.name == example.name or item.name.startswith(pieces)]
    if not found:
        return LeftOut(example.name, "is left out")
    kind = found[0].name.removeprefix(example.name).rpartition("#")[2].partition("-")[0] + "s"
    pieces_told = f" (and so on for {len(found)} {kind})" if len(found) > 1 else ""
    return LeftOut(found[0].name, f"{found[0].reason}{pieces_told}")


def _share_above(share: float) -> str:
    """Write a share with two digits, none of it lost."""
    return f"{min(1.0, -(-share * 100 // 1) / 100):g}"


def _table(items: Sequence[LeftOut]) -> str:
    rows = [f"  {item.name}: {item.reason}" for item in items[:MAX_ROWS]]
    if len(items) > MAX_ROWS:
        rows.append(f"  ... and {len(items) - MAX_ROWS} more")
    return "\n".join(rows)
