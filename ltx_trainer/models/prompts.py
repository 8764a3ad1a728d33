"""Text to what the transformer reads: a language model's hidden states, then the connectors of both streams.

Shapes: l text tokens, k text tokens that are not padding, s hidden states side by side, d features of one stream.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration, PreTrainedTokenizerBase

from ltx_trainer.atomic import scratch_folder
from ltx_trainer.errors import ModelError
from ltx_trainer.models.facts import ModelFacts
from ltx_trainer.models.text_batches import asked_of, batches_by_length, count_tokens, tell_cut, tokenize, with_any_of
from ltx_trainer.models.weights import load_component, load_transformers, placed, working_dtype
from ltx_trainer.tensorfile import read_tensors, write_tensors

SPOOL_BYTES = 8_000_000_000
"""Hidden states that may wait on disk at once. Those of the real model take 0.4 MB a token."""


def prompt_batches(facts: ModelFacts, texts: Iterable[str]) -> list[tuple[str, ...]]:
    """Say which texts are read together, by the tokens that the language model reads of each.

    Args:
        facts: Of the base model.
        texts: Any texts; the empty one too.
    """
    return _batches(facts, count_tokens(_load_tokenizer(facts), texts))


def _batches(facts: ModelFacts, num_tokens: Mapping[str, int]) -> list[tuple[str, ...]]:
    return batches_by_length({text: min(count, facts.max_text_tokens) for text, count in num_tokens.items()})


def encode_prompts(
    facts: ModelFacts,
    texts: Sequence[str],
    device: torch.device,
    *,
    scratch: Path,
    wanted: Collection[str] | None = None,
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Give each wanted text with its embeddings on the CPU, `video` and `audio` `[l d]`, in the order of the batches.

    Hidden states wait on disk while the language model makes room for the connectors.

    Args:
        facts: Of the base model. A text that is longer than it reads is cut, with a warning.
        texts: Any texts; the empty one too.
        device: Where to compute.
        scratch: Where hidden states wait. One caller at a time has it; the next one waits.
        wanted: Those to give; None for all. Each batch that holds one of them is computed whole.

    Raises:
        ModelError: The weights do not fit their configs, or the connectors leave padding in the prompt.
        OutOfResources: The disk of `scratch` is full.
    """
    asked = asked_of(texts, wanted)
    tokenizer = _load_tokenizer(facts)
    num_tokens = count_tokens(tokenizer, texts)
    tell_cut({text: num_tokens[text] for text in asked}, facts.max_text_tokens)
    waiting = list(with_any_of(_batches(facts, num_tokens), asked))
    while waiting:
        with scratch_folder(scratch / "hidden-states") as spool:
            read = _spool_hidden_states(facts, tokenizer, waiting, asked, spool, device)
            waiting = waiting[len(read) :]
            files = {text: file for batch in read for text, file in batch.items()}
            yield from zip(files, _connect(facts, files.values(), device), strict=True)


def _load_tokenizer(facts: ModelFacts) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(facts.tokenizer, local_files_only=True, padding_side="left")


@torch.no_grad()
def _spool_hidden_states(
    facts: ModelFacts,
    tokenizer: PreTrainedTokenizerBase,
    batches: Sequence[tuple[str, ...]],
    asked: Collection[str],
    spool: Path,
    device: torch.device,
) -> list[dict[str, Path]]:
    """Write the hidden states of asked texts `[k s]`, padding left out, until there are `SPOOL_BYTES` of them.

    Returns:
        The files of each batch that was read, by their texts.
    """
    dtype = working_dtype(facts.components["text_encoder"], device)
    encoder = load_transformers(Gemma3ForConditionalGeneration, facts.text_encoder, dtype, device)
    read: list[dict[str, Path]] = []
    num_bytes = num_files = 0
    with placed(encoder, device):
        for batch in batches:
            if num_bytes >= SPOOL_BYTES:
                break
            read.append({})
            for text, states in zip(batch, _read_batch(facts, tokenizer, encoder, batch), strict=True):
                if text in asked:
                    read[-1][text] = file = spool / f"{num_files}.safetensors"
                    write_tensors(file, {"states": states})
                    num_files, num_bytes = num_files + 1, num_bytes + states.nbytes
    return read


def _read_batch(
    facts: ModelFacts,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Gemma3ForConditionalGeneration,
    texts: Sequence[str],
) -> Iterator[Tensor]:
    """Give the hidden states of each text `[k s]`, padded no further than the longest of them."""
    ids, mask = (
        tensor.to(encoder.device) for tensor in tokenize(tokenizer, texts, facts.max_text_tokens, padding="longest")
    )
    output = encoder(
        input_ids=ids,
        attention_mask=mask,
        # Where tokens stand when all is padded, as the base model was trained. Attention only knows distances, but
        # rotations by other angles are rounded otherwise.
        position_ids=torch.arange(facts.max_text_tokens, device=ids.device)[None, -ids.shape[1] :],
        output_hidden_states=True,
        logits_to_keep=1,
        use_cache=False,
    )
    for index, visible in enumerate(mask.bool()):
        # One text at a time, or the states of all would lie in memory twice.
        yield torch.stack([layer[index, visible] for layer in output.hidden_states], dim=-1).flatten(1)


@torch.no_grad()
def _connect(facts: ModelFacts, files: Iterable[Path], device: torch.device) -> Iterator[dict[str, Tensor]]:
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
