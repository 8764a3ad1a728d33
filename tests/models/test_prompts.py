"""Prompt embeddings, held against the library's own pipeline."""

import logging
from pathlib import Path

import pytest
import torch
from diffusers import LTX2Pipeline

from ltx_trainer.models.family import Family

CPU = torch.device("cpu")
TEXTS = ["a red ball rolls", "", "  waves crash on a rocky shore ✨ ", "a person walks through a quiet forest"]


@torch.no_grad()
@pytest.mark.parametrize("texts_at_once", [3, 128])
def test_embeddings_equal_those_of_the_librarys_pipeline(
    family: Family, miniature_folder: Path, texts_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltx_trainer.models.prompts.TEXTS_AT_ONCE", texts_at_once)
    pipeline = LTX2Pipeline.from_pretrained(miniature_folder, local_files_only=True)

    encoded = list(family.encode_prompts(TEXTS, CPU))

    assert [text for text, _ in encoded] == TEXTS
    for text, embeddings in encoded:
        states, mask, *_ = pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=family.facts.max_text_tokens
        )
        video, audio, _ = pipeline.connectors(states, mask, padding_side="left")
        torch.testing.assert_close(embeddings, {"video": video[0], "audio": audio[0]}, atol=1e-5, rtol=0)
        assert len(embeddings["video"]) == family.facts.max_text_tokens


def test_different_texts_differ(family: Family) -> None:
    (_, first), (_, second) = family.encode_prompts(["a red ball", "a blue ball"], CPU)

    assert (first["video"] - second["video"]).abs().max() > 1e-3
    assert (first["audio"] - second["audio"]).abs().max() > 1e-3


def test_no_text_gives_nothing(family: Family) -> None:
    assert list(family.encode_prompts([], CPU)) == []


def test_a_text_that_is_too_long_is_cut_with_a_warning(family: Family, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ltx_trainer"):
        ((_, embeddings),) = family.encode_prompts(["word " * 200], CPU)

    assert "The model reads 128 of the" in caplog.text
    assert len(embeddings["video"]) == 128
