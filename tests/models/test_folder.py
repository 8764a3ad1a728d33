"""What a folder must hold to be taken for a base model."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pytest
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file

from ltx_trainer.errors import ModelError
from ltx_trainer.geometry import FrameSize, ScaleFactors
from ltx_trainer.models import component_files, read_model
from ltx_trainer.models.facts import LTX2_RESOLUTIONS
from ltx_trainer.models.suitable import name_signs

TRANSFORMER_WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def edit(path: Path, changes: Mapping[str, object]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_facts_come_from_the_configs(miniature_folder: Path) -> None:
    facts = read_model(miniature_folder, "ltx-2.3")

    assert facts.name == "miniature ltx-2.3-random"
    assert facts.factors == ScaleFactors(frames=4, rows=8, columns=8)
    assert facts.video_channels == 16
    assert facts.num_blocks == 4
    assert facts.max_text_tokens == 64
    assert facts.audio is not None
    assert facts.audio.tokens_per_second == Fraction(25)
    assert facts.audio.latent_channels * facts.audio.latent_mel_bins == 32


def test_a_folder_may_carry_its_own_picture_sizes(miniature_folder: Path) -> None:
    sizes = read_model(miniature_folder, "ltx-2.3").resolutions

    assert sizes["low"]["1:1"] == FrameSize(64, 64)
    assert all(size.width % 32 == size.height % 32 == 0 for level in sizes.values() for size in level.values())


def test_a_folder_without_own_settings_takes_its_name_and_the_familys_sizes(own_miniature: Path) -> None:
    (own_miniature / "ltx_trainer.json").unlink()

    facts = read_model(own_miniature, "ltx-2.3")

    assert facts.name == own_miniature.name
    assert facts.resolutions == LTX2_RESOLUTIONS
    assert facts.resolutions["high"]["16:9"] == FrameSize(960, 544)


def test_a_text_limit_beyond_the_models_own_is_cut_to_it(own_miniature: Path) -> None:
    edit(own_miniature / "tokenizer/tokenizer_config.json", {"model_max_length": 1e30})

    assert read_model(own_miniature, "ltx-2.3").max_text_tokens == 1024


@pytest.mark.parametrize(
    "lost",
    [
        "vocoder/config.json",
        "audio_vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(own_miniature: Path, lost: str) -> None:
    (own_miniature / lost).unlink()

    with pytest.raises(ModelError, match=rf"lacks {lost}\. An LTX-2.3 folder holds .*vocoder.*scheduler"):
        read_model(own_miniature, "ltx-2.3")


def test_all_missing_files_are_named_at_once(own_miniature: Path) -> None:
    for path in (own_miniature / "vocoder").iterdir():
        path.unlink()
    (own_miniature / "vae/config.json").unlink()

    with pytest.raises(ModelError, match=r"vae/config\.json, vocoder/config\.json, vocoder/diffusion_pytorch_model"):
        read_model(own_miniature, "ltx-2.3")


def test_a_missing_shard_is_named(own_miniature: Path) -> None:
    whole = own_miniature / TRANSFORMER_WEIGHTS
    first, second = (whole.with_name(f"part-{number}.safetensors") for number in (1, 2))
    whole.rename(first)
    weight_map = {"a": first.name, "b": second.name}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(ModelError, match=r"lacks transformer/part-2\.safetensors"):
        read_model(own_miniature, "ltx-2.3")


def test_a_file_cut_short_is_told_by_its_header(own_miniature: Path) -> None:
    weights = own_miniature / TRANSFORMER_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelError, match=r"bytes where its header promises"):
        read_model(own_miniature, "ltx-2.3")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"])
def test_a_file_that_is_no_safetensors_is_refused(own_miniature: Path, content: bytes) -> None:
    (own_miniature / TRANSFORMER_WEIGHTS).write_bytes(content)

    with pytest.raises(ModelError, match="is not a safetensors file, or its header is damaged"):
        read_model(own_miniature, "ltx-2.3")


def test_another_pipeline_is_refused(own_miniature: Path) -> None:
    edit(own_miniature / "model_index.json", {"_class_name": "LTXPipeline"})

    with pytest.raises(ModelError, match=r"holds a model of LTXPipeline; this mode trains LTX-2\.3"):
        read_model(own_miniature, "ltx-2.3")


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({"cross_attn_mod": False, "use_prompt_embeddings": True}, "2.0"),
        ({"use_keyframes_abs_pos_embedding": True}, "2.5"),
    ],
)
def test_another_version_is_refused(own_miniature: Path, changes: dict[str, bool], version: str) -> None:
    edit(own_miniature / "transformer/config.json", changes)

    with pytest.raises(ModelError, match=f"holds LTX-{version}; this mode trains LTX-2.3"):
        read_model(own_miniature, "ltx-2.3")


def test_a_distilled_base_is_refused_unless_allowed(own_miniature: Path) -> None:
    edit(own_miniature / "scheduler/scheduler_config.json", {"use_dynamic_shifting": False})

    with pytest.raises(ModelError, match="unsuitable as a training base: its scheduler is a distilled model's"):
        read_model(own_miniature, "ltx-2.3")

    assert read_model(own_miniature, "ltx-2.3", allow_unsuitable_base=True).num_blocks == 4


def test_a_base_named_distilled_is_refused(own_miniature: Path) -> None:
    named = own_miniature.rename(own_miniature.with_name("LTX-2.3-distilled"))

    with pytest.raises(ModelError, match="its name says distilled"):
        read_model(named, "ltx-2.3")


def test_a_base_that_calls_itself_distilled_is_refused(own_miniature: Path) -> None:
    edit(own_miniature / "transformer/config.json", {"_name_or_path": "someone/ltx-2.3-22b-Distilled"})

    with pytest.raises(ModelError, match=r"training base: its name says distilled\. Train on the full"):
        read_model(own_miniature, "ltx-2.3")


def test_weights_with_scales_of_their_own_are_refused_whatever_is_allowed(own_miniature: Path) -> None:
    weights = load_numpy(own_miniature / TRANSFORMER_WEIGHTS)
    scales = {"transformer_blocks.0.attn1.to_q.weight_scale": weights["proj_out.bias"]}
    save_numpy(weights | scales, own_miniature / TRANSFORMER_WEIGHTS)

    with pytest.raises(
        ModelError, match=r"is quantised \(1 tensors of scales, first .*to_q\.weight_scale\), .*allowed"
    ):
        read_model(own_miniature, "ltx-2.3", allow_unsuitable_base=True)


def test_a_config_of_quantised_weights_is_refused(own_miniature: Path) -> None:
    edit(own_miniature / "transformer/config.json", {"quantization_config": {"quant_method": "bitsandbytes"}})

    with pytest.raises(ModelError, match=r"is quantised \(quantization_config in its config\)"):
        read_model(own_miniature, "ltx-2.3")


def test_a_text_encoder_of_another_size_is_refused(own_miniature: Path) -> None:
    edit(own_miniature / "connectors/config.json", {"text_proj_in_factor": 49})

    with pytest.raises(ModelError, match=r"has 2 layers of width 32; the connectors in .* read 48 of width 32"):
        read_model(own_miniature, "ltx-2.3")


def test_a_tensor_in_two_shards_is_refused(own_miniature: Path) -> None:
    whole = own_miniature / TRANSFORMER_WEIGHTS
    shards = [whole.with_name(f"part-{number}.safetensors") for number in (1, 2)]
    for shard in shards:
        shutil.copy(whole, shard)
    whole.unlink()
    weight_map = {str(number): shard.name for number, shard in enumerate(shards)}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(ModelError, match=r"is both in .*part-1\.safetensors and in .*part-2\.safetensors"):
        read_model(own_miniature, "ltx-2.3")


@pytest.mark.parametrize("weight_map", [None, {}, {"a": 3}])
def test_an_index_that_names_no_shards_is_refused(own_miniature: Path, weight_map: object) -> None:
    whole = own_miniature / TRANSFORMER_WEIGHTS
    whole.unlink()
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(ModelError, match="names no shards under weight_map"):
        read_model(own_miniature, "ltx-2.3")


def test_where_a_model_lies_does_not_change_what_its_cache_is_named_by(
    miniature_folder: Path, own_miniature: Path
) -> None:
    for component in ("text_encoder", "vae", "audio_vae", "transformer"):
        one, other = (
            component_files(read_model(folder, "ltx-2.3"), component) for folder in (miniature_folder, own_miniature)
        )
        assert [path.relative_to(miniature_folder) for path in one] == [
            path.relative_to(own_miniature) for path in other
        ]


def test_a_file_beside_the_tokenizer_does_not_change_what_prompts_depend_on(own_miniature: Path) -> None:
    before = component_files(read_model(own_miniature, "ltx-2.3"), "text_encoder")
    (own_miniature / "tokenizer/notes.json").write_text("{}")

    assert component_files(read_model(own_miniature, "ltx-2.3"), "text_encoder") == before


def test_a_folder_says_what_it_is_by_its_scheduler(miniature_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_model(miniature_folder, "ltx-2.3")

    assert caplog.messages == []


def test_an_eight_bit_base_is_refused(own_miniature: Path) -> None:
    import torch  # noqa: PLC0415 - the other tests of this module need no torch

    weights = load_file(own_miniature / TRANSFORMER_WEIGHTS)
    name = "transformer_blocks.0.attn1.to_q.weight"
    save_file(weights | {name: weights[name].to(torch.float8_e4m3fn)}, own_miniature / TRANSFORMER_WEIGHTS)

    with pytest.raises(ModelError, match="its weights are F8_E4M3"):
        read_model(own_miniature, "ltx-2.3")
    allowed = read_model(own_miniature, "ltx-2.3", allow_unsuitable_base=True)
    assert allowed.components["transformer"].weights[name].dtype == "F8_E4M3"


def test_a_config_without_a_fact_is_refused(own_miniature: Path) -> None:
    edit(own_miniature / "vae/config.json", {"spatial_compression_ratio": None})

    with pytest.raises(ModelError, match="says None for spatial_compression_ratio, which is of type int"):
        read_model(own_miniature, "ltx-2.3")


def test_an_unknown_family_is_refused(miniature_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"family 'ltx-9' is not known\. Known: ltx-2.3"):
        read_model(miniature_folder, "ltx-9")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a folder\. Give the folder"):
        read_model(tmp_path / "nowhere", "ltx-2.3")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model_index\.json"):
        read_model(tmp_path, "ltx-2.3")


def test_own_sizes_must_be_complete(own_miniature: Path) -> None:
    edit(own_miniature / "ltx_trainer.json", {"resolutions": {"low": {"1:1": [64, 64]}}})

    with pytest.raises(ModelError, match="need the levels low, medium, high"):
        read_model(own_miniature, "ltx-2.3")


def test_prompts_depend_on_tokenizer_and_connectors_too(miniature_folder: Path) -> None:
    files = component_files(read_model(miniature_folder, "ltx-2.3"), "text_encoder")

    assert {path.parent.name for path in files} == {"text_encoder", "tokenizer", "connectors"}
    assert miniature_folder / "text_encoder/model.safetensors" in files
    assert list(files) == sorted(files)


def test_video_latents_depend_on_the_video_vae_alone(miniature_folder: Path) -> None:
    vae = miniature_folder / "vae"

    assert component_files(read_model(miniature_folder, "ltx-2.3"), "vae") == (
        vae / "config.json",
        vae / "diffusion_pytorch_model.safetensors",
    )


def test_reading_a_model_loads_no_tensor_library(miniature_folder: Path) -> None:
    program = (
        "import sys, pathlib, ltx_trainer.models as models;"
        f"models.read_model(pathlib.Path({str(miniature_folder)!r}), 'ltx-2.3');"
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_previews_depend_on_all_decoders(miniature_folder: Path) -> None:
    files = component_files(read_model(miniature_folder, "ltx-2.3"), "decoders")

    assert {path.parent.name for path in files} == {"vae", "audio_vae", "vocoder"}


@pytest.mark.parametrize("name", ["LTX-2.3-fp8_e4m3fn", "ltx-2.3-22b-distilled-1.1", "ltx-nf4", "ltx_8bit", "LTX-INT8"])
def test_a_name_that_says_quantised_or_distilled_is_a_sign(name: str) -> None:
    assert name_signs([name])


@pytest.mark.parametrize("name", ["ltx-2.3-22b-dev", "deviation-int80", "undistilled", "ltx-128bit", "diffusers"])
def test_a_name_that_only_looks_like_it_is_none(name: str) -> None:
    assert not name_signs([name])
