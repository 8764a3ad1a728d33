"""Safetensors as bytes: equal content gives equal bytes."""

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

LENGTH_BYTES = 8
ALIGNMENT = 8


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Write tensors as a safetensors file.

    The library writes the keys of the metadata in an order that differs from one process to the next; here they are
    sorted.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata or {}))
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(content[LENGTH_BYTES:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    written += b" " * (-len(written) % ALIGNMENT)
    return len(written).to_bytes(LENGTH_BYTES, "little") + written + content[end:]
