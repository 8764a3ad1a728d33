"""A text encoder in a folder: weights, config and tokenizer, beside each other or in a folder each.

Only JSON and the headers of weight files are read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.folder import (
    CONFIG_FILE,
    TOKENIZER_CONFIG,
    TRANSFORMERS_WEIGHTS,
    read_component,
    read_json,
    tokenizer_names,
    weight_files,
)

ENCODER_FOLDER, TOKENIZER_FOLDER = "text_encoder", "tokenizer"
"""What the parts are called in a folder that holds both."""


@dataclass(frozen=True)
class TextEncoderKind:
    """Which language model a family reads.

    Attributes:
        family: What to call the family in messages.
        model_type: As its config says it.
        vocabularies: Files that its tokenizer may lie in; one is enough.
        check_size: Refuses one of another size than the parts expect, given its config, the parts and what to call it.
        what_works: A sentence for messages.
    """

    family: str
    model_type: str
    vocabularies: tuple[str, ...]
    check_size: Callable[[Mapping[str, Any], Mapping[str, Component], str], None]
    what_works: str

    @property
    def first_files(self) -> tuple[str, ...]:
        """Name the small files that show what a text encoder is and how its weights are split."""
        small = (CONFIG_FILE, f"{TRANSFORMERS_WEIGHTS}.index.json")
        return (
            *small,
            TOKENIZER_CONFIG,
            *(f"{ENCODER_FOLDER}/{name}" for name in small),
            f"{TOKENIZER_FOLDER}/{TOKENIZER_CONFIG}",
        )

    def files_to_fetch(self, folder: Path) -> list[str]:
        """Name the files that make a text encoder whole, by what its `first_files` in a folder say of its shards."""
        encoder, tokenizer = places(folder)
        weights = [path.relative_to(folder).as_posix() for path in weight_files(encoder, TRANSFORMERS_WEIGHTS)]
        vocabulary = [(tokenizer / name).relative_to(folder).as_posix() for name in tokenizer_names(self.vocabularies)]
        return [*self.first_files, *vocabulary, *weights]


def places(folder: Path) -> tuple[Path, Path]:
    """Give the folders of the weights and of the tokenizer: `folder` for both, or one in it for each."""
    if (folder / ENCODER_FOLDER / CONFIG_FILE).is_file():
        return folder / ENCODER_FOLDER, folder / TOKENIZER_FOLDER
    return folder, folder


def read_text_encoder(
    kind: TextEncoderKind, folder: Path, tokenizer: Path, components: Mapping[str, Component]
) -> Component:
    """Find the tensors of a text encoder, without loading one.

    Args:
        kind: Which it must be.
        folder: Its config and weights.
        tokenizer: Its tokenizer, which may lie in the same folder.
        components: What reads its hidden states.

    Raises:
        ModelError: Files are missing or damaged, or it is another model than the components were trained with.
    """
    check_text_encoder(kind, folder, components, str(folder))
    missing = [path.name for path in weight_files(folder, TRANSFORMERS_WEIGHTS) if not path.is_file()]
    if not (tokenizer / TOKENIZER_CONFIG).is_file():
        missing.append(TOKENIZER_CONFIG)
    if not any((tokenizer / name).is_file() for name in kind.vocabularies):
        missing.append(kind.vocabularies[0])
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. {kind.what_works}")
    return read_component(folder, ENCODER_FOLDER)


def check_text_encoder(kind: TextEncoderKind, folder: Path, components: Mapping[str, Component], source: str) -> None:
    """Refuse another language model, or one of another size, by its config alone.

    Args:
        kind: Which it must be.
        folder: Where its config is.
        components: What reads its hidden states.
        source: What to call it.

    Raises:
        ModelError: It is another model than the components were trained with.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{source} has no {CONFIG_FILE}. {kind.what_works}")
    config = read_json(folder / CONFIG_FILE)
    if config.get("model_type") != kind.model_type:
        raise ModelError(
            f"{source} is of the type {config.get('model_type')!r}; {kind.family} reads a {kind.model_type}. "
            f"{kind.what_works}"
        )
    if "quantization_config" in config:
        raise ModelError(f"{source} is quantised, which its weights are not computed in here. {kind.what_works}")
    kind.check_size(config, components, source)
