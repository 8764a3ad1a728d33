"""Captions from tables: one file, or two that go line by line, that speak of many media files by their paths."""

import csv
import io
import json
import posixpath
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import Archive
from ltx_trainer.ingest.captions import plain_caption, read_text

LIST, LINES, CELLS = ".json", ".jsonl", ".csv"
TABLES = frozenset({"dataset.json", "dataset.jsonl", "dataset.csv", "metadata.jsonl", "metadata.csv"})
"""Names of tables, in lower case: Lightricks' trainers write the first three, Hugging Face's imagefolder the others."""

FILE_LISTS = ("videos.txt", "video.txt", "images.txt", "image.txt")
CAPTION_LISTS = ("prompt.txt", "prompts.txt", "captions.txt", "caption.txt")
"""Names of two texts, of files and of captions, that go line by line, as finetrainers and diffusers take them."""

FILE_COLUMNS = ("file_name", "media_path", "video", "video_path", "image", "image_path", "audio", "path", "file")
CAPTION_COLUMNS = ("caption", "text", "prompt")
"""What the columns of a table may be called; of several that a row has, the first counts for its caption."""

RECORD_KEY = "trained_on"
"""What the record that a run leaves holds; it is called like a table."""

DELIMITERS = ",;\t"
MAX_BYTES = 1 << 26
"""Size of a table; a hundred thousand long captions have less."""

WHAT_WORKS = (
    f"A table names a file under {' or '.join(FILE_COLUMNS[:3])} and its caption under {', '.join(CAPTION_COLUMNS)}."
)


@dataclass(frozen=True)
class Table:
    """A table of captions inside an archive.

    Attributes:
        files: Path of the table, or of the list of files and of that of their captions.
    """

    files: tuple[str, ...]

    @property
    def folder(self) -> PurePosixPath:
        """What its paths begin from."""
        return PurePosixPath(self.files[0]).parent


@dataclass(frozen=True)
class Row:
    """What a table says of one media file.

    Attributes:
        where: Table and row, for messages.
        file: Path inside the archive.
        caption: As in `Example`.
    """

    where: str
    file: str
    caption: str | None


def find_tables(names: Collection[str], captions: Collection[str]) -> tuple[Table, ...]:
    """Find the tables of an archive, in the order of their names.

    Args:
        names: Paths inside the archive.
        captions: Those of them that are the captions of one example each, whatever they are called.
    """
    found = [Table((name,)) for name in names if PurePosixPath(name).name.lower() in TABLES]
    lists: dict[PurePosixPath, dict[str, str]] = {}
    for name in sorted(set(names) - set(captions)):
        path = PurePosixPath(name)
        if path.name.lower() in (*FILE_LISTS, *CAPTION_LISTS):
            lists.setdefault(path.parent, {})[path.name.lower()] = name
    for by_name in lists.values():
        files = [by_name[name] for name in FILE_LISTS if name in by_name]
        texts = [by_name[name] for name in CAPTION_LISTS if name in by_name]
        if files and texts:
            found.append(Table((files[0], texts[0])))
    return tuple(sorted(found, key=lambda table: table.files))


def read_table(table: Table, texts: Mapping[str, str]) -> list[Row] | None:
    """Read the rows of a table that name a file; None if it is the record that a run leaves, which is no table.

    Args:
        table: Which one.
        texts: Contents by path.

    Raises:
        DatasetError: It cannot be read as a table.
    """
    name, *captions = table.files
    if captions:
        return list(_paired(table, texts))
    rows = _rows(name, texts[name])
    return None if rows is None else [item for number, row in rows for item in _read_row(table, number, row)]


def table_text(archive: Archive, name: str) -> str:
    """Read the text of a table, or of one of two lists.

    Raises:
        DatasetError: The file is damaged, too large or not UTF-8.
    """
    return read_text(archive, name, what="Table", max_bytes=MAX_BYTES)


def nearest(name: str, names: Collection[str]) -> str:
    """Say which path was probably meant; empty if none comes near."""
    found = get_close_matches(name, names, n=1)
    return f"; {found[0]!r} is there" if found else ""


