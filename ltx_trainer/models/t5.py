"""The text encoder of LTX-Video: the encoder of a T5 with its tokenizer, as wide as the transformer reads."""

from collections.abc import Mapping
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.text_encoder import TextEncoderKind

DEFAULT_WIDTH = 4096
"""Of the transformer's captions, where its config does not say."""

WHAT_WORKS = (
    "Give a T5 v1.1 XXL in model.text_encoder: weights (safetensors), config and tokenizer in one folder, or in its "
    "folders text_encoder and tokenizer."
)


def _check_size(config: Mapping[str, Any], components: Mapping[str, Component], source: str) -> None:
    transformer = components["transformer"]
    found, expected = config.get("d_model"), transformer.config.get("caption_channels", DEFAULT_WIDTH)
    if found != expected:
        raise ModelError(
            f"{source} is of width {found}; the transformer in {transformer.origin} reads {expected}. {WHAT_WORKS}"
        )


T5 = TextEncoderKind(
    family="LTX-Video",
    model_type="t5",
    vocabularies=("tokenizer.json", "spiece.model"),
    check_size=_check_size,
    what_works=WHAT_WORKS,
)
