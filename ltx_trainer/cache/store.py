"""Tensors on disk by key. A file is whole or absent."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ltx_trainer.tensorfile import write_tensors


class TensorStore:
    """A folder of safetensors files, each named by its key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.num_written = 0

    def path(self, kind: str, key: str) -> Path:
        """Say where the tensors of a key lie or will lie."""
        return self._folder / kind / key[:2] / f"{key}.safetensors"

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors whole.

        Raises:
            OutOfResources: The disk is full.
        """
        write_tensors(path, tensors)
        self.num_written += 1
