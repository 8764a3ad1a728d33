"""Text to what the transformer reads: a language model's hidden states, then the connectors of both streams.

Shapes: l text tokens, k text tokens that are not padding, s hidden states side by side, d features of one stream.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration, PreTrainedTokenizerBase

from ltx_trainer.atomic import scratch_folder
from ltx_trainer.errors import ModelError
from ltx_trainer.models.facts import ModelFacts
from ltx_trainer.models.weights import load_component, load_transformers, placed, working_dtype
from ltx_trainer.tensorfile import read_tensors, write_tensors

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a long text that a message shows."""

SPOOL_BYTES = 8_000_000_000
"""Hidden states that may wait on disk at once. Those of the real model take 0.4 MB a token."""


def encode_prompts(
    facts: ModelFacts, texts: Sequence[str], device: torch.device, *, scratch: Path
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Give each text with its embeddings on the CPU, `video` and `audio` `[l d]`, in the order of `texts`.

    Hidden states wait on disk while the language model makes room for the connectors.

    Args:
        facts: Of the base model. A text that is longer than it reads is cut, with a warning.
        texts: Any texts; the empty one too.
        device: Where to compute.
        scratch: Where hidden states wait. One caller at a time has it; the next one waits.

    Raises:
        ModelError: The weights do not fit their configs, or the connectors leave padding in the prompt.
        OutOfResources: The disk of `scratch` is full.
    """
    waiting = list(texts)
    while waiting:
        with scratch_folder(scratch / "hidden-states") as spool:
            files = _spool_hidden_states(facts, waiting, spool, device)
            part, waiting = waiting[: len(files)], waiting[len(files) :]
            yield from zip(part, _connect(facts, files, device), strict=True)


@torch.no_grad()
def _spool_hidden_states(facts: ModelFacts, texts: Sequence[str], spool: Path, device: torch.device) -> list[Path]:
    """Write the hidden states of each text `[k s]`, padding left out, until there are `SPOOL_BYTES` of them."""
    tokenizer = AutoTokenizer.from_pretrained(facts.tokenizer, local_files_only=True, padding_side="left")
    dtype = working_dtype(facts.components["text_encoder"], device)
    encoder = load_transformers(Gemma3ForConditionalGeneration, facts.text_encoder, dtype, device)
    files: list[Path] = []
    num_bytes = 0
    with placed(encoder, device):
        for text in texts:
            if num_bytes >= SPOOL_BYTES:
                break
            ids, mask = tokenize(tokenizer, text, facts.max_text_tokens)
            output = encoder(
                input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, logits_to_keep=1
            )
            states = torch.stack(output.hidden_states, dim=-1).flatten(2)[mask.bool()]
            files.append(spool / f"{len(files)}.safetensors")
            write_tensors(files[-1], {"states": states})
            num_bytes += states.nbytes
    return files


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Give token ids and their mask `[1 l]`, padded on the tokenizer's side. What is cut off is warned of.

    Args:
        tokenizer: As the model was trained with.
        text: Any text; the empty one too.
        num_tokens: The length wanted.
    """
    # What is cut off is told below.
    length = len(tokenizer(text.strip(), verbose=False).input_ids)
    if length > num_tokens:
        logger.warning("The model reads %d of the %d tokens of the text %r.", num_tokens, length, f"{text[:SHOWN]}...")
    tokens = tokenizer(
        [text.strip()], padding="max_length", max_length=num_tokens, truncation=True, return_tensors="pt"
    )
    return tokens.input_ids, tokens.attention_mask


@torch.no_grad()
def _connect(facts: ModelFacts, files: Sequence[Path], device: torch.device) -> Iterator[dict[str, Tensor]]:
    component, num_tokens = facts.components["connectors"], facts.max_text_tokens
    dtype = working_dtype(component, device)
    connectors = load_component(LTX2TextConnectors, component, dtype, device)
    with placed(connectors, device):
        for file in files:
            states = read_tensors(file)["states"].to(device, dtype)
            padding = num_tokens - len(states)
            mask = torch.arange(num_tokens, device=device) >= padding
            padded = functional.pad(states, (0, 0, padding, 0))
            video, audio, visible = connectors(padded[None], mask[None].long(), padding_side="left")
            if not visible.all():
                raise ModelError(f"the connectors in {component.origin} have no registers to stand for padding.")
            yield {"video": video[0].cpu(), "audio": audio[0].cpu()}
