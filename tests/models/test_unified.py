"""Lightricks' unified file: found parts, built as they were written, and everything else refused."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import nn

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.unified import UnifiedModel
from ltx_trainer.models.unified import read_unified as read_unified_of
from ltx_trainer.models.unified_ltx2 import LTX2_FILE
from ltx_trainer.models.unified_ltx2_config import RULES, component_arguments
from ltx_trainer.models.unified_ltx2_names import component_of, library_key
from ltx_trainer.models.unified_section import Section
from ltx_trainer.models.weights import load_component
from tests.models.unified_file import (
    CLASSES,
    FULL,
    FULL_CONFIG,
    LEFT_OUT,
    TINY_CONFIG,
    build_tiny,
    changed,
    original_name,
    write_changed,
    write_unified,
)

Models = Mapping[str, Any]
read_unified = partial(read_unified_of, LTX2_FILE)
COMPONENTS = list(CLASSES)


@pytest.fixture(scope="module")
def written() -> Models:
    """The tiny components that the file is written from."""
    return build_tiny()


@pytest.fixture(scope="module")
def file(written: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unified(tmp_path_factory.mktemp("unified") / "ltx-2.3-tiny.safetensors", written)


@pytest.fixture(scope="module")
def unified(file: Path) -> UnifiedModel:
    return read_unified(file)


@pytest.fixture(scope="module")
def loaded(unified: UnifiedModel) -> Models:
    return {name: _load(unified.components[name]) for name in COMPONENTS}


@pytest.fixture
def rewrite(file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the file's header again with other tensors or other metadata."""

    def write(add: Iterable[str] = (), keep: Callable[[str], bool] = lambda _: True, **metadata: object) -> Path:
        told = {"config": TINY_CONFIG, "model_version": "2.3.0", **metadata}
        texts = {key: _text(value) for key, value in told.items() if value is not None}
        return write_changed(tmp_path / "changed.safetensors", file, texts, add=add, keep=keep)

    return write


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _load(component: Component) -> nn.Module:
    dtype = torch.bfloat16 if component.name == "transformer" else torch.float32
    return load_component(CLASSES[component.name], component, dtype, torch.device("cpu"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_has_the_state_that_it_was_written_with(name: str, written: Models, loaded: Models) -> None:
    expected, found = written[name].state_dict(), loaded[name].state_dict()

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) and found[key].dtype == expected[key].dtype for key in expected)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_is_built_with_the_arguments_that_it_was_written_with(
    name: str, written: Models, loaded: Models
) -> None:
    assert _config(loaded[name]) == _config(written[name])


def _config(model: Any) -> dict[str, Any]:
    """Give every argument of the class, whether it was given or not."""
    return json.loads(json.dumps({key: value for key, value in model.config.items() if not key.startswith("_")}))


def test_a_component_can_be_told_in_json(unified: UnifiedModel) -> None:
    configs = {name: dict(component.config) for name, component in unified.components.items()}

    assert json.loads(json.dumps(configs)) == configs
    assert list(configs) == ["transformer", "vae", "audio_vae", "vocoder", "connectors"]


def test_a_weight_is_where_the_component_says(file: Path, unified: UnifiedModel) -> None:
    transformer = unified.components["transformer"]
    weight = transformer.weights["transformer_blocks.1.attn1.norm_q.weight"]

    assert weight.file == file
    assert weight.key == "model.diffusion_model.transformer_blocks.1.attn1.q_norm.weight"
    assert (weight.dtype, weight.shape) == ("BF16", (64,))
    assert unified.components["vae"].weights["latents_mean"].dtype == "F32"
    assert all(component.files == (file,) for component in unified.components.values())
    assert transformer.origin == f"transformer in {file}"


def test_the_transformer_computes_what_the_written_one_does(written: Models, loaded: Models) -> None:
    inputs = _transformer_inputs()

    expected, found = (models["transformer"](**inputs, return_dict=False) for models in (written, loaded))

    for was, now in zip(expected, found, strict=True):
        assert torch.equal(was, now)
        assert was.abs().sum() > 0


