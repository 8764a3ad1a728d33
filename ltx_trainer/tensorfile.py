"""Safetensors files: equal content gives equal bytes, and no more than one tensor is copied at a time."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ltx_trainer.atomic import whole_file
from ltx_trainer.errors import CacheError

ALIGNMENT = 8
LENGTH_BYTES = 8

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, wherever they are, as a safetensors file that is whole or absent.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The file cannot be written there.
    """
    with whole_file(path) as beside, beside.open("wb") as file:
        for chunk in _chunks(tensors, metadata):
            file.write(chunk)


def write_sealed_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, placeholder: str
) -> None:
    """Write tensors as `write_tensors` does, with the SHA-256 of the file in its own metadata.

    Args:
        path: The file.
        tensors: Wherever they are.
        metadata: One of its values is the placeholder.
        placeholder: 64 characters, which the digest is taken with and then replaces.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The file cannot be written there.
    """
    digest, chunks = hashlib.sha256(), _chunks(tensors, metadata)
    with whole_file(path) as beside, beside.open("wb") as file:
        head = b"".join(itertools.islice(chunks, 2))
        for chunk in itertools.chain([head], chunks):
            digest.update(chunk)
            file.write(chunk)
        file.seek(head.index(placeholder.encode()))
        file.write(digest.hexdigest().encode())


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Give the bytes of the file that `write_tensors` writes."""
    return b"".join(_chunks(tensors, metadata))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 of the names, types, shapes and values of tensors: that of their file without metadata."""
    digest = hashlib.sha256()
    for chunk in _chunks(tensors):
        digest.update(chunk)
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a tensor file of the cache, onto the CPU.

    Raises:
        CacheError: It is damaged or not there.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CacheError(f"{path} is not there any more. Run again to compute it again.") from error
    except SafetensorError as error:
        raise CacheError(f"{path} is damaged: {error}. Remove it and run again.") from error


def _chunks(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """Give a file piece by piece: the length of the header, the header, then each tensor."""
    # The widest types first, then by name, as the library does, so that every tensor is aligned.
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))
    header = _header(ordered, metadata)
    yield len(header).to_bytes(LENGTH_BYTES, "little")
    yield header
    for tensor in ordered.values():
        yield _content(tensor)


def _header(ordered: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    bounds = pairwise(accumulate((tensor.nbytes for tensor in ordered.values()), initial=0))
    for (name, tensor), (start, end) in zip(ordered.items(), bounds, strict=True):
        dtype = DTYPE_NAMES[tensor.dtype]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    written = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return written + b" " * (-len(written) % ALIGNMENT)


def _content(tensor: Tensor) -> memoryview:
    """View the values of a tensor, copied only if they lie elsewhere or apart."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
