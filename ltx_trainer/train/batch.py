"""Cached examples to batches of clean streams, with the conditions of the mode drawn for each sample.

Shapes: b samples, l text tokens, d width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ltx_trainer.artifacts import CachedExample, CachedSet
from ltx_trainer.conditions import Terms
from ltx_trainer.conditions.streams import make_streams, read_latents
from ltx_trainer.config import Settings
from ltx_trainer.diffusion import Stream
from ltx_trainer.models.family import Family
from ltx_trainer.modes import Condition
from ltx_trainer.tensorfile import read_tensors


@dataclass(frozen=True)
class Batch:
    """What one pass trains on.

    Attributes:
        names: Of the examples.
        streams: Clean tokens and what is given of them: `video`, `audio` or both.
        prompt: Embeddings of the captions, `[b l d]` for each stream.
    """

    names: tuple[str, ...]
    streams: dict[str, Stream]
    prompt: dict[str, Tensor]


class BatchMaker:
    """Reads cached examples and draws their conditions.

    Args:
        settings: Of the run.
        family: Says where tokens stand.
        cached: Says whether there is sound, and what stands in for a dropped caption.
        device: Where batches go.
        terms: What is given of every clip.
    """

    def __init__(
        self, settings: Settings, family: Family, cached: CachedSet, device: torch.device, terms: Terms
    ) -> None:
        self._settings = settings
        self._terms = terms
        self._family = family
        self._cached = cached
        self._device = device

    def make(self, examples: Sequence[CachedExample], generator: torch.Generator) -> Batch:
        """Make a batch to train on of examples that share one shape."""
        streams = self._streams(examples, generator)
        dropped = torch.rand(len(examples), generator=generator) < self._settings.training.caption_dropout
        return self._batch(examples, streams, dropped.tolist())

    def make_measured(self, example: CachedExample, generator: torch.Generator) -> Batch:
        """Make a batch to measure on of one example: its conditions are drawn, and its caption is never dropped."""
        return self._batch([example], self._streams([example], generator), [False])

    def _batch(self, examples: Sequence[CachedExample], streams: dict[str, Stream], dropped: Sequence[bool]) -> Batch:
        return Batch(tuple(example.name for example in examples), streams, self._prompt(examples, dropped))

    def _streams(self, examples: Sequence[CachedExample], generator: torch.Generator) -> dict[str, Stream]:
        # Drawn whatever the mode, so that what is drawn next does not depend on it.
        chosen = torch.rand(len(examples), generator=generator) < self._settings.input.first_frame_conditioning_p
        first_frame = chosen if Condition.FIRST_FRAME in self._settings.mode.conditions else None
        media = [example.media for example in examples]
        latents = read_latents(media, self._device, with_audio=self._cached.with_audio)
        return make_streams(self._family, self._terms, latents, first_frame)

    def _prompt(self, examples: Sequence[CachedExample], dropped: Sequence[bool]) -> dict[str, Tensor]:
        paths = [
            self._cached.empty_prompt if drop else example.prompt
            for example, drop in zip(examples, dropped, strict=True)
        ]
        loaded = [read_tensors(path) for path in paths]
        return {name: torch.stack([item[name] for item in loaded]).to(self._device) for name in loaded[0]}
