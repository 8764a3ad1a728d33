"""Seconds that are generated, from the JSON beside a sound."""

import json

from ltx_trainer.artifacts import Range
from ltx_trainer.config.ranges import EXAMPLE, parse_ranges
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest.archive import Archive

MAX_BYTES = 1 << 20
"""Size of such a file; ten thousand ranges have a fifth of it."""


def read_ranges(archive: Archive, name: str) -> tuple[Range, ...]:
    """Read the ranges of one example, in the order of time.

    Raises:
        DatasetError: The file is damaged, too large, no JSON, or holds anything but ranges of seconds.
    """
    size = archive.members[name]
    if size > MAX_BYTES:
        raise DatasetError(f"{name!r} has {size} bytes; a list of ranges has at most {MAX_BYTES}.")
    content = b"".join(archive.read(name))
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name!r} is not JSON: {error}. It should hold ranges of seconds: {EXAMPLE}.") from error
    try:
        return parse_ranges(value)
    except ValueError as error:
        raise DatasetError(f"{name!r}: {error}.") from error
