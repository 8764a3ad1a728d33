"""Lightricks' single file of LTX-Video: the library's classes as they were written, told apart, and refused."""

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from ltx_trainer.errors import ModelError
from ltx_trainer.models import Located, locate_model, read_model
from ltx_trainer.models.family import open_family
from ltx_trainer.models.unified import read_unified
from ltx_trainer.models.unified_ltx_video import (
    LTX_VIDEO_FILE,
    RULES,
    component_arguments,
    component_of,
    namer,
)
from ltx_trainer.models.unified_section import Section
from ltx_trainer.models.weights import load_component
from tests.models.ltx_video_vaes import ARGUMENTS, CONFIGS, original_transformer_name, original_vae_name

CPU = torch.device("cpu")
SIZES: Mapping[str, dict[str, Any]] = {
    "2B": {"num_layers": 28, "attention_head_dim": 64, "cross_attention_dim": 2048},
    "13B": {"num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096},
}
CLASSES: Mapping[str, Any] = {"transformer": LTXVideoTransformer3DModel, "vae": AutoencoderKLLTXVideo}
TRANSFORMER: Mapping[str, Any] = {
    "_class_name": "Transformer3DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 64,
    "attention_type": "default",
    "caption_channels": 4096,
    "cross_attention_dim": 2048,
    "double_self_attention": False,
    "in_channels": 128,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "num_attention_heads": 32,
    "num_layers": 28,
    "only_cross_attention": False,
    "out_channels": 128,
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
}

TINY: Mapping[str, Any] = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "cross_attention_dim": 64,
    "caption_channels": 32,
    "in_channels": 8,
    "out_channels": 8,
}

Write = Callable[..., Path]


def tiny_config(version: str, *, causal: bool) -> dict[str, Any]:
    """Describe a model of the structure of a version and of next to no width."""
    vae = {
        **copy.deepcopy(CONFIGS[version]),
        "latent_channels": 8,
        "encoder_base_channels": 8,
        "decoder_base_channels": 8,
    }
    for blocks in ("blocks", "encoder_blocks", "decoder_blocks"):
        vae[blocks] = [[kind, _single(said)] for kind, said in vae.get(blocks, [])] or None
    known = {"causal_temporal_positioning": True} if causal else {}
    return {
        "transformer": {**TRANSFORMER, **TINY, **known},
        "vae": {key: value for key, value in vae.items() if value is not None},
    }


def _single(said: object) -> object:
    return {**said, "num_layers": 1} if isinstance(said, dict) and "num_layers" in said else said


def original_name(version: str, component: str, key: str) -> str:
    return original_transformer_name(key) if component == "transformer" else original_vae_name(version, key)


def build(config: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Build what a config describes, with random weights."""
    arguments = component_arguments(Section(Path("tiny.safetensors"), "", config, RULES), {})
    torch.manual_seed(4)
    models: dict[str, nn.Module] = {
        "transformer": LTXVideoTransformer3DModel(**arguments["transformer"]),
        "vae": AutoencoderKLLTXVideo(**arguments["vae"]),
    }
    for parameter in models["vae"].parameters():
        nn.init.normal_(parameter, std=0.02) if parameter.ndim > 1 else None
    return models


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the file of a tiny model of a version."""

    def run(
        version: str, *, causal: bool, name: str = "model-dev", change: Callable[[dict[str, Any]], object] = len
    ) -> Path:
        config = tiny_config(version, causal=causal)
        tensors = {
            original_name(version, component, key): tensor.clone()
            for component, model in build(config).items()
            for key, tensor in model.state_dict().items()
        }
        tensors["vae.per_channel_statistics.channel"] = torch.arange(8.0)
        change(config)
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path, {"config": json.dumps(config)})
        return path

    return run