def _transformer_inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    draw = lambda *sizes: torch.randn(sizes, generator=generator).bfloat16()  # noqa: E731
    return {
        "hidden_states": draw(1, 8, 8),
        "audio_hidden_states": draw(1, 3, 32),
        "encoder_hidden_states": draw(1, 8, 64),
        "audio_encoder_hidden_states": draw(1, 8, 32),
        "timestep": torch.tensor([300.0]),
        "sigma": torch.tensor([300.0]),
        "num_frames": 2,
        "height": 2,
        "width": 2,
        "audio_num_frames": 3,
        "use_cross_timestep": True,
    }


@torch.no_grad()
def test_the_video_vae_computes_what_the_written_one_does(written: Models, loaded: Models) -> None:
    video = torch.rand(1, 3, 9, 64, 64, generator=torch.Generator().manual_seed(7))
    encoded = [models["vae"].encode(video).latent_dist.mean for models in (written, loaded)]
    decoded = []
    for models in (written, loaded):
        # The decoder adds noise of its own.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            decoded.append(models["vae"].decode(encoded[0]).sample)

    assert encoded[0].shape == (1, 8, 2, 2, 2)
    assert decoded[0].shape == video.shape
    assert torch.equal(*encoded)
    assert torch.equal(*decoded)


@torch.no_grad()
def test_the_sound_parts_compute_what_the_written_ones_do(written: Models, loaded: Models) -> None:
    mel = torch.rand(1, 2, 9, 64, generator=torch.Generator().manual_seed(7))
    latents = [models["audio_vae"].encode(mel).latent_dist.mean for models in (written, loaded)]
    decoded = [models["audio_vae"].decode(latents[0]).sample for models in (written, loaded)]
    waves = [models["vocoder"](decoded[0]) for models in (written, loaded)]

    assert torch.equal(*latents)
    assert torch.equal(*decoded)
    assert torch.equal(*waves)
    assert waves[0].shape == (1, 2, decoded[0].shape[2] * 240)


@torch.no_grad()
def test_the_connectors_compute_what_the_written_ones_do(written: Models, loaded: Models) -> None:
    states = torch.randn(1, 8, 24, 3, generator=torch.Generator().manual_seed(7))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])

    expected, found = (models["connectors"](states, mask) for models in (written, loaded))

    assert all(torch.equal(was, now) for was, now in zip(expected, found, strict=True))


@pytest.fixture(scope="module")
def full_size() -> Models:
    """LTX-2.3 itself, without memory."""
    with init_empty_weights():
        return {name: CLASSES[name](**arguments) for name, arguments in FULL.items()}


def test_no_name_of_the_full_model_is_lost_or_shared(full_size: Models) -> None:
    names = [(name, key) for name, model in full_size.items() for key in model.state_dict()]
    originals = {original_name(*name): name for name in names}

    assert len(originals) == len(names) > 5900
    assert {key: (component_of(key), library_key(key, num_stages=4)) for key in originals} == originals


def test_the_full_config_builds_the_full_model(full_size: Models) -> None:
    shapes = {
        original_name(name, key): tuple(value.shape)
        for name, model in full_size.items()
        for key, value in model.state_dict().items()
    }
    arguments = component_arguments(Section(Path("ltx-2.3-22b-dev.safetensors"), "", FULL_CONFIG, RULES), shapes)

    for name, model in full_size.items():
        expected = _config(model)
        assert {key: value for key, value in arguments[name].items() if expected[key] != value} == {}


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.proj_in.weight",
        "model.diffusion_model.transformer_blocks.0.attn1.norm_q.weight",
        "model.diffusion_model.transformer_blocks.0.video_a2v_cross_attn_scale_shift_table",
        "model.diffusion_model.video_embeddings_connector.transformer_blocks.0.ff.net.2.weight",
        "text_embedding_projection.aggregate_embed.weight",
        "vae.encoder.mid_block.res_blocks.0.conv1.conv.weight",
        "vae.encoder.down_blocks.00.res_blocks.0.conv1.conv.weight",
        "vae.encoder.down_blocks.9.conv.conv.weight",
        "vae.encoder.down_blocks.10.res_blocks.0.conv1.conv.weight",
        "vae.decoder.up_blocks.1.resnets.0.conv1.conv.weight",
        "vae.latents_mean",
        "audio_vae.latents_mean",
        "vocoder.vocoder.conv_in.weight",
        "vocoder.vocoder.act_post.downsample.filter",
        "text_encoder.layers.0.weight",
        "transformer_blocks.0.attn1.to_q.weight",
    ],
)
def test_a_name_of_another_layout_is_refused(rewrite: Callable[..., Path], key: str) -> None:
    with pytest.raises(ModelError, match=rf"holds what LTX-2\.3 has no place for: 1 tensor: {key}\. Give Lightricks'"):
        read_unified(rewrite(add=[key]))


