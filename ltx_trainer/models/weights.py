"""Weights from files to a device and off it again, refused unless every one of them has its place."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from ltx_trainer.errors import ModelError, some_of
from ltx_trainer.models.component import Component, Weight

Diffusers = TypeVar("Diffusers", bound=ModelMixin)
Transformers = TypeVar("Transformers", bound=PreTrainedModel)
Module = TypeVar("Module", bound=nn.Module)

NAMED_AT_MOST = 4

COMPUTED_IN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights that a CPU computes in, by their names in a file."""

FLOATING = re.compile(r"B?F\d.*")
"""Names of types in a file that are made of floating-point numbers."""

NO_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
"""What PyTorch and the system say, in errors that are not MemoryError, when memory ran out."""


def load_component(
    model_class: type[Diffusers], component: Component, dtype: torch.dtype, device: torch.device, **config: object
) -> Diffusers:
    """Load a component of diffusers straight to `device` in `dtype`, frozen and in evaluation mode.

    Every tensor goes from its file to its place by itself, so that there is never a second copy of the model.

    Args:
        model_class: Its class.
        component: Its config, and where its weights are.
        dtype: What floating-point weights are kept in. What the class keeps in float32 stays so.
        device: Where they are kept.
        config: Replaces values of the component's config.

    Raises:
        ModelError: Weights and config do not fit each other, or a file is damaged.
        MemoryError: Memory ran out, of the computer or of the device.
    """
    model = _build_empty(model_class, component, config)
    wanted = model.state_dict()
    _check_fit(model_class, wanted, component)
    dtypes = {name: _kept_in(model_class, name, dtype) for name in wanted}
    with load_errors(component.origin, model_class):
        # Assigned, not copied; the tensors are the model's from here on.
        model.load_state_dict(dict(_read_all(component, dtypes, device)), strict=False, assign=True)
        _move_buffers(model, component, dtype, device)
    _check_filled(model, component)
    return model.requires_grad_(requires_grad=False).eval()


def check_component(model_class: type[ModelMixin], component: Component) -> None:
    """Hold the headers of a component's files to its class, without reading a weight.

    Raises:
        ModelError: Tensors are missing, left over or of another shape.
    """
    _check_fit(model_class, _build_empty(model_class, component, {}).state_dict(), component)


def load_transformers(
    model_class: type[Transformers], folder: Path, dtype: torch.dtype, device: torch.device, **options: object
) -> Transformers:
    """Load a component of transformers as `load_component` does, from a folder that the library reads itself.

    Args:
        model_class: Its class.
        folder: Its config and weights.
        dtype: What floating-point weights are kept in.
        device: Where they are kept.
        options: More arguments of the library's loader.

    Raises:
        ModelError: Weights and config do not fit each other.
        MemoryError: Memory ran out, of the computer or of the device.
    """
    library: Any = model_class
    with load_errors(str(folder), model_class):
        model, report = library.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=dtype, device_map={"": device}, **options
        )
    _check_report(str(folder), report)
    return model.requires_grad_(requires_grad=False).eval()


def _build_empty(model_class: type[Diffusers], component: Component, config: Mapping[str, object]) -> Diffusers:
    """Build a component without memory for its parameters. Buffers are real, as no file holds some of them."""
    library: Any = model_class
    with load_errors(component.origin, model_class), init_empty_weights(include_buffers=False):
        model = library.from_config({**component.config, **config})
    # Before the weights come: only floating-point parameters could be thawed.
    return model.requires_grad_(requires_grad=False)


@contextmanager
def load_errors(origin: str, model_class: type) -> Iterator[None]:
    """Tell lack of memory from weights that do not load."""
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        _pass_on_lack_of_memory(error)
        raise ModelError(f"{origin} does not load as {model_class.__name__}: {error}") from error


def _pass_on_lack_of_memory(error: Exception) -> None:
    """Raise MemoryError if that is what an error comes from; the libraries wrap one error in another."""
    cause: BaseException | None = error
    while cause is not None:
        told = any(text in str(cause) for text in NO_MEMORY)
        if told or isinstance(cause, MemoryError | torch.OutOfMemoryError):
            raise MemoryError(str(cause)) from error
        cause = cause.__cause__ or cause.__context__


