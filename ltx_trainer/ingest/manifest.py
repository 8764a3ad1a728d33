"""The room's two verbs: is the archive one for the mode, and what is in it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ltx_trainer.artifacts import Example, Manifest, SourceFile
from ltx_trainer.digests import FileDigests
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import Archive
from ltx_trainer.ingest.captions import read_caption
from ltx_trainer.ingest.extraction import extract_media
from ltx_trainer.ingest.folders import Folder
from ltx_trainer.ingest.layout import Group, find_groups, kind_of
from ltx_trainer.ingest.opening import open_archive
from ltx_trainer.modes import Mode

logger = logging.getLogger(__name__)

ADVISED_EXAMPLES = 10
"""Fewer are seldom enough to learn from. Source: the pages of the hosted trainers."""


def check_archive(path: Path, mode: Mode, *, mixed: bool = False) -> None:
    """Refuse an archive that cannot be one of the mode's, by its directory and its captions alone.

    Raises:
        DatasetError: The archive is missing, damaged, dangerous, or not laid out as the mode needs.
    """
    with open_archive(path) as archive:
        groups = find_groups(archive.members, mode, mixed=mixed).groups
        _read_captions(archive, groups)


def ingest_archive(path: Path, mode: Mode, cache: Path, *, mixed: bool = False, ours: Sequence[Path] = ()) -> Manifest:
    """List the examples of an archive by name, and extract its media unless that was done before.

    The media of a folder stays where it is.

    Args:
        path: A local zip, tar or tar.gz, or a folder.
        mode: Says which files make an example.
        cache: Extracted media lies in `archives` in it, in a folder named by the archive's digest.
        mixed: Take images and videos together.
        ours: Folders that the run writes to, besides the cache; a folder of training data may hold none.

    Raises:
        DatasetError: The archive is missing, damaged, dangerous, or not laid out as the mode needs.
        OutOfResources: The disk is full.
        ConfigError: The cache cannot be written to.
    """
    with open_archive(path, (cache, *ours)) as archive:
        layout = find_groups(archive.members, mode, mixed=mixed)
        captions = _read_captions(archive, layout.groups)
        names = [name for group in layout.groups for name in group.media.values()]
        sources = _sources_of(archive, names, cache)
    if len(layout.groups) < ADVISED_EXAMPLES:
        logger.warning("%s holds %d examples; at least %d are advised.", path, len(layout.groups), ADVISED_EXAMPLES)
    examples = (
        Example(
            name=group.name,
            files={role: sources[name] for role, name in group.media.items()},
            caption=captions[group.name],
        )
        for group in layout.groups
    )
    return Manifest(tuple(examples), layout.left_out)


def _read_captions(archive: Archive, groups: Sequence[Group]) -> Mapping[str, str | None]:
    """Read the caption of each group, in the order in which they lie in the archive."""
    named = [group.caption for group in groups if group.caption is not None]
    read = {name: read_caption(archive, name) for name in archive.in_order(named)}
    return {group.name: None if group.caption is None else read[group.caption] for group in groups}


def _sources_of(archive: Archive, names: Sequence[str], cache: Path) -> dict[str, SourceFile]:
    if isinstance(archive, Folder):
        digests = FileDigests(cache / "digests")
        return {name: _source_in_place(archive, name, digests) for name in names}
    place, extracted = extract_media(archive, names, cache / "archives")
    return {
        name: SourceFile(name, place / extracted[name].file, extracted[name].sha256, kind_of(name)) for name in names
    }


def _source_in_place(folder: Folder, name: str, digests: FileDigests) -> SourceFile:
    path = folder.places[name]
    try:
        digest = digests.of_file(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
    return SourceFile(name, path, digest, kind_of(name))
