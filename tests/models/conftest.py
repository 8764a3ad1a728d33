"""The miniature as this room uses it: opened, or copied to be damaged."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from ltx_trainer.models.family import Family

CPU = torch.device("cpu")


@pytest.fixture
def load_transformer() -> Iterator[Callable[..., nn.Module]]:
    """Load a transformer of a family and keep it for the length of a test."""
    with ExitStack() as loaded:

        def load(
            family: Family, dtype: torch.dtype = torch.float32, *, gradient_checkpointing: bool = False
        ) -> nn.Module:
            return loaded.enter_context(family.transformer(CPU, dtype, gradient_checkpointing=gradient_checkpointing))

        yield load


@pytest.fixture
def transformer(family: Family, load_transformer: Callable[..., nn.Module]) -> nn.Module:
    return load_transformer(family)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)
