"""Texts in batches of like length, and as the tokens that a text encoder reads.

Shapes: b texts, l tokens.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a long text that a message shows."""

MAX_BATCH_TEXTS = 32
"""How many texts are read at once."""

MAX_BATCH_TOKENS = 2048
"""How many tokens are, with padding. The hidden states of as many take 0.8 GB of LTX-2.3's text encoder."""


def batches_by_length(num_tokens: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Say which texts are read together, the shortest first, so that little is padded.

    The same texts give the same batches, in whatever order they come. A text longer than `MAX_BATCH_TOKENS` is alone.

    Args:
        num_tokens: Of each text, as many as are read.
    """
    batches: list[tuple[str, ...]] = []
    for text in sorted(num_tokens, key=lambda text: (num_tokens[text], text)):
        last = batches[-1] if batches else ()
        # It is the longest so far, so the batch is padded to it.
        fits = len(last) < MAX_BATCH_TEXTS and (len(last) + 1) * num_tokens[text] <= MAX_BATCH_TOKENS
        if batches and fits:
            batches[-1] = (*last, text)
        else:
            batches.append((text,))
    return batches


def asked_of(texts: Iterable[str], wanted: Collection[str] | None) -> dict[str, None]:
    """Give the texts that are wanted, each once and in their order: all of them for None."""
    asked = dict.fromkeys(text for text in texts if wanted is None or text in wanted)
    assert wanted is None or len(asked) == len(set(wanted)), "wanted texts are among the texts"
    return asked


def with_any_of(batches: Iterable[tuple[str, ...]], asked: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Give the batches that hold an asked text, whole, because what is read together is rounded together."""
    return (batch for batch in batches if any(text in asked for text in batch))


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, int]:
    """Count the tokens of each text, however many they are."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    # What is cut off is told by `tell_cut`, in our words.
    ids = tokenizer([text.strip() for text in distinct], verbose=False).input_ids
    return {text: len(own) for text, own in zip(distinct, ids, strict=True)}


def tell_cut(num_tokens: Mapping[str, int], at_most: int) -> None:
    """Warn of each text that is longer than what is read of it."""
    for text, count in num_tokens.items():
        if count > at_most:
            logger.warning("The model reads %d of the %d tokens of the text %r.", at_most, count, f"{text[:SHOWN]}...")


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], at_most: int, *, padding: Literal["longest", "max_length"]
) -> tuple[Tensor, Tensor]:
    """Give token ids and their mask `[b l]`, padded on the tokenizer's side.

    Args:
        tokenizer: As the model was trained with.
        texts: Any texts; the empty one too.
        at_most: Tokens that are read of a text. The rest is cut off.
        padding: To the longest of the texts, or to `at_most`.
    """
    tokens = tokenizer(
        [text.strip() for text in texts], padding=padding, max_length=at_most, truncation=True, return_tensors="pt"
    )
    return tokens.input_ids, tokens.attention_mask