def _rows(name: str, text: str) -> list[tuple[int, Mapping[str, Any]]] | None:
    """Give the rows with their numbers, from 1, and the names of their columns in lower case."""
    kind = PurePosixPath(name).suffix.lower()
    if kind == CELLS:
        return list(_cells(name, text))
    if kind == LINES:
        lines = enumerate(text.split("\n"), start=1)
        rows = [(number, _json(f"{name!r}, line {number},", line)) for number, line in lines if line.strip()]
    elif not text.strip():
        return []
    else:
        content = _json(f"{name!r}", text)
        if isinstance(content, dict) and RECORD_KEY in content:
            return None
        if not isinstance(content, list):
            raise DatasetError(f"{name!r} is not a list of rows. {WHAT_WORKS} Rename the file if it is no table.")
        rows = list(enumerate(content, start=1))
    return [(number, _columns(name, number, row)) for number, row in rows]


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not JSON: {error}. {WHAT_WORKS}") from error


def _columns(name: str, number: int, row: object) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise DatasetError(f"Row {number} of {name!r} is {json.dumps(row)[:60]}, and no object. {WHAT_WORKS}")
    return {str(key).strip().lower(): value for key, value in row.items()}


def _cells(name: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read comma-separated values, or those that a spreadsheet separates by semicolons or tabs."""
    head = text.lstrip().partition("\n")[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(DELIMITERS, key=head.count), strict=True)
    names: list[str] = []
    try:
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip().lower() for cell in cells]
                continue
            if len(cells) > len(names):
                raise DatasetError(
                    f"Row {rows.line_num} of {name!r} has {len(cells)} cells, and the first row names {len(names)}. "
                    "Put a caption that holds a comma in double quotes."
                )
            yield rows.line_num, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise DatasetError(f"{name!r} is damaged at line {rows.line_num}: {error}. Save it as CSV again.") from error


def _read_row(table: Table, number: int, row: Mapping[str, Any]) -> Iterator[Row]:
    name = table.files[0]
    captions = [row[column] for column in CAPTION_COLUMNS if column in row]
    files = [row[column] for column in FILE_COLUMNS if row.get(column) not in (None, "")]
    if not files or not captions:
        lacking = "caption" if files else "file"
        columns = ", ".join(row) or "nothing"
        raise DatasetError(
            f"Row {number} of {name!r} names no {lacking}; it holds {columns}. {WHAT_WORKS} "
            "Rename the file if it is no table of captions."
        )
    for value in (captions[0], *files):
        if value is not None and not isinstance(value, str):
            raise DatasetError(f"Row {number} of {name!r} holds {json.dumps(value)[:60]} where a text is. {WHAT_WORKS}")
    caption = plain_caption(captions[0] or "")
    yield from (Row(f"{name!r}, row {number}", _placed(table, file), caption) for file in files)


def _paired(table: Table, texts: Mapping[str, str]) -> Iterator[Row]:
    """Pair the lines of two lists. Empty lines at the end count only where the other list has lines."""
    (list_of_files, list_of_captions), (files, captions) = table.files, [_lines(texts[name]) for name in table.files]
    files, told = _without_end(files), _without_end(captions)
    if not len(told) <= len(files) <= len(captions):
        raise DatasetError(
            f"{list_of_files!r} names {len(files)} files, and {list_of_captions!r} holds "
            f"{len(told if len(told) > len(files) else captions)} captions; they go together line by line. "
            "Mend the shorter one; an empty line is no caption."
        )
    for number, (file, caption) in enumerate(zip(files, captions, strict=False), start=1):
        if file.strip():
            yield Row(f"{list_of_captions!r}, line {number}", _placed(table, file), plain_caption(caption))
        elif caption.strip():
            raise DatasetError(
                f"Line {number} of {list_of_files!r} is empty, and that of {list_of_captions!r} is not. "
                "Name the file, or take the line out of both."
            )


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _without_end(lines: Sequence[str]) -> list[str]:
    """Leave out the empty lines at the end."""
    count = max((number for number, line in enumerate(lines, start=1) if line.strip()), default=0)
    return list(lines[:count])


def _placed(table: Table, file: str) -> str:
    """Give the path inside the archive of a path that begins from the table's folder."""
    return unicodedata.normalize("NFC", posixpath.normpath(table.folder / file.strip().replace("\\", "/")))
