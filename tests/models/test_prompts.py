"""Prompt embeddings, held against the library's own pipeline."""

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import LTX2Pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration

from ltx_trainer.errors import OutOfResources
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from tests.families import both_families

CPU = torch.device("cpu")
TEXTS = ["a red ball rolls", "", "  waves crash on a rocky shore ✨ ", "a person walks through a quiet forest"]


@torch.no_grad()
@pytest.mark.parametrize("spool_bytes", [4000, 10**9])
def test_embeddings_equal_those_of_the_librarys_pipeline(
    family: Family, miniature_folder: Path, spool_bytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ltx_trainer.models.prompts.SPOOL_BYTES", spool_bytes)
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TEXTS", 2)
    pipeline = LTX2Pipeline.from_pretrained(miniature_folder, local_files_only=True)

    encoded = list(family.encode_prompts(TEXTS, CPU, scratch=tmp_path))

    assert [text for text, _ in encoded] == [text for batch in family.prompt_batches(TEXTS) for text in batch]
    assert {text for text, _ in encoded} == {*TEXTS}
    for text, embeddings in encoded:
        states, mask, *_ = pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=family.facts.max_text_tokens
        )
        video, audio, _ = pipeline.connectors(states, mask, padding_side="left")
        torch.testing.assert_close(embeddings, {"video": video[0], "audio": audio[0]}, atol=1e-5, rtol=0)
        assert len(embeddings["video"]) == family.facts.max_text_tokens


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_what_is_padded_less_is_read_as_if_it_were_padded_in_full(
    own_miniature: Path, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    """With attention that sees four tokens.

    In bfloat16 the difference is 0.003 of the root mean square; 0.007 if tokens do not stand where they do then.
    """
    folder = own_miniature / "text_encoder"
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["sliding_window"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    family = open_family(read_model(own_miniature, "ltx-2.3"))
    tokenizer = AutoTokenizer.from_pretrained(own_miniature / "tokenizer", padding_side="left")
    encoder = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=dtype)

    scratch = tmp_path / "scratch"

    found: list[Tensor] = []
    for _ in family.encode_prompts(TEXTS, CPU, scratch=scratch):
        found = [load_file(file)["states"].float() for file in sorted(scratch.rglob("*.safetensors"))]

    expected = []
    for text in itertools.chain(*family.prompt_batches(TEXTS)):
        tokens = tokenizer([text.strip()], padding="max_length", max_length=64, return_tensors="pt")
        states = torch.stack(encoder(**tokens, output_hidden_states=True).hidden_states, dim=-1)
        expected.append(states[tokens.attention_mask.bool()].flatten(1).float())
    assert [states.shape for states in found] == [states.shape for states in expected]
    difference = torch.cat(found) - torch.cat(expected)
    assert difference.square().mean().sqrt() < tolerance * torch.cat(expected).square().mean().sqrt()


@pytest.mark.parametrize(
    ("spool_bytes", "batch_texts", "at_once"), [(1, 1, [1] * 4), (1, 2, [2] * 4), (10**9, 1, [4] * 4)]
)
def test_no_more_hidden_states_wait_than_the_disk_is_meant_to_hold(
    family: Family,
    spool_bytes: int,
    batch_texts: int,
    at_once: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("ltx_trainer.models.prompts.SPOOL_BYTES", spool_bytes)
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TEXTS", batch_texts)

    found = [len(list(tmp_path.rglob("*.safetensors"))) for _ in family.encode_prompts(TEXTS, CPU, scratch=tmp_path)]

    assert found == at_once
    assert list(tmp_path.rglob("*.safetensors")) == []


@both_families
def test_a_text_has_the_same_bits_whichever_of_its_batch_are_wanted(family: Family, tmp_path: Path) -> None:
    together = dict(family.encode_prompts(TEXTS, CPU, scratch=tmp_path))

    for text in TEXTS:
        ((found, embeddings),) = family.encode_prompts(TEXTS[::-1], CPU, scratch=tmp_path, wanted=[text])

        assert found == text
        assert all(torch.equal(embeddings[name], together[text][name]) for name in embeddings)


def test_what_a_killed_run_left_is_taken_away(family: Family, tmp_path: Path) -> None:
    left = tmp_path / "hidden-states/7.safetensors"
    left.parent.mkdir()
    left.write_bytes(b"left")

    list(family.encode_prompts(["a red ball"], CPU, scratch=tmp_path))

    assert not left.exists()


def test_a_full_disk_is_told_from_a_bug(family: Family, small_disk: Callable[[int], Path]) -> None:
    with pytest.raises(OutOfResources, match="No space left on the disk"):
        list(family.encode_prompts(["a red ball " * 20], CPU, scratch=small_disk(16)))


def test_a_device_may_be_named_by_its_index(family: Family, tmp_path: Path) -> None:
    ((_, embeddings),) = family.encode_prompts(["a red ball"], torch.device("cpu:0"), scratch=tmp_path)

    assert embeddings["video"].device == CPU


def test_different_texts_differ(family: Family, tmp_path: Path) -> None:
    (_, first), (_, second) = family.encode_prompts(["a red ball", "a blue ball"], CPU, scratch=tmp_path)

    assert (first["video"] - second["video"]).abs().max() > 1e-3
    assert (first["audio"] - second["audio"]).abs().max() > 1e-3


def test_no_text_gives_nothing(family: Family, tmp_path: Path) -> None:
    assert list(family.encode_prompts([], CPU, scratch=tmp_path)) == []


def test_a_text_that_is_too_long_is_cut_with_a_warning(
    family: Family, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="ltx_trainer"):
        ((_, embeddings),) = family.encode_prompts(["word " * 200], CPU, scratch=tmp_path)

    assert "The model reads 64 of the" in caplog.text
    assert len(embeddings["video"]) == 64
