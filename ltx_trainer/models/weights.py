"""Weights from files to a device and off it again, refused unless every one of them has its place."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from ltx_trainer.errors import ModelError

Diffusers = TypeVar("Diffusers", bound=ModelMixin)
Transformers = TypeVar("Transformers", bound=PreTrainedModel)
Module = TypeVar("Module", bound=nn.Module)

NAMED_AT_MOST = 4


def load_diffusers(model_class: type[Diffusers], folder: Path, dtype: torch.dtype, **config: object) -> Diffusers:
    """Load a component of diffusers straight to `dtype`, frozen and in evaluation mode.

    Args:
        model_class: Its class.
        folder: Its config and weights.
        dtype: What the weights are kept in.
        config: Replaces values of the config file.

    Raises:
        ModelError: Weights and config do not fit each other.
    """
    return _load(model_class, folder, torch_dtype=dtype, low_cpu_mem_usage=True, **config)


def load_transformers(model_class: type[Transformers], folder: Path, dtype: torch.dtype) -> Transformers:
    """Load a component of transformers as `load_diffusers` does.

    Raises:
        ModelError: Weights and config do not fit each other.
    """
    return _load(model_class, folder, dtype=dtype)


def _load(model_class: Any, folder: Path, **arguments: object) -> Any:
    try:
        model, report = model_class.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **arguments
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder} does not load as {model_class.__name__}: {error}") from error
    _check_report(folder, report)
    return model.requires_grad_(requires_grad=False).eval()


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
    """Give the type to compute a component in: bfloat16 on a GPU, that of its weights on a CPU."""
    if device.type != "cpu":
        return torch.bfloat16
    with safe_open(min(folder.glob("*.safetensors")), framework="pt") as weights:
        return weights.get_tensor(min(weights.keys())).dtype


def read_weight(folder: Path, name: str) -> Tensor:
    """Read one weight as it stands in its file.

    Raises:
        ModelError: No file of the folder holds it.
    """
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            if name in weights.keys():  # noqa: SIM118 - not a mapping
                return weights.get_tensor(name)
    raise ModelError(f"{folder} holds no weight {name}. Fetch or convert the model again.")


@contextmanager
def placed(model: Module, device: torch.device) -> Iterator[Module]:
    """Keep a model on a device for the length of the `with`, then drop its weights, whoever still refers to it."""
    try:
        yield model.to(device)
    finally:
        model.to("meta")
        if device.type == "cuda":
            torch.cuda.empty_cache()
