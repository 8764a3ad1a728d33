"""Prompt embeddings, held against the library's own pipeline."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import LTX2Pipeline

from ltx_trainer.errors import OutOfResources
from ltx_trainer.models.family import Family

CPU = torch.device("cpu")
TEXTS = ["a red ball rolls", "", "  waves crash on a rocky shore ✨ ", "a person walks through a quiet forest"]


@torch.no_grad()
@pytest.mark.parametrize("spool_bytes", [4000, 10**9])
def test_embeddings_equal_those_of_the_librarys_pipeline(
    family: Family, miniature_folder: Path, spool_bytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ltx_trainer.models.prompts.SPOOL_BYTES", spool_bytes)
    pipeline = LTX2Pipeline.from_pretrained(miniature_folder, local_files_only=True)

    encoded = list(family.encode_prompts(TEXTS, CPU, scratch=tmp_path))

    assert [text for text, _ in encoded] == TEXTS
    for text, embeddings in encoded:
        states, mask, *_ = pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=family.facts.max_text_tokens
        )
        video, audio, _ = pipeline.connectors(states, mask, padding_side="left")
        torch.testing.assert_close(embeddings, {"video": video[0], "audio": audio[0]}, atol=1e-5, rtol=0)
        assert len(embeddings["video"]) == family.facts.max_text_tokens


@pytest.mark.parametrize(("spool_bytes", "at_once"), [(1, [1, 1, 1, 1]), (10**9, [4, 4, 4, 4])])
def test_no_more_hidden_states_wait_than_the_disk_is_meant_to_hold(
    family: Family, spool_bytes: int, at_once: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ltx_trainer.models.prompts.SPOOL_BYTES", spool_bytes)

    found = [len(list(tmp_path.rglob("*.safetensors"))) for _ in family.encode_prompts(TEXTS, CPU, scratch=tmp_path)]

    assert found == at_once
    assert list(tmp_path.rglob("*.safetensors")) == []


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
