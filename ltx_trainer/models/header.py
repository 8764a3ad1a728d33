"""What a safetensors file says of itself in its first bytes: metadata, and the tensors that it holds."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError

Entry = Mapping[str, Any]
"""One tensor: `dtype`, `shape` and `data_offsets`."""

Header = tuple[Mapping[str, str], Mapping[str, Entry]]

LENGTH_BYTES = 8


def read_header(path: Path) -> Header:
    """Read a header without loading a tensor, and check that the file is as long as it says.

    Args:
        path: A safetensors file.

    Returns:
        Its metadata, empty if it has none, and its tensors by name.

    Raises:
        ModelError: The file is not there, cannot be read, is cut short, or is no safetensors file.
    """
    content, start, size = _read_start(path)
    try:
        entries = json.loads(content)
        metadata = entries.pop("__metadata__", None) or {}
        promised = start + max((_end(entry) for entry in entries.values()), default=0)
        metadata = {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged(path) from error
    if promised != size:
        raise ModelError(f"{path} has {size} bytes where its header promises {promised}. Fetch it again.")
    return metadata, entries


def _read_start(path: Path) -> tuple[bytes, int, int]:
    """Give the header as it stands, where the tensors start, and the length of the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = _length(file.read(LENGTH_BYTES), path)
            if LENGTH_BYTES + length > size:
                raise _damaged(path)
            return file.read(length), LENGTH_BYTES + length, size
    except FileNotFoundError as error:
        raise ModelError(f"{path} is not there. Check the path, or fetch the file.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}. Make it readable, or fetch it again.") from error


def _length(start: bytes, path: Path) -> int:
    if len(start) < LENGTH_BYTES:
        raise _damaged(path)
    return struct.unpack("<Q", start)[0]


def _end(entry: Entry) -> int:
    """Give where a tensor ends; an entry that lacks something is damage too."""
    if not isinstance(entry["dtype"], str) or not all(isinstance(size, int) for size in entry["shape"]):
        raise TypeError(entry)
    return int(entry["data_offsets"][1])


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} is not a safetensors file, or its header is damaged. Fetch it again.")
