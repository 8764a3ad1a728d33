"""Which file plays which role: paths inside an archive in, examples out."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from ltx_trainer.artifacts import LeftOut, MediaKind, Role
from ltx_trainer.errors import DatasetError
from ltx_trainer.modes import Mode

KINDS: Mapping[str, MediaKind] = {
    ".mp4": MediaKind.VIDEO,
    ".mov": MediaKind.VIDEO,
    ".avi": MediaKind.VIDEO,
    ".mkv": MediaKind.VIDEO,
    ".png": MediaKind.IMAGE,
    ".jpg": MediaKind.IMAGE,
    ".jpeg": MediaKind.IMAGE,
}
CAPTION = ".txt"

NOTES = frozenset({"license", "licence", "notice", "readme"})
"""Names of texts that speak of a whole archive, and are captions only beside media of the same name."""

Place = TypeVar("Place")


@dataclass(frozen=True)
class Group:
    """The paths inside the archive that make one example.

    Attributes:
        name: Of the example.
        media: One path for each role.
        caption: Path of the caption; None without one.
    """

    name: str
    media: Mapping[Role, str]
    caption: str | None


@dataclass(frozen=True)
class Layout:
    """All examples, and the files that are part of none, both in the order of their names."""

    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]


def find_groups(names: Collection[str], mode: Mode, *, mixed: bool) -> Layout:
    """Sort the files of an archive into examples.

    Args:
        names: Paths inside the archive, `/` between folders.
        mode: Says which kinds of media an example may be.
        mixed: Take images and videos together.

    Raises:
        DatasetError: There is no media that the mode takes, there are images and videos that may not be mixed, or two
            files claim one place.
    """
    media = [name for name in names if extension_of(name) in KINDS]
    _check_kinds(names, media, mode, mixed=mixed)
    targets = _claim((place_of(name), name) for name in media)
    captions = _claim((base_of(name), name) for name in names if extension_of(name) == CAPTION)
    wrapper = _wrapper_of(names)
    groups = [
        Group(base.removeprefix(wrapper), {role: name}, captions.get(base)) for (base, role), name in targets.items()
    ]
    used = {name for group in groups for name in (*group.media.values(), group.caption)}
    left_out = [
        LeftOut(name, _reason(name, mode), is_incomplete=_is_caption(name))
        for name in sorted(names)
        if name not in used
    ]
    return Layout(tuple(sorted(groups, key=lambda group: group.name)), tuple(left_out))


def place_of(name: str) -> tuple[str, Role]:
    """Say which example a media file belongs to, and as what: here always as the target of its own."""
    return base_of(name), Role.TARGET


def base_of(name: str) -> str:
    """Give a path without its extension."""
    return str(PurePosixPath(name).with_suffix(""))


def extension_of(name: str) -> str:
    """Give the extension in lower case, with its dot; empty if there is none."""
    return PurePosixPath(name).suffix.lower()


def kind_of(name: str) -> MediaKind:
    """Give the kind of a media file by its extension."""
    return KINDS[extension_of(name)]


def _check_kinds(names: Collection[str], media: Collection[str], mode: Mode, *, mixed: bool) -> None:
    if not media:
        found = Counter(extension_of(name) or "no extension" for name in names)
        listed = ", ".join(f"{count} x {extension}" for extension, count in sorted(found.items()))
        raise DatasetError(
            f"The archive holds no media that {mode.name} takes, which is {mode.files}. "
            f"Found: {listed or 'nothing, it is empty'}."
        )
    counts = Counter(kind_of(name) for name in media)
    images, videos = counts[MediaKind.IMAGE], counts[MediaKind.VIDEO]
    if images and MediaKind.IMAGE not in mode.media:
        held = f"{images} images and {videos} videos" if videos else f"images only ({images})"
        raise DatasetError(
            f"The archive holds {held}, and {mode.name} trains on videos only. "
            + ("Take the images out." if videos else "Train t2v on them, or give videos.")
        )
    if images and videos and not mixed:
        raise DatasetError(
            f"The archive holds {images} images and {videos} videos; a run takes one of the two. "
            "Make one archive of each, take the fewer out, or set data.mixed: true to train on both, silently."
        )


def _claim(claims: Iterable[tuple[Place, str]]) -> dict[Place, str]:
    taken: dict[Place, str] = {}
    for place, name in claims:
        if place in taken:
            raise DatasetError(
                f"{taken[place]!r} and {name!r} claim the same place in one example. Rename one, or take it out."
            )
        taken[place] = name
    return taken


def _wrapper_of(names: Collection[str]) -> str:
    """Give the one folder that everything lies in, with its slash; empty if there is none."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if top else ""


def _is_caption(name: str) -> bool:
    """Say whether a text was meant to be the caption of some media."""
    return extension_of(name) == CAPTION and PurePosixPath(name).stem.lower() not in NOTES


def _reason(name: str, mode: Mode) -> str:
    if _is_caption(name):
        return "is a caption without media: no video or image of the same name lies beside it"
    what = f"{extension_of(name)} files are" if extension_of(name) else "a file without an extension is"
    return f"{what} not used by {mode.name}, which takes {mode.files}"
