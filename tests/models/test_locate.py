"""Where a base model lies, and what is taken for one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from ltx_trainer.errors import ModelError
from ltx_trainer.models import Located, component_files, locate_model, read_model
from ltx_trainer.models.family import open_family
from tests.models.unified_file import TINY_CONFIG, build_tiny, write_changed, write_unified

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unified_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unified(tmp_path_factory.mktemp("unified") / "ltx-2.3-dev.safetensors", build_tiny())


@pytest.fixture(scope="module")
def gemma(miniature_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 3 as wide as the tiny unified file's connectors expect, with its tokenizer beside its weights."""
    folder = tmp_path_factory.mktemp("gemma")
    config: Any = Gemma3Config.from_pretrained(miniature_folder / "text_encoder")
    config.text_config.hidden_size = TINY_CONFIG["transformer"]["caption_channels"]
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    shutil.copytree(miniature_folder / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def locate(base: Path, tmp_path: Path, *, text_encoder: str | None = None, **options: Any) -> Located:
    return locate_model(str(base), "ltx-2.3", tmp_path, text_encoder=text_encoder, **options)


def test_a_folder_is_where_it_says(miniature_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(miniature_folder.parent))

    assert locate(miniature_folder, tmp_path).path == miniature_folder
    assert locate_model(f"~/{miniature_folder.name}", "ltx-2.3", tmp_path) == Located(
        miniature_folder, f"~/{miniature_folder.name}"
    )


@pytest.mark.parametrize("base", ["./ltx", "/models/ltx", "~/ltx", "models/ltx.safetensors", "ltx"])
def test_a_path_to_nothing_is_said_to_be_missing(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(ModelError, match=r"ltx.* is not there\. Give a folder .*its id on the hub .*miniature\."):
        locate_model(base, "ltx-2.3", tmp_path)


def test_the_miniature_is_written_once(tmp_path: Path) -> None:
    located = locate_model("miniature", "ltx-2.3", tmp_path)
    index = located.path / "model_index.json"
    written = index.stat().st_mtime_ns

    assert locate_model("miniature", "ltx-2.3", tmp_path) == located
    assert index.stat().st_mtime_ns == written
    facts = read_model(located, "ltx-2.3")
    assert (facts.name, facts.source, facts.revision) == ("miniature ltx-2.3", "miniature", None)


def test_the_miniature_of_other_weights_lies_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []
    for weights in ("first", "second"):
        (tmp_path / weights).write_text(weights)
        monkeypatch.setattr("ltx_trainer.models.locate.trained_weights", lambda _, name=weights: tmp_path / name)
        folders.append(locate_model("miniature", "ltx-2.3", tmp_path).path)

    assert folders[0] != folders[1]
    assert all((folder / "model_index.json").is_file() for folder in folders)


def test_a_family_without_a_miniature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no miniature of 'ltx-9'"):
        locate_model("miniature", "ltx-9", tmp_path)


def test_a_unified_file_is_a_model_with_the_text_encoder_that_it_is_given(
    unified_file: Path, gemma: Path, tmp_path: Path
) -> None:
    facts = read_model(locate(unified_file, tmp_path, text_encoder=str(gemma)), "ltx-2.3")
    family = open_family(facts)

    ((_, prompt),) = family.encode_prompts(["a red ball"], CPU, scratch=tmp_path)
    with family.transformer(CPU, torch.float32) as transformer:
        assert len(list(transformer.get_submodule("transformer_blocks").children())) == facts.num_blocks == 2
    with family.video_codec(CPU) as codec:
        latents = codec.encode(torch.zeros(9, 64, 64, 3, dtype=torch.uint8))

    assert (facts.name, facts.source) == ("ltx-2.3-dev", str(unified_file))
    assert prompt["video"].shape == (facts.max_text_tokens, 64)
    assert latents.shape == (facts.video_channels, 2, 2, 2)
    assert facts.audio is not None
    assert (facts.audio.rate_hz, facts.audio.latent_mel_bins) == (8000, 16)
    assert facts.resolutions["high"]["1:1"].width == 960


def test_prompts_of_a_unified_file_depend_on_both_files(unified_file: Path, gemma: Path, tmp_path: Path) -> None:
    facts = read_model(locate(unified_file, tmp_path, text_encoder=str(gemma)), "ltx-2.3")
    names = [path.name for path in component_files(facts, "text_encoder")]

    assert names[0] == unified_file.name
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    assert len(names) == len(set(names))
    assert component_files(facts, "vae") == component_files(facts, "transformer") == (unified_file,)


def test_a_unified_file_without_a_text_encoder_is_refused(unified_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the text encoder \./nowhere is not a folder\. Give a Gemma 3"):
        locate_model(str(unified_file), "ltx-2.3", tmp_path, text_encoder="./nowhere")
    with pytest.raises(ModelError, match=r"a unified file, which has no text encoder of its own\. Give a Gemma 3"):
        read_model(unified_file, "ltx-2.3")


def test_a_text_encoder_of_another_size_is_refused(unified_file: Path, miniature_folder: Path, tmp_path: Path) -> None:
    located = locate(unified_file, tmp_path, text_encoder=str(miniature_folder / "text_encoder"))

    with pytest.raises(ModelError, match=r"has 2 layers of width 32; the connectors in .* read 2 of width 24"):
        read_model(located, "ltx-2.3")


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_text_encoder_that_lacks_a_file_is_refused(
    unified_file: Path, gemma: Path, tmp_path: Path, lost: str
) -> None:
    own = Path(shutil.copytree(gemma, tmp_path / "gemma"))
    (own / lost).unlink()

    with pytest.raises(ModelError, match=rf"(lacks|has no) {lost}\. Give a Gemma 3 12B"):
        read_model(locate(unified_file, tmp_path, text_encoder=str(own)), "ltx-2.3")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config | {"model_type": "gemma4"}, "is of the type 'gemma4'; LTX-2.3 reads a gemma3"),
        (lambda config: config | {"quantization_config": {"bits": 4}}, "is quantised"),
    ],
)
def test_another_text_encoder_is_refused(
    unified_file: Path,
    gemma: Path,
    tmp_path: Path,
    edit: Callable[[dict[str, object]], dict[str, object]],
    message: str,
) -> None:
    own = Path(shutil.copytree(gemma, tmp_path / "gemma"))
    config = own / "config.json"
    config.write_text(json.dumps(edit(json.loads(config.read_text()))))

    with pytest.raises(ModelError, match=message):
        read_model(locate(unified_file, tmp_path, text_encoder=str(own)), "ltx-2.3")


