"""Weights that do not fit their config."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    ConfigMixin,
    LTX2VideoTransformer3DModel,
    ModelMixin,
)
from diffusers.configuration_utils import register_to_config
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2VocoderWithBWE
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ltx_trainer.errors import ModelError
from ltx_trainer.models import read_model
from ltx_trainer.models.component import Component
from ltx_trainer.models.family import open_family
from ltx_trainer.models.folder import read_component
from ltx_trainer.models.weights import _own, load_component, read_weight, working_dtype

CPU = torch.device("cpu")
VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"


def damage(file: Path, *, drop: str | None = None, add: str | None = None, reshape: str | None = None) -> None:
    weights = load_file(file)
    if drop:
        del weights[drop]
    if add:
        weights[add] = torch.zeros(2)
    if reshape:
        weights[reshape] = torch.zeros(3, 5)
    save_file(weights, file, metadata={"format": "pt"})


def test_a_tensor_that_is_not_in_the_file_is_refused_not_made_up(
    own_miniature: Path, load_transformer: Callable[..., nn.Module]
) -> None:
    name = "transformer_blocks.1.attn2.to_v.weight"
    damage(own_miniature / "transformer/diffusion_pytorch_model.safetensors", drop=name)

    with pytest.raises(ModelError, match=rf"1 missing keys \({name}\)"):
        load_transformer(open_family(read_model(own_miniature, "ltx-2.3")))


def test_a_tensor_that_has_no_place_is_refused(own_miniature: Path) -> None:
    damage(own_miniature / "vae/diffusion_pytorch_model.safetensors", add="another.weight")
    family = open_family(read_model(own_miniature, "ltx-2.3"))

    with pytest.raises(ModelError, match=r"1 unexpected keys \(another\.weight\)"), family.video_codec(CPU):
        pass


def test_a_tensor_of_another_shape_is_refused(own_miniature: Path, load_transformer: Callable[..., nn.Module]) -> None:
    name = "audio_proj_out.weight"
    damage(own_miniature / "transformer/diffusion_pytorch_model.safetensors", reshape=name)

    with pytest.raises(ModelError, match=rf"1 mismatched keys \({name}\)"):
        load_transformer(open_family(read_model(own_miniature, "ltx-2.3")))


def test_a_language_model_with_a_missing_tensor_is_refused(own_miniature: Path, tmp_path: Path) -> None:
    file = own_miniature / "text_encoder/model.safetensors"
    damage(file, drop=next(name for name in load_file(file) if name.endswith("layers.0.mlp.gate_proj.weight")))
    family = open_family(read_model(own_miniature, "ltx-2.3"))

    with pytest.raises(ModelError, match=r"1 missing keys \(.*gate_proj.weight\)"):
        next(iter(family.encode_prompts(["a red ball"], CPU, scratch=tmp_path)))


def test_a_cpu_computes_in_the_type_of_the_file(own_miniature: Path) -> None:
    folder = own_miniature / "vae"
    assert working_dtype(read_component(folder, "vae"), CPU) == torch.float32

    weights = load_file(folder / VAE_WEIGHTS)
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, folder / VAE_WEIGHTS)

    assert working_dtype(read_component(folder, "vae"), CPU) == torch.bfloat16
    assert working_dtype(read_component(folder, "vae"), torch.device("cuda")) == torch.bfloat16


def split(folder: Path) -> dict[str, torch.Tensor]:
    """Cut a VAE's weights into two shards, all but the first tensor in half precision; give them as they were."""
    weights = load_file(folder / VAE_WEIGHTS)
    first, *others = sorted(weights)
    parts = {"a.safetensors": {first: weights[first]}, "b.safetensors": {n: weights[n].bfloat16() for n in others}}
    (folder / VAE_WEIGHTS).unlink()
    for name, part in parts.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {tensor: name for name, part in parts.items() for tensor in part}}
    (folder / f"{VAE_WEIGHTS}.index.json").write_text(json.dumps(index))
    return weights


def test_shards_are_one_component(own_miniature: Path) -> None:
    weights = split(own_miniature / "vae")
    component = read_component(own_miniature / "vae", "vae")
    first = min(weights)

    assert working_dtype(component, CPU) == torch.bfloat16
    assert torch.equal(read_weight(component, first), weights[first])
    loaded = load_component(AutoencoderKLLTX2Video, component, torch.float32, CPU).state_dict()
    assert torch.equal(loaded[first], weights[first])
    assert torch.equal(loaded[max(weights)], weights[max(weights)].bfloat16().float())


