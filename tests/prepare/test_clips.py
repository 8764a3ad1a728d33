"""What the model reads with each clip."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Clips, Example

Prepare = Callable[..., Clips]
Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("trigger_phrase", "caption", "read"),
    [
        ("", "a red cube", "a red cube"),
        ("TOK", "a red cube", "TOK a red cube"),
        ("  TOK ", "a red cube", "TOK a red cube"),
        ("TOK", "TOK a red cube", "TOK a red cube"),
        ("TOK", "tok, a red cube", "tok, a red cube"),
        ("TOK", "TOK", "TOK"),
        ("cat", "category theory", "cat category theory"),
        ("TOK:", "TOK:a red cube", "TOK:a red cube"),
        ("a.b (c)", "a.b (c) cube", "a.b (c) cube"),
        ("a.b", "axb cube", "a.b axb cube"),
        ("ÄRA", "ära der Würfel", "ära der Würfel"),
        ("TOK", None, "TOK"),
        ("", None, ""),
    ],
)
def test_the_trigger_phrase_stands_before_a_caption_that_does_not_begin_with_it(
    prepare: Prepare, make_image: Make, as_example: Callable[..., Example], trigger_phrase: str, caption: str, read: str
) -> None:
    clips = prepare(as_example(make_image("a"), caption), trigger_phrase=trigger_phrase)
    assert [clip.caption for clip in clips.clips] == [read]


def test_clips_of_the_empty_text_are_warned_of_once_with_their_number(
    prepare: Prepare, make_image: Make, as_example: Callable[..., Example], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(as_example(make_image("a"), None), as_example(make_image("bb"), None), as_example(make_image("ccc")))
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert warning == (
        "2 of 3 clips have neither a caption nor a trigger phrase, and are trained on the empty text. "
        "captions.auto: true lets a model write captions."
    )


def test_a_trigger_phrase_alone_is_not_warned_of(
    prepare: Prepare, make_image: Make, as_example: Callable[..., Example], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(as_example(make_image("a"), None), trigger_phrase="TOK")
    assert not caplog.records
