"""The text encoder of LTX-2.x: a Gemma 3 with its tokenizer, which must be as large as the connectors expect."""

from collections.abc import Mapping
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.text_encoder import TextEncoderKind

WHAT_WORKS = "Give a Gemma 3 12B in bfloat16 in model.text_encoder: weights, config and tokenizer in one folder."


def _check_size(config: Mapping[str, Any], components: Mapping[str, Component], source: str) -> None:
    connectors = components["connectors"]
    found, expected = _size(config), _expected_size(connectors)
    if found != expected:
        raise ModelError(
            f"{source} has {found[1]} layers of width {found[0]}; the connectors in {connectors.origin} read "
            f"{expected[1]} of width {expected[0]}. {WHAT_WORKS}"
        )


def _size(config: Mapping[str, Any]) -> tuple[object, object]:
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    return text.get("hidden_size"), text.get("num_hidden_layers")


def _expected_size(connectors: Component) -> tuple[object, object]:
    states = connectors.config.get("text_proj_in_factor")
    # The embedded tokens are a hidden state too.
    return connectors.config.get("caption_channels"), states - 1 if isinstance(states, int) else None


GEMMA = TextEncoderKind(
    family="LTX-2.3",
    model_type="gemma3",
    vocabularies=("tokenizer.json", "tokenizer.model"),
    check_size=_check_size,
    what_works=WHAT_WORKS,
)
