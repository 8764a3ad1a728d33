"""Which file plays which role: paths inside an archive in, examples out."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TypeVar

from ltx_trainer.artifacts import LeftOut, MediaKind, Role
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.tables import Table, find_tables
from ltx_trainer.modes import IMAGES, KINDS, Mode, Part

CAPTION, RANGES = ".txt", ".json"

ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"})

NOTES = frozenset({"license", "licence", "notice", "readme"})
"""Names of texts that speak of a whole archive, and are captions only beside media of the same name."""

REFERENCE_SUFFIXES = ("_ref", "_reference")
"""What the name of a reference may end with where its target has the bare name."""

REFERENCES = frozenset({Role.REFERENCE, Role.REFERENCE_SOUND})

MAX_TOLD = 5
"""Files that a message names."""

_PIECE = re.compile(
    r"(?P<base>.*?[^/])(?P<piece>(#scene-\d+)(#window-\d+)?|#window-\d+|#part-\d+)(?P<extension>\.\w+)?", re.DOTALL
)
"""The path of a clip where a file gives several: `x#scene-002`, with or without an extension."""

Place = TypeVar("Place")
Match = tuple[str, Part]
"""The path of an example, without suffix and extension, and which of its files one is."""


@dataclass(frozen=True)
class Group:
    """The paths inside the archive that make one example.

    Attributes:
        name: Of the example.
        base: What the paths of its files begin with.
        media: One path for each role whose file is media.
        caption: Path of the caption; None without one.
        ranges: Path of the seconds that are generated; None in modes without.
        pieces: Paths of the captions of single scenes, windows and parts, by what their names add: `#scene-002`.
    """

    name: str
    base: str
    media: Mapping[Role, str]
    caption: str | None
    ranges: str | None
    pieces: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """All examples, the tables that speak of them, and the files that are neither, each in the order of their names."""

    groups: tuple[Group, ...]
    tables: tuple[Table, ...]
    left_out: tuple[LeftOut, ...]


def find_groups(names: Collection[str], mode: Mode, *, mixed: bool) -> Layout:
    """Sort the files of an archive into examples.

    The files of an example lie in one folder and go by one name, with a suffix each where the mode has several.

    Args:
        names: Paths inside the archive, `/` between folders.
        mode: Says which files make an example.
        mixed: Take images and videos together.

    Raises:
        DatasetError: There is no media that the mode takes or no whole example, there are images where the mode takes
            videos only, or images and videos that may not be mixed, or two files claim one place.
    """
    matches = _match(names, mode)
    kinds = {name: KINDS.get(extension_of(name)) for name in names}
    _check_images(kinds, mode)
    _check_media(names, matches, mode)
    _check_mixed(kinds, matches, mixed=mixed)
    examples: dict[str, dict[Role, str]] = defaultdict(dict)
    for (base, role), name in _claim(((base, part.role), name) for name, (base, part) in matches.items()).items():
        examples[base][role] = name
    captions = _claim((base_of(name), name) for name in names if extension_of(name) == CAPTION)
    pieces = _pieces_of(captions, examples)
    wrapper = _wrapper_of(names)
    lacking = {base: lack for base, files in examples.items() if (lack := _lack(base, files, mode))}
    groups = [
        _group(base, wrapper, files, captions.get(base), pieces.get(base, {}))
        for base, files in examples.items()
        if base not in lacking
    ]
    used = {
        name
        for group in groups
        for name in (*group.media.values(), group.caption, group.ranges, *group.pieces.values())
    }
    tables = find_tables(names, [captions[base] for base in examples if base in captions])
    used |= {name for table in tables for name in table.files}
    explain = _Explain(mode, wrapper, matches, lacking, examples.keys(), captions.keys())
    left_out = tuple(explain(name) for name in sorted(names) if name not in used)
    if not groups:
        told = "".join(f"\n  {item.name}: {item.reason}" for item in left_out[:MAX_TOLD])
        more = f"\n  ... and {len(left_out) - MAX_TOLD} more" if len(left_out) > MAX_TOLD else ""
        raise DatasetError(f"The archive holds no whole example of {mode.name}, which is {mode.files}:{told}{more}")
    return Layout(tuple(sorted(groups, key=lambda group: group.name)), tables, left_out)


def check_kinds(kinds: Mapping[str, MediaKind | None], mode: Mode, *, mixed: bool) -> None:
    """Look again at files that were taken by their names, now that their contents have told what they are.

    Args:
        kinds: By path inside the archive; None of what cannot be read.
        mode: As in `find_groups`, like `mixed`.
        mixed: Take images and videos together.

    Raises:
        DatasetError: There are images where the mode takes videos only, or images and videos that may not be mixed.
    """
    _check_images(kinds, mode)
    _check_mixed(kinds, _match(kinds, mode), mixed=mixed)


def base_of(name: str) -> str:
    """Give a path without its extension."""
    return str(PurePosixPath(name).with_suffix(""))


def split_piece(name: str) -> tuple[str, str] | None:
    """Split the path of a clip of several of one file: `a/x#scene-002.mp4` is `#scene-002` of `a/x.mp4`.

    Returns:
        The path without what names the clip, and that; None of a path that names no such clip.
    """
    found = _PIECE.fullmatch(name)
    return found and (found["base"] + (found["extension"] or ""), found["piece"])


def extension_of(name: str) -> str:
    """Give the extension in lower case, with its dot; empty if there is none."""
    return PurePosixPath(name).suffix.lower()


def _group(base: str, wrapper: str, files: Mapping[Role, str], caption: str | None, pieces: Mapping[str, str]) -> Group:
    media = {role: path for role, path in files.items() if role is not Role.RANGES}
    return Group(base.removeprefix(wrapper), base, media, caption, files.get(Role.RANGES), pieces)


def _pieces_of(captions: Mapping[str, str], examples: Collection[str]) -> Mapping[str, Mapping[str, str]]:
    """Give the captions of scenes, windows and parts by the example that they are of, and by what their names add.

    A caption of media that has such a name of its own is that media's.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for base, name in captions.items():
        split = split_piece(base)
        if split and base not in examples and split[0] in examples:
            found[split[0]][split[1]] = name
    return found


