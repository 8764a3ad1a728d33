"""The room's two verbs: is the archive one for the mode, and what is in it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ltx_trainer.artifacts import Example, Manifest, MediaKind, Range, SourceFile
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import Archive
from ltx_trainer.ingest.captions import read_caption
from ltx_trainer.ingest.content import kind_by_content
from ltx_trainer.ingest.extraction import extract_media
from ltx_trainer.ingest.folders import Folder
from ltx_trainer.ingest.layout import CAPTION, MAX_TOLD, Group, check_kinds, extension_of, find_groups
from ltx_trainer.ingest.opening import open_archive
from ltx_trainer.ingest.ranges import read_ranges
from ltx_trainer.modes import KINDS, Mode

logger = logging.getLogger(__name__)

ADVISED_EXAMPLES = 10
"""Fewer are seldom enough to learn from. Source: the pages of the hosted trainers."""


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
        _read_texts(archive, find_groups(archive.members, mode, mixed=mixed).groups, needs_caption=needs_caption)


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
        texts = _read_texts(archive, layout.groups, needs_caption=needs_caption)
        names = [name for group in layout.groups for name in group.media.values()]
        files = _files_of(archive, names, cache)
    kinds = {name: KINDS.get(extension_of(name)) or kind_by_content(files[name].path) for name in names}
    check_kinds(kinds, mode, mixed=mixed)
    # What cannot be read is left out as a video.
    sources = {
        name: SourceFile(name, file.path, file.sha256, kinds[name] or MediaKind.VIDEO) for name, file in files.items()
    }
    if len(layout.groups) < ADVISED_EXAMPLES:
        logger.warning("%s holds %d examples; at least %d are advised.", path, len(layout.groups), ADVISED_EXAMPLES)
    examples = (
        Example(
            name=group.name,
            files={role: sources[name] for role, name in group.media.items()},
            caption=texts[group.name].caption,
            ranges=texts[group.name].ranges,
        )
        for group in layout.groups
    )
    return Manifest(tuple(examples), layout.left_out)


@dataclass(frozen=True)
class _Texts:
    """What the texts of an example say.

    Attributes:
        caption: As in `Example`.
        ranges: As in `Example`.
    """

    caption: str | None
    ranges: tuple[Range, ...]


def _read_texts(archive: Archive, groups: Sequence[Group], *, needs_caption: bool) -> Mapping[str, _Texts]:
    """Read the texts of each group by its name, in the order in which they lie in the archive."""
    captions: dict[str | None, str | None] = {group.caption: None for group in groups}
    ranges: dict[str | None, tuple[Range, ...]] = {group.ranges: () for group in groups}
    for name in archive.in_order([name for name in (*captions, *ranges) if name is not None]):
        if name in captions:
            captions[name] = read_caption(archive, name)
        else:
            ranges[name] = read_ranges(archive, name)
    texts = {group.name: _Texts(captions[group.caption], ranges[group.ranges]) for group in groups}
    if needs_caption:
        _check_captions(texts)
    return texts


def _check_captions(texts: Mapping[str, _Texts]) -> None:
    silent = [name for name, text in texts.items() if text.caption is None]
    if silent:
        more = f" and {len(silent) - MAX_TOLD} more" if len(silent) > MAX_TOLD else ""
        raise DatasetError(
            f"{', '.join(silent[:MAX_TOLD])}{more}: no caption, which this mode needs of every example where there is "
            f"no trigger phrase. Write one to {PurePosixPath(silent[0]).name}{CAPTION} and so on, or set "
            "input.trigger_phrase."
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
