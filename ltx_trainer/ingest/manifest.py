"""The room's two verbs: is the archive one for the mode, and what is in it."""

import logging
from collections.abc import Mapping
from pathlib import Path

from ltx_trainer.artifacts import Example, Manifest, SourceFile
from ltx_trainer.ingest.archive import Archive, open_archive
from ltx_trainer.ingest.captions import read_caption
from ltx_trainer.ingest.extraction import Extracted, extract_media
from ltx_trainer.ingest.layout import Group, find_groups, kind_of
from ltx_trainer.modes import Mode

logger = logging.getLogger(__name__)

ADVISED_EXAMPLES = 10
"""Fewer are seldom enough to learn from. Source: the pages of the hosted trainers."""


def check_archive(path: Path, mode: Mode) -> None:
    """Refuse an archive that cannot be one of the mode's, by its directory and its captions alone.

    Raises:
        DatasetError: The archive is missing, damaged, dangerous, or not laid out as the mode needs.
    """
    with open_archive(path) as archive:
        groups = find_groups(archive.members, mode).groups
        _read_captions(archive, groups)


def ingest_archive(path: Path, mode: Mode, folder: Path) -> Manifest:
    """Extract an archive and list its examples by name. What was extracted before is not extracted again.

    Args:
        path: A local zip.
        mode: Says which files make an example.
        folder: Of all archives; each gets a folder in it, named by its digest.

    Raises:
        DatasetError: The archive is missing, damaged, dangerous, or not laid out as the mode needs.
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    with open_archive(path) as archive:
        layout = find_groups(archive.members, mode)
        captions = _read_captions(archive, layout.groups)
        names = [name for group in layout.groups for name in group.media.values()]
        place, extracted = extract_media(archive, names, folder)
    if len(layout.groups) < ADVISED_EXAMPLES:
        logger.warning("%s holds %d examples; at least %d are advised.", path, len(layout.groups), ADVISED_EXAMPLES)
    examples = (
        Example(
            name=group.name,
            files={role: _source_file(name, place, extracted[name]) for role, name in group.media.items()},
            caption=captions[group.name],
        )
        for group in layout.groups
    )
    return Manifest(tuple(examples), layout.left_out)


def _read_captions(archive: Archive, groups: tuple[Group, ...]) -> Mapping[str, str | None]:
    return {group.name: None if group.caption is None else read_caption(archive, group.caption) for group in groups}


def _source_file(name: str, place: Path, item: Extracted) -> SourceFile:
    return SourceFile(name=name, path=place / item.file, sha256=item.sha256, kind=kind_of(name))