def _match(names: Collection[str], mode: Mode) -> dict[str, Match]:
    """Say which file of which example each file is, of those that are one."""
    matches = {}
    for name in names:
        parts = [part for part in mode.parts if extension_of(name) in part.extensions]
        if found := _by_suffix(name, parts):
            matches[name] = found
    return matches | _aliased(names, mode, matches)


def _by_suffix(name: str, parts: Iterable[Part]) -> Match | None:
    """Give the part whose suffix a name has, the longest if it has several."""
    base = base_of(name)
    for part in sorted(parts, key=lambda part: len(part.suffix), reverse=True):
        end = len(base) - len(part.suffix)
        if base[end:].lower() == part.suffix and len(PurePosixPath(base).name) > len(part.suffix):
            return base[:end], part
    return None


def _aliased(names: Collection[str], mode: Mode, matches: Mapping[str, Match]) -> dict[str, Match]:
    """Take `x_ref` and `x` for `x_start` and `x_end` where there is no `x_end`."""
    target = next(part for part in mode.parts if part.role is Role.TARGET)
    whole = {base for base, part in matches.values() if part is target}
    bare = defaultdict(list)
    for name in names:
        if extension_of(name) in target.extensions:
            bare[base_of(name)].append(name)
    taken: dict[str, Match] = {}
    for alias in _aliases_of(mode):
        for name in names:
            found = _by_suffix(name, [alias]) if extension_of(name) in alias.extensions else None
            if found and found[0] in bare and found[0] not in whole:
                taken[name] = found
                taken |= dict.fromkeys(bare[found[0]], (found[0], target))
    return taken


def _aliases_of(mode: Mode) -> list[Part]:
    return [
        replace(part, suffix=alias) for part in mode.parts if part.role in REFERENCES for alias in REFERENCE_SUFFIXES
    ]


def _check_images(kinds: Mapping[str, MediaKind | None], mode: Mode) -> None:
    """Refuse images in the places of videos."""
    counts = Counter(kinds.values())
    images, videos = counts[MediaKind.IMAGE], counts[MediaKind.VIDEO]
    parts = [part for part in (*mode.parts, *_aliases_of(mode)) if part.takes_videos]
    for name in sorted(kinds):
        found = _by_suffix(name, parts) if kinds[name] is MediaKind.IMAGE else None
        if found is None or found[1].takes_images:
            continue
        if found[1].suffix:
            raise DatasetError(
                f"{name!r} is an image, and the {found[1].role} of an example of {mode.name} is a video "
                f"({_told(found[1])}). Give a video, or take the example out."
            )
        held = f"{images} images and {videos} videos" if videos else f"images only ({images})"
        raise DatasetError(
            f"The archive holds {held}, and {mode.name} trains on videos only; {name!r} is an image. "
            + ("Take the images out." if videos else "Train t2v on them, or give videos.")
        )


