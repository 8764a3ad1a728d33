"""Weights that do not fit their config."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ltx_trainer.errors import ModelError
from ltx_trainer.models import read_model
from ltx_trainer.models.family import open_family
from ltx_trainer.models.weights import working_dtype

CPU = torch.device("cpu")


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


def test_a_language_model_with_a_missing_tensor_is_refused(own_miniature: Path) -> None:
    file = own_miniature / "text_encoder/model.safetensors"
    damage(file, drop=next(name for name in load_file(file) if name.endswith("layers.0.mlp.gate_proj.weight")))
    family = open_family(read_model(own_miniature, "ltx-2.3"))

    with pytest.raises(ModelError, match=r"1 missing keys \(.*gate_proj.weight\)"):
        next(iter(family.encode_prompts(["a red ball"], CPU)))


def test_a_cpu_computes_in_the_type_of_the_file(own_miniature: Path) -> None:
    file = own_miniature / "vae/diffusion_pytorch_model.safetensors"
    assert working_dtype(file.parent, CPU) == torch.float32

    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})

    assert working_dtype(file.parent, CPU) == torch.bfloat16
    assert working_dtype(file.parent, torch.device("cuda")) == torch.bfloat16