def test_a_distilled_unified_file_is_refused_by_name_and_by_metadata(
    unified_file: Path, gemma: Path, tmp_path: Path
) -> None:
    named = Path(shutil.copy(unified_file, tmp_path / "ltx-2.3-distilled.safetensors"))
    told = write_changed(
        tmp_path / "ltx-2.3.safetensors",
        unified_file,
        {"config": json.dumps(TINY_CONFIG), "model_version": "2.3.0-distilled"},
        add=(),
        keep=lambda _: True,
    )

    # Before the text encoder, which would have to be fetched.
    with pytest.raises(ModelError, match=r"unsuitable as a training base: its name says distilled"):
        locate(named, tmp_path, text_encoder="nobody/nothing")
    with pytest.raises(ModelError, match=r"unsuitable as a training base: its metadata says 2\.3\.0-distilled"):
        locate(told, tmp_path, text_encoder="nobody/nothing")
    with pytest.raises(ModelError, match=r"model\.version says 0\.9\.5, and .* is LTX-2\.3"):
        locate(unified_file, tmp_path, text_encoder="nobody/nothing", version="0.9.5")
    located = locate(named, tmp_path, text_encoder=str(gemma), allow_unsuitable_base=True)
    with pytest.raises(ModelError, match=r"unsuitable as a training base: its name says distilled"):
        read_model(located, "ltx-2.3")
    assert read_model(located, "ltx-2.3", allow_unsuitable_base=True).name == "ltx-2.3-distilled"


def test_a_unified_file_that_does_not_say_what_it_is_is_warned_of_once(
    unified_file: Path, gemma: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Path(shutil.copy(unified_file, tmp_path / "ltx-2.3.safetensors"))

    read_model(locate(unified_file, tmp_path, text_encoder=str(gemma)), "ltx-2.3")
    assert caplog.messages == []

    read_model(locate(plain, tmp_path, text_encoder=str(gemma)), "ltx-2.3")
    (message,) = caplog.messages
    assert "does not say whether it is the full (dev) or a distilled model" in message


def test_a_lora_given_as_a_base_is_refused(tmp_path: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 8)}, lora)

    with pytest.raises(ModelError, match=r"is a LoRA .*name it in model\.lora"):
        locate(lora, tmp_path)


def test_gguf_is_refused_as_a_file_and_as_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "folder/ltx-2.3-Q4.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")

    for base in (file, file.parent):
        with pytest.raises(ModelError, match="is GGUF, whose weights are quantised"):
            locate(base, tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"pickle")

    with pytest.raises(ModelError, match=r"model\.ckpt is not a \.safetensors file"):
        locate(tmp_path / "model.ckpt", tmp_path)