def test_a_file_beside_the_weights_is_not_taken_for_weights(own_miniature: Path) -> None:
    folder = own_miniature / "vae"
    expected = read_weight(read_component(folder, "vae"), "latents_mean")
    save_file({"latents_mean": expected.half() + 1}, folder / "another.safetensors")

    assert torch.equal(read_weight(read_component(folder, "vae"), "latents_mean"), expected)
    assert working_dtype(read_component(folder, "vae"), CPU) == torch.float32


def test_a_weight_that_is_not_there_is_named(miniature_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"vae holds no weight latents_middle\."):
        read_weight(read_component(miniature_folder / "vae", "vae"), "latents_middle")


def test_a_damaged_file_is_refused(own_miniature: Path) -> None:
    file = own_miniature / "vae" / VAE_WEIGHTS
    component = read_component(file.parent, "vae")
    file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(ModelError, match="its header promises"):
        read_component(file.parent, "vae")
    with pytest.raises(ModelError, match="cannot be read"):
        read_weight(component, "latents_mean")
    with pytest.raises(ModelError, match="does not load as AutoencoderKLLTX2Video"):
        load_component(AutoencoderKLLTX2Video, component, torch.float32, CPU)


COMPONENTS = {
    "transformer": LTX2VideoTransformer3DModel,
    "vae": AutoencoderKLLTX2Video,
    "audio_vae": AutoencoderKLLTX2Audio,
    "vocoder": LTX2VocoderWithBWE,
    "connectors": LTX2TextConnectors,
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    # Sound is computed in float32 alone.
    [*((name, torch.float32) for name in COMPONENTS), *((n, torch.bfloat16) for n in ("transformer", "vae"))],
)
def test_a_component_is_loaded_as_the_library_loads_it(miniature_folder: Path, name: str, dtype: torch.dtype) -> None:
    expected = COMPONENTS[name].from_pretrained(miniature_folder / name, torch_dtype=dtype, local_files_only=True)

    found = load_component(COMPONENTS[name], read_component(miniature_folder / name, name), dtype, CPU)

    assert found.dtype == dtype
    for kind in ("named_parameters", "named_buffers"):
        expected_tensors, tensors = dict(getattr(expected, kind)()), dict(getattr(found, kind)())
        assert tensors.keys() == expected_tensors.keys()
        assert all(torch.equal(tensors[key], tensor) for key, tensor in expected_tensors.items())
        assert all(tensors[key].dtype == tensor.dtype for key, tensor in expected_tensors.items())
    assert not any(weight.requires_grad for weight in found.parameters())
    assert not found.training


def test_every_file_is_opened_once_and_every_tensor_read_once(
    own_miniature: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(own_miniature / "vae")
    component = read_component(own_miniature / "vae", "vae")
    opened: list[Path] = []
    read: list[str] = []

    class Counted:
        """Opens a file as the library does, and writes down what is asked of it."""

        def __init__(self, file: Path, **arguments: str) -> None:
            opened.append(file)
            self.file = safe_open(file, framework="pt", device=arguments["device"])

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.__exit__(None, None, None)

        def get_tensor(self, key: str) -> torch.Tensor:
            read.append(key)
            return self.file.get_tensor(key)

    monkeypatch.setattr("ltx_trainer.models.weights.safe_open", Counted)
    load_component(AutoencoderKLLTX2Video, component, torch.float32, CPU)

    assert sorted(path.name for path in opened) == ["a.safetensors", "b.safetensors"]
    assert sorted(read) == sorted(component.weights)


class Wide(ModelMixin, ConfigMixin):
    """Has everything that a class may have."""

    _keep_in_fp32_modules = ("table",)
    _keys_to_ignore_on_load_unexpected: ClassVar = ["^left_over"]

    @register_to_config
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(16)])
        self.table = nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("angles", torch.arange(4.0), persistent=False)


def write_wide(folder: Path) -> Component:
    model = Wide()
    model.get_buffer("steps").copy_(torch.tensor([1, 2, 3]))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"width": 16}))
    save_file(model.state_dict() | {"left_over.weight": torch.zeros(2)}, folder / VAE_WEIGHTS)
    return read_component(folder, "vae")


