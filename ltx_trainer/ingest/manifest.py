"""The room's two verbs: is the archive one for the mode, and what is in it."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from ltx_trainer.artifacts import Example, LeftOut, Manifest, MediaKind, PieceCaption, Range, SourceFile
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError, counted
from ltx_trainer.ingest.archive import Archive
from ltx_trainer.ingest.captions import read_caption
from ltx_trainer.ingest.content import kind_by_content
from ltx_trainer.ingest.extraction import extract_media
from ltx_trainer.ingest.folders import Folder
from ltx_trainer.ingest.layout import (
    CAPTION,
    MAX_TOLD,
    Group,
    Layout,
    check_kinds,
    extension_of,
    find_groups,
    split_piece,
)
from ltx_trainer.ingest.opening import open_archive
from ltx_trainer.ingest.ranges import read_ranges
from ltx_trainer.ingest.tables import Row, nearest, read_table, table_text
from ltx_trainer.modes import KINDS, Mode

logger = logging.getLogger(__name__)

ADVISED_EXAMPLES = 10
"""Fewer are seldom enough to learn from. Source: the pages of the hosted trainers."""

SHOWN = 60
"""Characters of a caption that a message shows."""


def check_archive(path: Path, mode: Mode, *, mixed: bool = False, needs_caption: bool = False) -> None:
    """Refuse an archive that cannot be one of the mode's, by its directory and its texts alone.

    Args:
        path: As in `ingest_archive`, like all others.
        mode: Says which files make an example.
        mixed: Take images and videos together.
        needs_caption: Refuse examples without a caption.

    Raises:
        DatasetError: The archive is missing, damaged, dangerous, or not laid out as the mode needs.
    """
    with open_archive(path) as archive:
        _read_texts(archive, find_groups(archive.members, mode, mixed=mixed), needs_caption=needs_caption)


def ingest_archive(
    path: Path,
    mode: Mode,
    cache: Path,
    *,
    mixed: bool = False,
    needs_caption: bool = False,
    ours: Sequence[Path] = (),
) -> Manifest:
    """List the examples of an archive by name, and extract its media unless that was done before.

    The media of a folder stays where it is.

    Args:
        path: A local zip, tar or tar.gz, or a folder.
        mode: Says which files make an example.
        cache: Extracted media lies in `archives` in it, in a folder named by the archive's digest.
        mixed: Take images and videos together.
        needs_caption: Refuse examples without a caption.
        ours: Folders that the run writes to, besides the cache; a folder of training data may hold none.

    Raises:
        DatasetError: The archive is missing, damaged, dangerous, or not laid out as the mode needs, by the names of its
            files or by what is in those of which the names do not tell.
        OutOfResources: The disk is full.
        ConfigError: The cache cannot be written to.
    """
    with open_archive(path, (cache, *ours)) as archive:
        layout = find_groups(archive.members, mode, mixed=mixed)
        texts, unused = _read_texts(archive, layout, needs_caption=needs_caption)
        names = [name for group in layout.groups for name in group.media.values()]
        files = _files_of(archive, names, cache)
    kinds = {name: KINDS.get(extension_of(name)) or kind_by_content(files[name].path) for name in names}
    check_kinds(kinds, mode, mixed=mixed)
    # What cannot be read is left out as a video.
    sources = {
        name: SourceFile(name, file.path, file.sha256, kinds[name] or MediaKind.VIDEO) for name, file in files.items()
    }
    if len(layout.groups) < ADVISED_EXAMPLES:
        found = counted(len(layout.groups), "example")
        logger.warning("%s holds %s; at least %d are advised.", path, found, ADVISED_EXAMPLES)
    examples = (
        Example(
            name=group.name,
            files={role: sources[name] for role, name in group.media.items()},
            caption=texts[group.name].caption,
            ranges=texts[group.name].ranges,
            pieces=texts[group.name].pieces,
        )
        for group in layout.groups
    )
    left_out = sorted([*layout.left_out, *unused], key=lambda item: item.name)
    return Manifest(tuple(examples), tuple(left_out))


@dataclass(frozen=True)
class _Texts:
    """What the texts of an example say.

    Attributes:
        caption: As in `Example`.
        ranges: As in `Example`.
        pieces: As in `Example`.
    """

    caption: str | None
    ranges: tuple[Range, ...]
    pieces: Mapping[str, PieceCaption]


def _read_texts(
    archive: Archive, layout: Layout, *, needs_caption: bool
) -> tuple[Mapping[str, _Texts], Sequence[LeftOut]]:
    """Read the texts of each group by its name, in the order in which they lie in the archive; and what has no use."""
    captions: dict[str | None, str | None] = {
        name: None for group in layout.groups for name in (group.caption, *group.pieces.values())
    }
    ranges: dict[str | None, tuple[Range, ...]] = {group.ranges: () for group in layout.groups}
    tables = {name: "" for table in layout.tables for name in table.files}
    for name in archive.in_order([name for name in (*captions, *ranges, *tables) if name is not None]):
        if name in captions:
            captions[name] = read_caption(archive, name)
        elif name in ranges:
            ranges[name] = read_ranges(archive, name)
        else:
            tables[name] = table_text(archive, name)
    told, unused = _read_tables(layout, tables, archive.members)
    texts = {
        group.name: _Texts(
            _caption_of(group, captions[group.caption], told),
            ranges[group.ranges],
            dict(_piece_captions(group, captions, told)),
        )
        for group in layout.groups
    }
    if needs_caption:
        _check_captions(texts)
    return texts, unused


def _read_tables(
    layout: Layout, texts: Mapping[str, str], names: Collection[str]
) -> tuple[Mapping[str, Sequence[Row]], Sequence[LeftOut]]:
    """Give what tables say of each file by its path, and of each clip by that of its example; and what has no use."""
    bases = {path: group.base for group in layout.groups for path in (group.base, *group.media.values())}
    told: dict[str, list[Row]] = defaultdict(list)
    unused: list[LeftOut] = []
    for table in layout.tables:
        rows = read_table(table, texts)
        if rows is None:
            unused += [LeftOut(name, "is the record of a run, and no table of captions") for name in table.files]
        for row in rows or ():
            if row.file in names:
                told[row.file].append(row)
                continue
            split = split_piece(row.file)
            if split and split[0] in bases:
                told[bases[split[0]] + split[1]].append(row)
                continue
            meant = nearest(row.file, names) if len(unused) < MAX_TOLD else ""
            reason = f"names {row.file!r} ({row.where}), which is not in the archive{meant}"
            unused.append(LeftOut(table.files[0], reason, is_incomplete=True))
    return told, unused


def _caption_of(group: Group, beside: str | None, told: Mapping[str, Sequence[Row]]) -> str | None:
    """Give the one caption of an example, from the file beside it or from a table that names any of its files.

    Raises:
        DatasetError: There are two that differ.
    """
    files = [*group.media.values(), *([group.ranges] if group.ranges else [])]
    said = [(beside, repr(group.caption)), *((row.caption, row.where) for file in files for row in told.get(file, ()))]
    return _one_caption(group.name, said)


def _piece_captions(
    group: Group, captions: Mapping[str | None, str | None], told: Mapping[str, Sequence[Row]]
) -> Iterator[tuple[str, PieceCaption]]:
    """Give the captions of the scenes, windows and parts of an example, from files and tables, by what they are of.

    Raises:
        DatasetError: There are two that differ.
    """
    in_tables = {split[1] for file in told if (split := split_piece(file)) and split[0] == group.base}
    for piece in sorted(group.pieces.keys() | in_tables):
        file = group.pieces.get(piece)
        rows = told.get(group.base + piece, ())
        said = [(captions[file], repr(file)), *((row.caption, row.where) for row in rows)]
        where = repr(file) if file else rows[0].where
        yield piece, PieceCaption(_one_caption(group.name + piece, said), where)


def _one_caption(name: str, said: Iterable[tuple[str | None, str]]) -> str | None:
    """Give what is said, each time with where, if it is one thing.

    Raises:
        DatasetError: There are two captions that differ.
    """
    found = {caption: where for caption, where in said if caption is not None}
    if len(found) > 1:
        both = " and ".join(f"{where} says {_shortened(caption)!r}" for caption, where in islice(found.items(), 2))
        raise DatasetError(f"{name} has captions that differ: {both}. Take one of them out.")
    return next(iter(found), None)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _check_captions(texts: Mapping[str, _Texts]) -> None:
    silent = [name for name, text in texts.items() if text.caption is None]
    if silent:
        more = f" and {len(silent) - MAX_TOLD} more" if len(silent) > MAX_TOLD else ""
        raise DatasetError(
            f"{', '.join(silent[:MAX_TOLD])}{more}: no caption, which this mode needs of every example where there is "
            f"no trigger phrase. Write one to {PurePosixPath(silent[0]).name}{CAPTION} and so on, set "
            "input.trigger_phrase, or let a model write them with captions.auto: true."
        )


@dataclass(frozen=True)
class _File:
    """Where a file of an archive lies, and the digest of its bytes."""

    path: Path
    sha256: str


def _files_of(archive: Archive, names: Sequence[str], cache: Path) -> dict[str, _File]:
    if isinstance(archive, Folder):
        digests = FileDigests(cache / "digests")
        return {name: _file_in_place(archive, name, digests) for name in names}
    place, extracted = extract_media(archive, names, cache / "archives")
    return {name: _File(place / extracted[name].file, extracted[name].sha256) for name in names}


def _file_in_place(folder: Folder, name: str, digests: FileDigests) -> _File:
    path = folder.places[name]
    try:
        return _File(path, digests.of_file(path))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