def test_further_statistics_and_a_computed_filter_are_left_out(unified: UnifiedModel) -> None:
    claimed = {weight.key for component in unified.components.values() for weight in component.weights.values()}

    assert claimed.isdisjoint(LEFT_OUT)


def test_a_file_without_a_config_is_refused(rewrite: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not say what it holds: its metadata has model_version, where"):
        read_unified(rewrite(config=None))

    save_file({"vae.encoder.conv_in.conv.weight": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match=r"it has no metadata, where .* or a folder in the layout of diffusers\."):
        read_unified(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", '"dev"', "dev"])
def test_a_config_that_is_no_object_is_refused(rewrite: Callable[..., Path], text: str) -> None:
    with pytest.raises(ModelError, match=r"the config in the metadata of .* is not a JSON object\. Give Lightricks'"):
        read_unified(rewrite(config=text))


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (lambda config: config["transformer"].update(cross_attention_adaln=False), "LTX-2.0"),
        (lambda config: config["transformer"].pop("caption_proj_before_connector"), "LTX-2.0"),
        (lambda config: config["transformer"].update(use_keyframes_abs_pos_embedding=True), "LTX-2.5"),
        (lambda config: config["transformer"].update(ff_bias=False), "LTX-2.5"),
        (lambda config: config["transformer"].update(use_prompt_adaln_single=False), "LTX-2.5"),
        (lambda config: config["vae"].update(_class_name="CausalDiffusionVAE"), "LTX-2.5"),
    ],
)
def test_another_version_is_told_by_what_it_computes_with(
    rewrite: Callable[..., Path], change: Callable[[dict[str, Any]], object], version: str
) -> None:
    with pytest.raises(ModelError, match=rf"holds {version}; this mode trains LTX-2\.3"):
        read_unified(rewrite(config=changed(change)))


@pytest.mark.parametrize(("declared", "version"), [("2.0.0", "LTX-2.0"), ("2.4.0-rc2", "LTX-2.4")])
def test_another_version_is_told_by_its_number(rewrite: Callable[..., Path], declared: str, version: str) -> None:
    with pytest.raises(ModelError, match=rf"holds {version}; this mode trains LTX-2\.3"):
        read_unified(rewrite(model_version=declared))


@pytest.mark.parametrize("declared", [None, "2.3", "dev"])
def test_a_version_number_may_be_missing(rewrite: Callable[..., Path], declared: str | None) -> None:
    assert read_unified(rewrite(model_version=declared)).components.keys() == set(COMPONENTS)


def test_a_model_without_sound_is_another_family(rewrite: Callable[..., Path]) -> None:
    silent = rewrite(keep=lambda key: "audio" not in key and "vocoder" not in key, model_version="0.9.8")

    with pytest.raises(ModelError, match=r"holds LTX-Video; this mode trains LTX-2\.3"):
        read_unified(silent)


def test_a_file_with_the_transformer_alone_lacks_the_rest(rewrite: Callable[..., Path]) -> None:
    alone = rewrite(keep=lambda key: "diffusion_model" in key and "connector" not in key)

    with pytest.raises(ModelError, match=r"lacks vae, audio_vae, vocoder, connectors and holds only transformer\."):
        read_unified(alone)


@pytest.mark.parametrize("end", ["lora_A.weight", "lora_B.default.weight", "lora_down.weight", "lora_up.weight"])
def test_a_lora_is_called_one(tmp_path: Path, end: str) -> None:
    key = f"diffusion_model.transformer_blocks.0.attn1.to_q.{end}"
    save_file({key: torch.zeros(2, 2)}, tmp_path / "lora.safetensors", metadata={"config": "{}"})

    with pytest.raises(ModelError, match=rf"is a LoRA \(1 tensor: {key}\), not a base model.*name it in model\.lora"):
        read_unified(tmp_path / "lora.safetensors")


@pytest.mark.parametrize("end", ["weight_scale", "input_scale", "comfy_quant", "scale_weight"])
def test_weights_with_scales_of_their_own_are_named(rewrite: Callable[..., Path], end: str) -> None:
    keys = [f"model.diffusion_model.transformer_blocks.{block}.attn1.to_q.{end}" for block in range(4)]
    quantised = rewrite(add=keys)

    with pytest.raises(ModelError, match=rf"is quantised.*\(4 tensors: {keys[0]}, {keys[1]}, {keys[2]}, \.\.\.\)"):
        read_unified(quantised)


@pytest.mark.parametrize(
    ("metadata", "sign"),
    [
        ({"model_version": "2.3.0-distilled"}, "its metadata says 2.3.0-distilled for model_version"),
        ({"training": {"kind": ["SFT", "Distilled"]}}, "its metadata says Distilled for training.kind"),
        ({"is_distilled": "true"}, "its metadata has is_distilled"),
        ({"config": {**TINY_CONFIG, "distilled": True}}, "its metadata has config.distilled"),
        (
            {"config": {**TINY_CONFIG, "allowed_inference_steps": [1.0, 0.9]}},
            "its config lists allowed_inference_steps, as a distilled model's does",
        ),
        (
            {"_quantization_metadata": {"layers": {"a": {"format": "fp8_e4m3"}, "b": {"format": "fp8_e4m3"}}}},
            "its metadata says fp8_e4m3 for _quantization_metadata.layers.a.format",
        ),
    ],
)
def test_what_is_said_of_distillation_is_a_sign(
    rewrite: Callable[..., Path], metadata: dict[str, object], sign: str
) -> None:
    assert read_unified(rewrite(**metadata)).signs == (sign,)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"is_distilled": "false"},
        {"config": {**TINY_CONFIG, "distilled": False}},
        {"license": "This licence covers the model and what is distilled from it, whoever did so and however." * 2},
    ],
)
def test_a_full_model_shows_no_sign(rewrite: Callable[..., Path], metadata: dict[str, object]) -> None:
    assert read_unified(rewrite(**metadata)).signs == ()


