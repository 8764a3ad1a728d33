"""Tensor files: read by the library, equal for equal content, and refused when damaged."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ltx_trainer.errors import CacheError
from ltx_trainer.tensorfile import read_tensors, tensor_bytes, tensors_digest, write_tensors

METADATA = {"step": "100", "identity": "größer", "a": "b"}


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    values = torch.tensor([[0.0, 1.5, -2.0], [3.25, 1.0, 0.0]])
    dtypes = (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.bool,
    )
    return {
        **{str(dtype): values.to(dtype) for dtype in dtypes},
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.empty(0, 3),
        "number": torch.tensor(7.0),
        "apart": values.t(),
        "trained": torch.ones(2, requires_grad=True),
    }


def test_the_library_reads_what_was_written(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a/tensors.safetensors"

    write_tensors(path, tensors, METADATA)

    torch.testing.assert_close(load_file(path), {name: tensor.detach() for name, tensor in tensors.items()})
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == METADATA
    assert list(path.parent.iterdir()) == [path]


def test_tensors_lie_in_the_librarys_order(tensors: dict[str, Tensor]) -> None:
    floats = {name: tensor.detach().contiguous() for name, tensor in tensors.items() if tensor.dtype == torch.float32}

    assert tensor_bytes(floats)[-100:] == save(floats)[-100:]


def test_what_is_read_is_what_was_written(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    write_tensors(tmp_path / "tensors.safetensors", tensors)

    found = read_tensors(tmp_path / "tensors.safetensors")

    torch.testing.assert_close(found, {name: tensor.detach() for name, tensor in tensors.items()})


def test_no_tensors_are_a_file_too(tmp_path: Path) -> None:
    write_tensors(tmp_path / "none.safetensors", {})

    assert load_file(tmp_path / "none.safetensors") == {}


WRITE = """
import sys
from pathlib import Path
import torch
from ltx_trainer.tensorfile import write_tensors
metadata = {name: name for name in "one two three four five six".split()}
write_tensors(Path(sys.argv[1]), {"b": torch.ones(2), "a": torch.zeros(3)}, metadata)
"""


def test_two_processes_write_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]

    for path in paths:
        subprocess.run([sys.executable, "-c", WRITE, path], check=True)

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_digest_is_that_of_the_file(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    write_tensors(tmp_path / "tensors.safetensors", tensors)

    content = (tmp_path / "tensors.safetensors").read_bytes()

    assert tensors_digest(tensors) == hashlib.sha256(content).hexdigest()
    assert tensor_bytes(tensors) == content


def test_the_digest_follows_the_content_and_not_the_order() -> None:
    one, other = torch.zeros(2), torch.ones(2)
    digest = tensors_digest({"a": one, "b": other})

    assert digest == tensors_digest({"b": other, "a": one})
    assert digest != tensors_digest({"a": other, "b": one})
    assert digest != tensors_digest({"a": one, "c": other})
    assert digest != tensors_digest({"a": one, "b": other[None]})
    assert digest != tensors_digest({"a": one, "b": other.view(torch.int32)})


@pytest.mark.parametrize("left", [0, 4, 50, -1])
def test_a_file_cut_short_is_refused_by_its_name(tensors: dict[str, Tensor], tmp_path: Path, left: int) -> None:
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(tensor_bytes(tensors)[:left])

    with pytest.raises(CacheError, match=r"tensors\.safetensors is damaged: .* Remove it and run again"):
        read_tensors(path)


def test_zeros_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zeros.safetensors").write_bytes(bytes(1000))

    with pytest.raises(CacheError, match="is damaged"):
        read_tensors(tmp_path / "zeros.safetensors")


def test_a_file_that_is_gone_is_computed_by_the_next_run(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"is not there any more\. Run again"):
        read_tensors(tmp_path / "gone.safetensors")
