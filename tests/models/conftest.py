"""The miniature as this room uses it: opened, or copied to be damaged."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch import nn

from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import write_miniature

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


@pytest.fixture(scope="session")
def ltx_video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature of LTX-Video with random weights: to be read, never changed."""
    folder = tmp_path_factory.mktemp("ltx-video") / "miniature"
    write_miniature("ltx-video-random", folder)
    return folder


@pytest.fixture(scope="session")
def ltx_video(ltx_video_folder: Path) -> Family:
    return open_family(read_model(ltx_video_folder, "ltx-video"))