def test_metadata_is_given_as_it_stands(unified: UnifiedModel) -> None:
    assert unified.metadata["model_version"] == "2.3.0"
    assert json.loads(unified.metadata["config"]) == TINY_CONFIG


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Change a value of the config, or take it out where None is given."""

    def change(config: dict[str, Any]) -> None:
        *sections, key = path.split(".")
        for section in sections:
            config = config[section]
        config[key] = value
        if value is None:
            del config[key]

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("vae", None, r"has nothing for vae, which is a section"),
        ("vocoder.bwe", [], r"has a list for vocoder\.bwe, which is a section"),
        ("audio_vae.model.params.ddconfig", None, r"has nothing for audio_vae\.model\.params\.ddconfig"),
        ("transformer.num_layers", "2", r"says '2' for transformer\.num_layers, which is of type int"),
        ("transformer.num_layers", True, r"says True for transformer\.num_layers, which is of type int"),
        ("transformer.num_layers", 2.5, r"says 2\.5 for transformer\.num_layers, which is of type int"),
        ("transformer.num_layers", float("inf"), r"says inf for transformer\.num_layers, which is of type int"),
        ("transformer.apply_gated_attention", 1, r"says 1 for .*apply_gated_attention, which is of type bool"),
        ("transformer.positional_embedding_max_pos", [20], r"says \[20\] for .*, which is 3 whole numbers"),
        ("transformer.audio_positional_embedding_max_pos", ["x"], r"says \['x'\] for .*, which is 1 whole numbers"),
        ("transformer.rope_type", None, r"says None for transformer\.rope_type, which is never left out"),
        ("transformer.rope_type", "mixed", r"says 'mixed' for .*rope_type, which is 'split' or 'interleaved' in LTX"),
        ("transformer.frequencies_precision", None, r"frequencies_precision, which is never left out"),
        ("transformer.share_ff", True, r"says True for transformer\.share_ff, which is False in LTX-2\.3"),
        ("transformer.caption_channels", 23, r"says 23 for .*caption_channels, which is a divisor of 72"),
        ("transformer.caption_channels", 0, r"says 0 for .*caption_channels, which is at least 1"),
        ("vae.norm_layer", "group_norm", r"says 'group_norm' for vae\.norm_layer, which is 'pixel_norm'"),
        ("vae.timestep_conditioning", True, r"says True for vae\.timestep_conditioning, which is False"),
        ("vae.encoder_blocks", [["res_x", {}]], r"lists res_x in vae\.encoder_blocks, which are res_x and one of"),
        ("vae.encoder_blocks", [["res_x", {}], ["compress_all", {}], ["res_x", {}]], r"lists res_x, compress_all, res"),
        ("vae.decoder_blocks", [["res_x", {}], ["compress_all", {}]], r"lists res_x, compress_all in vae\.decoder"),
        ("vae.decoder_blocks", [7], r"says \[7\] for vae\.decoder_blocks, which is a list of pairs"),
        (
            "vae.decoder_blocks",
            [["res_x", {}], ["compress_all", {"multiplier": 0}], ["res_x", {}]],
            r"says 0 for vae\.decoder_blocks\.compress_all\.multiplier, which is at least 1",
        ),
        ("vocoder.vocoder.resblock", "1", r"says '1' for vocoder\.vocoder\.resblock, which is 'AMP1'"),
        ("vocoder.bwe.activation", "relu", r"says 'relu' for vocoder\.bwe\.activation, which is 'snake' or"),
    ],
)
def test_a_config_that_the_classes_cannot_compute_is_refused(
    rewrite: Callable[..., Path], path: str, value: object, message: str
) -> None:
    with pytest.raises(ModelError, match=message + r".* Give Lightricks' own"):
        read_unified(rewrite(config=changed(_set(path, value))))


def test_a_missing_weight_is_found_when_its_component_is_loaded(rewrite: Callable[..., Path]) -> None:
    lost = "model.diffusion_model.transformer_blocks.1.ff.net.2.bias"
    transformer = read_unified(rewrite(keep=lambda key: key != lost)).components["transformer"]

    with pytest.raises(ModelError, match=r"transformer in .*transformer_blocks\.1\.ff\.net\.2\.bias"):
        _load(transformer)


def test_a_missing_projection_is_named(rewrite: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"text_embedding_projection\.video_aggregate_embed\.weight is missing"):
        read_unified(rewrite(keep=lambda key: not key.startswith("text_embedding_projection.video")))


def test_a_file_cut_short_is_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size, message in [(len(whole) - 1, "where its header promises"), (2000, "damaged"), (5, "damaged")]:
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=rf"{message}.* Fetch it again"):
            read_unified(cut)


@pytest.mark.parametrize(
    "header",
    [
        b"GGUF",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": 1, "shape": [], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0]}}',
        b'{"__metadata__": []}x',
        b'{"__metadata__": [1]}',
    ],
)
def test_what_is_no_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)

    with pytest.raises(ModelError, match="is not a safetensors file, or its header is damaged"):
        read_unified(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors is not there\. Check the path"):
        read_unified(tmp_path / "gone.safetensors")
