"""Weights from files to a device and off it again, refused unless every one of them has its place."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from ltx_trainer.errors import ModelError
from ltx_trainer.models.folder import weight_headers

Diffusers = TypeVar("Diffusers", bound=ModelMixin)
Transformers = TypeVar("Transformers", bound=PreTrainedModel)
Module = TypeVar("Module", bound=nn.Module)

NAMED_AT_MOST = 4

COMPUTED_IN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights that a CPU computes in, by their names in a file."""

NO_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
"""What PyTorch and the system say, in errors that are not MemoryError, when memory ran out."""


def load_diffusers(model_class: type[Diffusers], folder: Path, dtype: torch.dtype, **config: object) -> Diffusers:
    """Load a component of diffusers straight to `dtype`, frozen and in evaluation mode.

    Args:
        model_class: Its class.
        folder: Its config and weights.
        dtype: What the weights are kept in.
        config: Replaces values of the config file.

    Raises:
        ModelError: Weights and config do not fit each other.
        MemoryError: Memory ran out, of the computer or of the device.
    """
    return _load(model_class, folder, torch_dtype=dtype, low_cpu_mem_usage=True, **config)


def load_transformers(model_class: type[Transformers], folder: Path, dtype: torch.dtype) -> Transformers:
    """Load a component of transformers as `load_diffusers` does.

    Raises:
        ModelError: Weights and config do not fit each other.
        MemoryError: Memory ran out, of the computer or of the device.
    """
    return _load(model_class, folder, dtype=dtype)


def _load(model_class: Any, folder: Path, **arguments: object) -> Any:
    try:
        model, report = model_class.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **arguments
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        _pass_on_lack_of_memory(error)
        raise ModelError(f"{folder} does not load as {model_class.__name__}: {error}") from error
    _check_report(folder, report)
    return model.requires_grad_(requires_grad=False).eval()


def _pass_on_lack_of_memory(error: Exception) -> None:
    """Raise MemoryError if that is what an error comes from; the libraries wrap one error in another."""
    cause: BaseException | None = error
    while cause is not None:
        told = any(text in str(cause) for text in NO_MEMORY)
        if told or isinstance(cause, MemoryError | torch.OutOfMemoryError):
            raise MemoryError(str(cause)) from error
        cause = cause.__cause__ or cause.__context__


def _check_report(folder: Path, report: Mapping[str, Collection[Any]]) -> None:
    """Refuse what the libraries only warn of: a weight left random, or one left unread."""
    wrong = {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if wrong:
        found = "; ".join(f"{len(keys)} {kind.replace('_', ' ')} ({_some(keys)})" for kind, keys in wrong.items())
        raise ModelError(f"the weights in {folder} do not fit its config: {found}. Fetch or convert the model again.")


def _some(keys: list[str]) -> str:
    more = ", ..." if len(keys) > NAMED_AT_MOST else ""
    return ", ".join(keys[:NAMED_AT_MOST]) + more


def working_dtype(folder: Path, device: torch.device) -> torch.dtype:
    """Give the type to compute a component in: bfloat16 on a GPU, that of most of its weights on a CPU.

    Raises:
        ModelError: A weight file is missing or damaged.
    """
    if device.type != "cpu":
        return torch.bfloat16
    num_weights = Counter({torch.float32: 0})
    for _, header in weight_headers(folder):
        for entry in header.values():
            if entry["dtype"] in COMPUTED_IN:
                num_weights[COMPUTED_IN[entry["dtype"]]] += prod(entry["shape"])
    return max(num_weights, key=num_weights.__getitem__)


def read_weight(folder: Path, name: str) -> Tensor:
    """Read one weight as it stands in its file.

    Raises:
        ModelError: No file of the folder holds it, or the one that does is damaged.
    """
    for path, header in weight_headers(folder):
        if name in header:
            return _read_tensor(path, name)
    raise ModelError(f"{folder} holds no weight {name}. Fetch or convert the model again.")


def _read_tensor(path: Path, name: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as weights:
            return weights.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Fetch it again.") from error


@contextmanager
def placed(model: Module, device: torch.device) -> Iterator[Module]:
    """Keep a model on a device for the length of the `with`, then drop its weights, whoever still refers to it."""
    try:
        yield model.to(device)
    finally:
        model.to("meta")
        if device.type == "cuda":
            torch.cuda.empty_cache()
