"""A model that sees, and says what it sees: any of the library's kind image-text-to-text.

Shapes: f frames, h rows, w columns.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from ltx_trainer.errors import ModelError
from ltx_trainer.models.captioner import WHAT_WORKS, Captioner
from ltx_trainer.models.weights import load_errors, load_transformers, placed, working_dtype

SENTENCE_END = re.compile(r"(?s)(.*[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)]*)(?:\s|$)")
"""Everything up to the end of the last whole sentence."""


class CaptionWriter:
    """Writes captions of clips.

    Args:
        source: What to call it.
        model: The library's.
        processor: The library's, of the same model.
    """

    def __init__(self, source: str, model: Any, processor: Any) -> None:
        self._source = source
        self.model = model
        self._processor = processor

    @torch.no_grad()
    def write(self, clips: Sequence[np.ndarray], prompt: str, *, max_tokens: int) -> list[str]:
        """Write a caption of each clip by greedy decoding, in one line; empty where the model says nothing.

        Args:
            clips: RGB frames of each, `[f h w 3]`, uint8.
            prompt: What is asked after the frames.
            max_tokens: The longest answer. One that comes to this end is cut after its last whole sentence.

        Raises:
            ModelError: The model does not take so many frames.
        """
        pictures = [[Image.fromarray(frame) for frame in frames] for frames in clips]
        texts = [self._question(len(frames), prompt) for frames in pictures]
        tokenizer = self._processor.tokenizer
        # Many templates begin with the token that the tokenizer would put there once more.
        begun = tokenizer.bos_token is not None and texts[0].startswith(tokenizer.bos_token)
        try:
            inputs = self._processor(
                images=pictures,
                text=texts,
                padding=True,
                padding_side="left",
                add_special_tokens=not begun,
                return_tensors="pt",
            )
        except (ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"The captioner {self._source} does not take {max(map(len, pictures))} frames at once: {error}. "
                "captions.frames: 1 may work, or another captions.model."
            ) from error
        inputs = inputs.to(self.model.device, self.model.dtype)
        answers = self.model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_tokens,
            # What a model's own settings say of sampling has no use here.
            temperature=None,
            top_p=None,
            top_k=None,
        )[:, inputs["input_ids"].shape[1] :]
        ended = torch.isin(answers, torch.tensor(self._ends, device=answers.device)).any(1).tolist()
        written = tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [tidy_caption(text, whole=whole) for text, whole in zip(written, ended, strict=True)]

    @property
    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return [ends] if isinstance(ends, int) else list(ends or ())

    def _question(self, num_frames: int, prompt: str) -> str:
        content = [*({"type": "image"} for _ in range(num_frames)), {"type": "text", "text": prompt}]
        return self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@contextmanager
def open_captioner(captioner: Captioner, device: torch.device) -> Iterator[CaptionWriter]:
    """Load a model that writes captions; its memory is given back at the end of the `with`.

    Code that a repository brings along is not run.

    Raises:
        ModelError: It does not load: its weights or files do not fit, its kind is not known, or a package lacks.
        MemoryError: Memory ran out, of the computer or of the device.
    """
    source, own = f"The captioner {captioner.source}", {"local_files_only": True, "trust_remote_code": False}
    with load_errors(source, AutoProcessor):
        config = AutoConfig.from_pretrained(captioner.folder, **own)
        processor = AutoProcessor.from_pretrained(captioner.processor, config=config, **own)
    if not (hasattr(processor, "image_processor") and hasattr(processor, "tokenizer")):
        raise ModelError(f"{source} has no processor for pictures and text. {WHAT_WORKS}")
    library: Any = AutoModelForImageTextToText
    dtype = working_dtype(captioner.component, device)
    model = load_transformers(library, captioner.folder, dtype, device, trust_remote_code=False, use_safetensors=True)
    with placed(model, device):
        yield CaptionWriter(captioner.source, model, processor)


def tidy_caption(text: str, *, whole: bool) -> str:
    """Give a caption as one line of printable characters, without the begin of a sentence at its end."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if whole or not (match := SENTENCE_END.match(line)):
        return line
    return match[1]
