"""The text encoder of LTX-2.x: a Gemma 3 with its tokenizer, which must be as large as the connectors expect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.folder import (
    CONFIG_FILE,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    TRANSFORMERS_WEIGHTS,
    VOCABULARIES,
    read_component,
    read_json,
    weight_files,
)

MODEL_TYPE = "gemma3"
FIRST_FILES = (CONFIG_FILE, f"{TRANSFORMERS_WEIGHTS}.index.json", TOKENIZER_CONFIG)
"""Small files that show what a text encoder is and how its weights are split."""

WHAT_WORKS = "Give a Gemma 3 12B in bfloat16 in model.text_encoder: weights, config and tokenizer in one folder."


def read_gemma(folder: Path, tokenizer: Path, connectors: Component) -> Component:
    """Find the tensors of a text encoder, without loading one.

    Args:
        folder: Its config and weights.
        tokenizer: Its tokenizer, which may lie in the same folder.
        connectors: What reads its hidden states.

    Raises:
        ModelError: Files are missing or damaged, or it is another model than the connectors were trained with.
    """
    check_gemma(folder, connectors, str(folder))
    missing = [path.name for path in weight_files(folder, TRANSFORMERS_WEIGHTS) if not path.is_file()]
    if not (tokenizer / TOKENIZER_CONFIG).is_file():
        missing.append(TOKENIZER_CONFIG)
    if not any((tokenizer / name).is_file() for name in VOCABULARIES):
        missing.append(VOCABULARIES[0])
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. {WHAT_WORKS}")
    return read_component(folder, "text_encoder")


def check_gemma(folder: Path, connectors: Component, source: str) -> None:
    """Refuse another language model, or one of another size, by its config alone.

    Args:
        folder: Where its config is.
        connectors: What reads its hidden states.
        source: What to call it.

    Raises:
        ModelError: It is another model than the connectors were trained with.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{source} has no {CONFIG_FILE}. {WHAT_WORKS}")
    config = read_json(folder / CONFIG_FILE)
    if config.get("model_type") != MODEL_TYPE:
        raise ModelError(
            f"{source} is of the type {config.get('model_type')!r}; LTX-2.3 reads a {MODEL_TYPE}. {WHAT_WORKS}"
        )
    if "quantization_config" in config:
        raise ModelError(f"{source} is quantised, which its weights are not computed in here. {WHAT_WORKS}")
    found, expected = _size(config), _expected_size(connectors)
    if found != expected:
        raise ModelError(
            f"{source} has {found[1]} layers of width {found[0]}; the connectors in {connectors.origin} read "
            f"{expected[1]} of width {expected[0]}. {WHAT_WORKS}"
        )


def files_to_fetch(folder: Path) -> list[str]:
    """Name the files that make a text encoder whole, by what its `FIRST_FILES` in a folder say of its shards."""
    weights = (path.name for path in weight_files(folder, TRANSFORMERS_WEIGHTS))
    return [*FIRST_FILES, *TOKENIZER_FILES, *weights]


def _size(config: Mapping[str, Any]) -> tuple[object, object]:
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    return text.get("hidden_size"), text.get("num_hidden_layers")


def _expected_size(connectors: Component) -> tuple[object, object]:
    states = connectors.config.get("text_proj_in_factor")
    # The embedded tokens are a hidden state too.
    return connectors.config.get("caption_channels"), states - 1 if isinstance(states, int) else None