@pytest.mark.parametrize("version", CONFIGS)
def test_the_config_of_each_video_vae_builds_the_librarys(version: str) -> None:
    config = {"transformer": TRANSFORMER, "vae": CONFIGS[version]}
    arguments = component_arguments(Section(Path("ltx.safetensors"), "", config, RULES), {})["vae"]

    assert {key: arguments[key] for key in ARGUMENTS[version]} == ARGUMENTS[version]
    assert (arguments["spatial_compression_ratio"], arguments["temporal_compression_ratio"]) == (32, 8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("version", CONFIGS)
def test_no_name_of_a_full_model_is_lost_or_shared(version: str, size: str) -> None:
    config = {"transformer": {**TRANSFORMER, **SIZES[size]}, "vae": CONFIGS[version]}
    arguments = component_arguments(Section(Path("ltx.safetensors"), "", config, RULES), {})
    with init_empty_weights():
        models = {
            "transformer": LTXVideoTransformer3DModel(**SIZES[size]),
            "vae": AutoencoderKLLTXVideo(**ARGUMENTS[version]),
        }
    names = [(component, key) for component, model in models.items() for key in model.state_dict()]
    originals = {original_name(version, *name): name for name in names}
    library_key = namer(arguments)

    assert len(originals) == len(names) > 700
    assert {key: (component_of(key), library_key(key)) for key in originals} == originals
    assert sum(parameter.numel() for parameter in models["transformer"].parameters()) > 1.9e9


@pytest.mark.parametrize(("version", "causal"), [("0.9.0", False), ("0.9.1", False), ("0.9.5", True)])
def test_every_part_has_the_weights_that_it_was_written_with(write: Write, version: str, causal: bool) -> None:
    path = write(version, causal=causal)
    written, found = build(tiny_config(version, causal=causal)), read_unified(LTX_VIDEO_FILE, path).components

    for name, model in written.items():
        loaded = load_component(CLASSES[name], found[name], torch.float32, CPU)
        state: dict[str, Tensor] = loaded.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


@pytest.fixture
def t5(ltx_video_folder: Path, tmp_path: Path) -> Path:
    """The text encoder and the tokenizer of the miniature, in a folder each."""
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(ltx_video_folder / part, tmp_path / "t5" / part)
    return tmp_path / "t5"


@pytest.mark.parametrize("beside", [False, True])
def test_a_file_is_a_model_with_a_t5_in_one_folder_or_in_two(
    write: Write,
    t5: Path,
    tmp_path: Path,
    beside: bool,
) -> None:
    if beside:
        for part in ("text_encoder", "tokenizer"):
            shutil.copytree(t5 / part, tmp_path / "flat", dirs_exist_ok=True)
        t5 = tmp_path / "flat"
    path = write("0.9.1", causal=False)

    facts = read_model(
        locate_model(str(path), "ltx-video", tmp_path, text_encoder=str(t5)), "ltx-video", version="0.9.1"
    )
    family = open_family(facts)

    family.check_weights()
    ((_, prompt),) = family.encode_prompts(["a red ball"], CPU, scratch=tmp_path)
    assert (facts.version, facts.name, facts.num_blocks) == ("0.9.1", "model-dev", 2)
    assert prompt["video"].shape == (64, 32)


def test_the_files_own_positions_say_which_version_it_is(write: Write, t5: Path) -> None:
    def located(path: Path) -> Located:
        return Located(path, str(path), text_encoder=t5)

    plain = write("0.9.5", causal=False, name="plain-dev")
    causal = write("0.9.5", causal=True, name="causal-dev")

    with pytest.raises(
        ModelError, match=r"are together of no known version of LTX-Video\. Known: 0\.9\.0, .*0\.9\.8-dev"
    ):
        read_model(located(plain), "ltx-video")
    with pytest.raises(
        ModelError, match=r"Set model\.version to one of 0\.9\.5, 0\.9\.6-dev, 0\.9\.7-dev, 0\.9\.8-dev"
    ):
        read_model(located(causal), "ltx-video")
    assert read_model(located(causal), "ltx-video", version="0.9.7-dev").version == "0.9.7-dev"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config: config["vae"].update(spatial_padding_mode="reflect"),
            r"says 'reflect' for vae\.spatial_padding_mode",
        ),
        (
            lambda config: config["transformer"].update(qk_norm="layer_norm"),
            r"'layer_norm' for transformer\.qk_norm, which is 'rms_norm' in LTX-Video",
        ),
        (
            lambda config: config["transformer"].pop("num_layers"),
            r"None for transformer\.num_layers, which is never left out",
        ),
        (
            lambda config: config["vae"].update(encoder_blocks=[["res_x", 1], ["attn", 1]]),
            r"lists res_x, attn in vae\.encoder_blocks, which is no video VAE",
        ),
        (lambda config: config["vae"].pop("decoder_blocks"), r"lists nothing in vae\.decoder_blocks"),
        (
            lambda config: config["vae"]["decoder_blocks"].insert(2, ["res_x_y", {"multiplier": 2}]),
            r"lists res_x, compress_all, res_x_y, res_x, .* which is no video VAE",
        ),
    ],
)
def test_a_config_that_the_classes_cannot_compute_is_refused(
    write: Write, change: Callable[..., object], message: str
) -> None:
    with pytest.raises(ModelError, match=message + r".* Give Lightricks' own LTX-Video file"):
        read_unified(LTX_VIDEO_FILE, write("0.9.5", causal=True, change=change))


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.proj_in.weight",
        "model.diffusion_model.transformer_blocks.0.attn1.norm_q.weight",
        "vae.decoder.time_embedder.timestep_embedder.linear_1.weight",
        "vae.decoder.mid_block.res_blocks.0.conv1.conv.weight",
        "vae.decoder.up_blocks.7.conv.conv.weight",
        "vae.encoder.down_blocks.00.res_blocks.0.conv1.conv.weight",
        "vae.encoder.down_blocks.2.conv_shortcut.conv.weight",
        "vae.encoder.down_blocks.2.norm3.weight",
        "vae.latents_mean",
        "text_encoder.weight",
    ],
)
def test_a_name_of_another_layout_is_refused(key: str) -> None:
    config = {"transformer": TRANSFORMER, "vae": CONFIGS["0.9.1"]}
    arguments = component_arguments(Section(Path("ltx.safetensors"), "", config, RULES), {})

    assert component_of(key) is None or namer(arguments)(key) is None