def _check_media(names: Collection[str], matches: Mapping[str, Match], mode: Mode) -> None:
    if not matches:
        found = Counter(extension_of(name) or "no extension" for name in names)
        listed = ", ".join(f"{count} x {extension}" for extension, count in sorted(found.items()))
        inner = next((name for name in sorted(names) if extension_of(name) in ARCHIVES), None)
        remedy = f" Unpack {inner!r} and give that: archives in an archive are not opened." if inner else ""
        raise DatasetError(
            f"The archive holds no media that {mode.name} takes, which is {mode.files}. "
            f"Found: {listed or 'nothing, it is empty'}.{remedy}"
        )


def _check_mixed(kinds: Mapping[str, MediaKind | None], matches: Mapping[str, Match], *, mixed: bool) -> None:
    counts = Counter(kinds[name] for name, (_, part) in matches.items() if part.role is Role.TARGET)
    images, videos = counts[MediaKind.IMAGE], counts[MediaKind.VIDEO]
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


def _lack(base: str, files: Mapping[Role, str], mode: Mode) -> str:
    """Say which files an example lacks; empty if it is whole."""
    return ", ".join(_lacking(PurePosixPath(base).name, files, mode))


def _lacking(stem: str, files: Mapping[Role, str], mode: Mode) -> Iterator[str]:
    for part in mode.parts:
        if part.role in files:
            continue
        if part.required:
            yield f"{stem}{part.suffix} ({_told(part)})"
        elif part.role is Role.SOUND and Role.START in files and extension_of(files[Role.START]) in IMAGES:
            yield f"{stem}{part.suffix} ({_told(part)}), as {PurePosixPath(files[Role.START]).name} has no sound"


def _told(part: Part) -> str:
    return "/".join(sorted(part.extensions))


@dataclass(frozen=True)
class _Explain:
    """Says why a file is part of no example.

    Attributes:
        mode: That does not take it.
        wrapper: What all paths begin with.
        matches: What files are.
        lacking: What incomplete examples lack.
        examples: Paths of all examples without suffix and extension, incomplete ones too.
        captions: Paths of all captions, without extension.
    """

    mode: Mode
    wrapper: str
    matches: Mapping[str, Match]
    lacking: Mapping[str, str]
    examples: Collection[str]
    captions: Collection[str]

    def __call__(self, name: str) -> LeftOut:
        if name in self.matches:
            base, part = self.matches[name]
            what = "list of ranges" if part.role is Role.RANGES else part.role.value
            return self._part_of_incomplete(name, base, what)
        if _is_caption(name):
            return self._caption(name)
        if any(extension_of(name) in part.extensions for part in self.mode.parts):
            return self._misnamed(name)
        what = f"{extension_of(name)} files are" if extension_of(name) else "a file without an extension is"
        return LeftOut(name, f"{what} not used by {self.mode.name}, which takes {self.mode.files}")

    def _part_of_incomplete(self, name: str, base: str, what: str) -> LeftOut:
        example = base.removeprefix(self.wrapper)
        return LeftOut(name, f"is the {what} of {example}, which lacks {self.lacking[base]}", is_incomplete=True)

    def _caption(self, name: str) -> LeftOut:
        split = split_piece(base_of(name))
        base = split[0] if split and base_of(name) not in self.examples else base_of(name)
        if base in self.lacking:
            return self._part_of_incomplete(name, base, "caption")
        found = _by_suffix(name, [part for part in (*self.mode.parts, *_aliases_of(self.mode)) if part.suffix])
        if found and found[0] in self.examples:
            stem = PurePosixPath(found[0]).name
            reason = f"is not read, because the caption of {stem} is {stem}{CAPTION}; rename it"
            return LeftOut(name, reason, is_incomplete=found[0] not in self.captions)
        media = "sound" if not self.mode.has_video else "video or image"
        return LeftOut(
            name, f"is a caption without media: no {media} of the same name lies beside it", is_incomplete=True
        )

    def _misnamed(self, name: str) -> LeftOut:
        takes = f"none of the files that {self.mode.name} takes, which is {self.mode.files}"
        found = _by_suffix(name, _aliases_of(self.mode))
        if found:
            stem = PurePosixPath(found[0]).name
            takes = (
                f"taken for the reference of {stem} only beside a bare {stem} and where there is no {stem}_end; "
                f"rename it {stem}_start{extension_of(name)}"
            )
        # Such as a table that speaks of the whole archive.
        is_text = KINDS.get(extension_of(name)) is MediaKind.RANGES
        return LeftOut(name, f"is {takes}", is_incomplete=not is_text)


def _is_caption(name: str) -> bool:
    """Say whether a text was meant to be the caption of some media."""
    return extension_of(name) == CAPTION and PurePosixPath(name).stem.lower() not in NOTES
