"""Text to what the transformer reads: a language model's hidden states, then the connectors of both streams.

Shapes: l text tokens, k text tokens that are not padding, s hidden states side by side, d features of one stream.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration, PreTrainedTokenizerBase

from ltx_trainer.errors import ModelError
from ltx_trainer.models.weights import load_diffusers, load_transformers, placed, working_dtype

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a long text that a message shows."""

# Hidden states of the real model take 0.4 MB a token on disk: about 10 GB for this many captions.
TEXTS_AT_ONCE = 128


def encode_prompts(
    folder: Path, texts: Sequence[str], num_tokens: int, device: torch.device
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Give each text with its embeddings on the CPU, `video` and `audio` `[l d]`, in the order of `texts`.

    Hidden states wait on disk while the language model makes room for the connectors.

    Args:
        folder: The base model.
        texts: Any texts; the empty one too.
        num_tokens: The length l of every prompt. A longer text is cut, with a warning.
        device: Where to compute.

    Raises:
        ModelError: The weights do not fit their configs, or the connectors leave padding in the prompt.
    """
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[start : start + TEXTS_AT_ONCE]
        with TemporaryDirectory(prefix="ltx-trainer-prompts-") as spool:
            files = [Path(spool) / f"{index}.safetensors" for index in range(len(part))]
            _spool_hidden_states(folder, part, files, num_tokens, device)
            yield from zip(part, _connect(folder, files, num_tokens, device), strict=True)


@torch.no_grad()
def _spool_hidden_states(
    folder: Path, texts: Sequence[str], files: Sequence[Path], num_tokens: int, device: torch.device
) -> None:
    """Write the hidden states of each text `[k s]`, padding left out."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True, padding_side="left")
    dtype = working_dtype(folder / "text_encoder", device)
    encoder = load_transformers(Gemma3ForConditionalGeneration, folder / "text_encoder", dtype)
    with placed(encoder, device):
        for text, file in zip(texts, files, strict=True):
            ids, mask = _tokenize(tokenizer, text, num_tokens)
            output = encoder(
                input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, logits_to_keep=1
            )
            states = torch.stack(output.hidden_states, dim=-1).flatten(2)
            save_file({"states": states[mask.bool()].contiguous().cpu()}, file)


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Give token ids and their mask `[1 l]`, padded on the left as the model was trained."""
    length = len(tokenizer(text.strip()).input_ids)
    if length > num_tokens:
        logger.warning("The model reads %d of the %d tokens of the text %r.", num_tokens, length, f"{text[:SHOWN]}...")
    tokens = tokenizer(
        [text.strip()], padding="max_length", max_length=num_tokens, truncation=True, return_tensors="pt"
    )
    return tokens.input_ids, tokens.attention_mask


@torch.no_grad()
def _connect(folder: Path, files: Sequence[Path], num_tokens: int, device: torch.device) -> Iterator[dict[str, Tensor]]:
    dtype = working_dtype(folder / "connectors", device)
    connectors = load_diffusers(LTX2TextConnectors, folder / "connectors", dtype)
    with placed(connectors, device):
        for file in files:
            states = load_file(file, device=str(device))["states"].to(dtype)
            padding = num_tokens - len(states)
            mask = torch.arange(num_tokens, device=device) >= padding
            padded = functional.pad(states, (0, 0, padding, 0))
            video, audio, visible = connectors(padded[None], mask[None].long(), padding_side="left")
            if not visible.all():
                raise ModelError(f"the connectors in {folder} have no registers to stand for padding.")
            yield {"video": video[0].cpu(), "audio": audio[0].cpu()}