def test_a_model_with_sound_is_another_family(tmp_path: Path) -> None:
    names = ("patchify_proj", "audio_patchify_proj")
    tensors = {f"model.diffusion_model.{name}.weight": torch.zeros(2, 2) for name in names}
    save_file(tensors, tmp_path / "m.safetensors", {"config": "{}", "model_version": "2.3.0"})

    with pytest.raises(ModelError, match=r"holds LTX-2\.3\.0; this mode trains LTX-Video"):
        read_unified(LTX_VIDEO_FILE, tmp_path / "m.safetensors")


def test_a_distilled_file_is_refused_by_name_and_by_its_steps(write: Write, t5: Path) -> None:
    named = write("0.9.5", causal=True, name="ltxv-2b-0.9.6-distilled")
    told = write(
        "0.9.5", causal=True, name="ltxv", change=lambda config: config.update(allowed_inference_steps=[1.0, 0.9])
    )

    for path, sign in ((named, "its name says distilled"), (told, "its config lists allowed_inference_steps")):
        with pytest.raises(ModelError, match=f"unsuitable as a training base: {sign}"):
            read_model(Located(path, str(path), text_encoder=t5), "ltx-video", version="0.9.6-dev")


def test_a_t5_of_another_width_or_another_model_is_refused(write: Write, t5: Path) -> None:
    path = write("0.9.5", causal=True)
    config = t5 / "text_encoder/config.json"
    said = json.loads(config.read_text())

    for change, message in (
        ({"d_model": 64}, r"is of width 64; the transformer in .* reads 32\. Give a T5"),
        ({"model_type": "gemma3"}, r"is of the type 'gemma3'; LTX-Video reads a t5\. Give a T5"),
    ):
        config.write_text(json.dumps(said | change))
        with pytest.raises(ModelError, match=message):
            read_model(Located(path, str(path), text_encoder=t5), "ltx-video", version="0.9.6-dev")
