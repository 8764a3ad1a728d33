"""What the self-check of a published file refuses."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ltx_trainer.errors import CheckpointError
from ltx_trainer.export import check_lora

DOWN, UP = (f"diffusion_model.transformer_blocks.0.attn1.to_q.lora_{matrix}.weight" for matrix in "AB")


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {DOWN: torch.ones(2, 4), UP: torch.ones(4, 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lora.safetensors"


def test_a_whole_file_passes(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path)

    check_lora(path, tensors.keys())


def test_a_missing_key_is_named(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({DOWN: tensors[DOWN]}, path)

    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 keys and has 0 others \(first: .*lora_B\.weight\)"):
        check_lora(path, tensors.keys())


def test_an_unexpected_key_is_named(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({**tensors, "stray": torch.ones(1)}, path)

    with pytest.raises(CheckpointError, match=r"lacks 0 of 2 keys and has 1 others \(first: stray\)"):
        check_lora(path, tensors.keys())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named(path: Path, tensors: dict[str, Tensor], value: float) -> None:
    tensors[DOWN][1, 2] = value
    save_file(tensors, path)

    with pytest.raises(CheckpointError, match=r"not finite in 1 of 2 tensors \(first: .*lora_A\.weight\)"):
        check_lora(path, tensors.keys())


def test_a_module_that_learnt_nothing_is_named(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({**tensors, UP: torch.zeros(4, 2)}, path)

    with pytest.raises(CheckpointError, match=r"1 modules .* learnt nothing: .*lora_B\.weight is all zero"):
        check_lora(path, tensors.keys())


def test_a_file_cut_short_is_refused(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(CheckpointError, match="cannot be read back"):
        check_lora(path, tensors.keys())


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read back"):
        check_lora(path, [DOWN])
