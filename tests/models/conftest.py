"""The miniature as this room uses it: opened, or copied to be damaged."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch import nn

from ltx_trainer.models import ModelFacts, read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature itself: to be read, never changed."""
    folder = tmp_path_factory.mktemp("models") / "miniature"
    write_miniature("ltx-2.3", folder)
    return folder


@pytest.fixture
def own_miniature(miniature_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(miniature_folder, tmp_path / "miniature"))


@pytest.fixture(scope="session")
def facts(miniature_folder: Path) -> ModelFacts:
    return read_model(miniature_folder, "ltx-2.3")


@pytest.fixture(scope="session")
def family(facts: ModelFacts) -> Family:
    return open_family(facts)


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
