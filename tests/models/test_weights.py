"""Weights that do not fit their config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLLTX2Video
from safetensors.torch import load_file, save_file
from torch import nn

from ltx_trainer.errors import ModelError
from ltx_trainer.models import read_model
from ltx_trainer.models.family import open_family
from ltx_trainer.models.weights import load_diffusers, read_weight, working_dtype

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

    with pytest.raises(ModelError, match=rf"does not load as LTX2VideoTransformer3DModel: .*{name}"):
        load_transformer(open_family(read_model(own_miniature, "ltx-2.3")))


def test_a_language_model_with_a_missing_tensor_is_refused(own_miniature: Path, tmp_path: Path) -> None:
    file = own_miniature / "text_encoder/model.safetensors"
    damage(file, drop=next(name for name in load_file(file) if name.endswith("layers.0.mlp.gate_proj.weight")))
    family = open_family(read_model(own_miniature, "ltx-2.3"))

    with pytest.raises(ModelError, match=r"1 missing keys \(.*gate_proj.weight\)"):
        next(iter(family.encode_prompts(["a red ball"], CPU, scratch=tmp_path)))


def test_a_cpu_computes_in_the_type_of_the_file(own_miniature: Path) -> None:
    file = own_miniature / "vae/diffusion_pytorch_model.safetensors"
    assert working_dtype(file.parent, CPU) == torch.float32

    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})

    assert working_dtype(file.parent, CPU) == torch.bfloat16
    assert working_dtype(file.parent, torch.device("cuda")) == torch.bfloat16


def test_a_cpu_computes_in_the_type_of_most_weights_of_all_shards(own_miniature: Path) -> None:
    folder = own_miniature / "vae"
    weights = load_file(folder / VAE_WEIGHTS)
    first, *others = sorted(weights)
    parts = {"a.safetensors": {first: weights[first]}, "b.safetensors": {n: weights[n].bfloat16() for n in others}}
    (folder / VAE_WEIGHTS).unlink()
    for name, part in parts.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {tensor: name for name, part in parts.items() for tensor in part}}
    (folder / f"{VAE_WEIGHTS}.index.json").write_text(json.dumps(index))

    assert working_dtype(folder, CPU) == torch.bfloat16
    assert torch.equal(read_weight(folder, first), weights[first])


def test_a_file_beside_the_weights_is_not_taken_for_weights(own_miniature: Path) -> None:
    folder = own_miniature / "vae"
    expected = read_weight(folder, "latents_mean")
    save_file({"latents_mean": expected.half() + 1}, folder / "another.safetensors")

    assert torch.equal(read_weight(folder, "latents_mean"), expected)
    assert working_dtype(folder, CPU) == torch.float32


def test_a_damaged_file_is_refused(own_miniature: Path) -> None:
    file = own_miniature / "vae" / VAE_WEIGHTS
    file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(ModelError, match="its header promises"):
        working_dtype(file.parent, CPU)
    with pytest.raises(ModelError, match="its header promises"):
        read_weight(file.parent, "latents_mean")


class Vast(AutoencoderKLLTX2Video):
    """Takes more memory than there is."""

    @classmethod
    def from_pretrained(cls, *_: object, **__: object) -> Any:
        return torch.empty(2**60, dtype=torch.uint8)


def test_memory_that_runs_out_is_not_blamed_on_the_model(own_miniature: Path) -> None:
    with pytest.raises(MemoryError, match="allocate"):
        load_diffusers(Vast, own_miniature / "vae", torch.float32)