def _check_fit(model_class: type[ModelMixin], expected: Mapping[str, Tensor], component: Component) -> None:
    """Hold the tensors in the files to those of the class, before any is read."""
    found = component.weights
    ignored = model_class._keys_to_ignore_on_load_unexpected or ()  # noqa: SLF001 - declared for loaders
    report = {
        "missing_keys": expected.keys() - found.keys(),
        "unexpected_keys": [
            key for key in found.keys() - expected.keys() if not any(re.search(text, key) for text in ignored)
        ],
        "mismatched_keys": [key for key in expected.keys() & found.keys() if not _fits(expected[key], found[key])],
    }
    _check_report(component.origin, report)


def _fits(tensor: Tensor, weight: Weight) -> bool:
    is_floating = FLOATING.fullmatch(weight.dtype) is not None
    return tuple(tensor.shape) == weight.shape and tensor.is_floating_point() == is_floating


def _check_report(origin: str, report: Mapping[str, Collection[Any]]) -> None:
    """Refuse what the libraries only warn of: a weight left random, or one left unread."""
    wrong = {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if wrong:
        found = "; ".join(
            f"{len(keys)} {kind.replace('_', ' ')} ({some_of(keys, NAMED_AT_MOST)})" for kind, keys in wrong.items()
        )
        raise ModelError(f"the weights in {origin} do not fit its config: {found}. Fetch or convert the model again.")


def _kept_in(model_class: type[ModelMixin], name: str, dtype: torch.dtype) -> torch.dtype:
    """Give the type that a weight is kept in: a class may want some in float32 when the rest is in half precision."""
    steps = model_class._keep_in_fp32_modules or ()  # noqa: SLF001 - declared for loaders
    return torch.float32 if dtype.itemsize < torch.float32.itemsize and {*name.split(".")} & {*steps} else dtype


def _read_all(
    component: Component, dtypes: Mapping[str, torch.dtype], device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Read each tensor once, file by file, and give it in the type that it is kept in."""
    for file, names in _by_file(component, dtypes).items():
        with safe_open(file, framework="pt", device=_name_of(device)) as weights:
            for name in names:
                yield name, _own(weights.get_tensor(component.weights[name].key), dtypes[name])


def _by_file(component: Component, wanted: Iterable[str]) -> dict[Path, list[str]]:
    names: dict[Path, list[str]] = {}
    for name in wanted:
        names.setdefault(component.weights[name].file, []).append(name)
    return names


def _name_of(device: torch.device) -> str:
    """Name a device as files are read to it: the CPU has no number, and a GPU without one is the current one."""
    return "cpu" if device.type == "cpu" else str(torch.empty(0, device=device).device)


def _own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Give a tensor a type if it is floating, and on a CPU memory of its own, aligned as torch aligns it."""
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.to(wanted, copy=tensor.device.type == "cpu")


def _move_buffers(model: nn.Module, component: Component, dtype: torch.dtype, device: torch.device) -> None:
    """Bring the buffers that the class computes itself to where the weights are."""
    for name, buffer in model.named_buffers():
        if name not in component.weights:
            buffer.data = buffer.to(device, dtype if buffer.is_floating_point() else buffer.dtype)


def _check_filled(model: nn.Module, component: Component) -> None:
    """Make sure that no tensor of the model was left without values."""
    tensors: Iterable[tuple[str, Tensor]] = (*model.named_parameters(), *model.named_buffers())
    _check_report(component.origin, {"unfilled_keys": [name for name, tensor in tensors if tensor.is_meta]})


def working_dtype(component: Component, device: torch.device) -> torch.dtype:
    """Give the type to compute a component in: bfloat16 on a GPU, that of most of its weights on a CPU."""
    if device.type != "cpu":
        return torch.bfloat16
    num_weights = Counter({torch.float32: 0})
    for weight in component.weights.values():
        if weight.dtype in COMPUTED_IN:
            num_weights[COMPUTED_IN[weight.dtype]] += prod(weight.shape)
    return max(num_weights, key=num_weights.__getitem__)


def read_weight(component: Component, name: str) -> Tensor:
    """Read one weight as it stands in its file.

    Raises:
        ModelError: The component has no such weight, or its file is damaged.
    """
    if name not in component.weights:
        raise ModelError(f"{component.origin} holds no weight {name}. Fetch or convert the model again.")
    weight = component.weights[name]
    try:
        with safe_open(weight.file, framework="pt") as weights:
            return weights.get_tensor(weight.key)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{weight.file} cannot be read: {error}. Fetch it again.") from error


@contextmanager
def placed(model: Module, device: torch.device) -> Iterator[Module]:
    """Keep a model on a device for the length of the `with`, then drop its weights, whoever still refers to it."""
    try:
        yield model.to(device)
    finally:
        model.to("meta")
        if device.type == "cuda":
            torch.cuda.empty_cache()