def test_what_a_class_says_of_its_tensors_is_kept_to(tmp_path: Path) -> None:
    component = write_wide(tmp_path / "wide")

    model = load_component(Wide, component, torch.bfloat16, CPU)

    assert model.layers[0].get_parameter("weight").dtype == torch.bfloat16
    assert torch.equal(model.table.weight, read_weight(component, "table.weight"))
    assert model.table.weight.dtype == torch.float32
    assert model.get_buffer("steps").tolist() == [1, 2, 3]
    assert model.get_buffer("angles").dtype == torch.bfloat16
    assert model.get_buffer("angles").tolist() == [0, 1, 2, 3]


def test_whole_numbers_are_not_taken_for_weights(tmp_path: Path) -> None:
    component = write_wide(tmp_path / "wide")
    weights = load_file(tmp_path / "wide" / VAE_WEIGHTS)
    save_file(weights | {"table.weight": torch.zeros(4, 4, dtype=torch.int8)}, tmp_path / "wide" / VAE_WEIGHTS)

    with pytest.raises(ModelError, match=r"1 mismatched keys \(table\.weight\)"):
        load_component(Wide, read_component(tmp_path / "wide", component.name), torch.float32, CPU)


def test_weights_in_eight_bits_without_scales_are_widened(tmp_path: Path) -> None:
    write_wide(tmp_path / "wide")
    weights = load_file(tmp_path / "wide" / VAE_WEIGHTS)
    save_file(
        weights | {"layers.0.weight": weights["layers.0.weight"].to(torch.float8_e4m3fn)},
        tmp_path / "wide" / VAE_WEIGHTS,
    )

    model = load_component(Wide, read_component(tmp_path / "wide", "vae"), torch.float32, CPU)

    expected = weights["layers.0.weight"].to(torch.float8_e4m3fn).float()
    assert torch.equal(model.layers[0].get_parameter("weight"), expected)


def test_a_model_is_never_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = write_wide(tmp_path / "wide")
    read: list[weakref.ref[torch.Tensor]] = []
    made: set[int] = set()

    def watched(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        assert not any(earlier() is not None for earlier in read)
        result = _own(tensor, dtype)
        read.append(weakref.ref(tensor))
        made.add(result.data_ptr())
        return result

    monkeypatch.setattr("ltx_trainer.models.weights._own", watched)
    model = load_component(Wide, component, torch.bfloat16, CPU)

    assert len(read) == len(made)
    assert {tensor.data_ptr() for tensor in model.state_dict().values()} == made


def test_a_model_does_not_change_with_its_file(tmp_path: Path) -> None:
    component = write_wide(tmp_path / "wide")
    model = load_component(Wide, component, torch.float32, CPU)
    before = model.table.weight.clone()
    file = tmp_path / "wide" / VAE_WEIGHTS

    with file.open("r+b") as opened:
        opened.seek(-4096, 2)
        opened.write(b"\xff" * 4096)

    assert torch.equal(model.table.weight, before)


class Vast(Wide):
    """Takes more memory than there is."""

    def load_state_dict(self, *_: object, **__: object) -> Any:
        return torch.empty(2**60, dtype=torch.uint8)


def test_memory_that_runs_out_is_not_blamed_on_the_model(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match="allocate"):
        load_component(Vast, write_wide(tmp_path / "wide"), torch.float32, CPU)


class Forgetful(Wide):
    """Leaves a weight where it was."""

    def load_state_dict(self, state_dict: Any, *flags: Any, **named: Any) -> Any:
        return super().load_state_dict({k: v for k, v in state_dict.items() if k != "table.bias"}, *flags, **named)


def test_a_tensor_left_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"1 unfilled keys \(table\.bias\)"):
        load_component(Forgetful, write_wide(tmp_path / "wide"), torch.float32, CPU)


def test_a_missing_tensor_is_found_before_anything_is_computed(own_miniature: Path) -> None:
    weights = own_miniature / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["proj_out.bias"]
    save_file(tensors, weights)
    family = open_family(read_model(own_miniature, "ltx-2.3"))

    with pytest.raises(ModelError, match=r"1 missing keys \(proj_out\.bias\)"):
        family.check_weights()
