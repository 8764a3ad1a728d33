"""Cached examples to batches of clean streams, with the conditions of the mode drawn for each sample.

Shapes: b samples, c channels, f latent frames, h rows, w columns, t audio steps, m mel bins, l text tokens, d width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ltx_trainer.artifacts import CachedExample, CachedSet
from ltx_trainer.config import Settings
from ltx_trainer.diffusion import Stream, audio_tokens, generated_stream, give_first_frame, video_tokens
from ltx_trainer.models.family import Family
from ltx_trainer.modes import Condition
from ltx_trainer.tensorfile import read_tensors


@dataclass(frozen=True)
class Batch:
    """What one pass trains on.

    Attributes:
        names: Of the examples.
        streams: Clean tokens and what is given of them: `video`, and `audio` unless the run is silent.
        prompt: Embeddings of the captions, `[b l d]` for each stream.
    """

    names: tuple[str, ...]
    streams: dict[str, Stream]
    prompt: dict[str, Tensor]


class BatchMaker:
    """Reads cached examples and draws their conditions."""

    def __init__(self, settings: Settings, family: Family, cached: CachedSet, device: torch.device) -> None:
        self._settings = settings
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
        streams = {"video": self._video(examples, generator)}
        if self._cached.with_audio:
            streams["audio"] = self._audio(examples)
        return streams

    def _video(self, examples: Sequence[CachedExample], generator: torch.Generator) -> Stream:
        latents = self._stacked([example.video for example in examples])
        shape = examples[0].shape
        assert shape is not None
        stream = generated_stream(video_tokens(latents), self._family.video_coordinates(shape))
        chosen = torch.rand(len(examples), generator=generator) < self._settings.input.first_frame_conditioning_p
        if Condition.FIRST_FRAME in self._settings.mode.conditions:
            stream = give_first_frame(stream, latents.shape[3] * latents.shape[4], chosen)
        return stream

    def _audio(self, examples: Sequence[CachedExample]) -> Stream:
        tokens = audio_tokens(self._stacked([example.audio for example in examples]))
        return generated_stream(tokens, self._family.audio_coordinates(tokens.shape[1]))

    def _prompt(self, examples: Sequence[CachedExample], dropped: Sequence[bool]) -> dict[str, Tensor]:
        paths = [
            self._cached.empty_prompt if drop else example.prompt
            for example, drop in zip(examples, dropped, strict=True)
        ]
        loaded = [read_tensors(path) for path in paths]
        return {name: torch.stack([item[name] for item in loaded]).to(self._device) for name in loaded[0]}

    def _stacked(self, paths: Sequence[Path | None]) -> Tensor:
        latents = [read_tensors(path)["latents"] for path in paths if path is not None]
        assert len(latents) == len(paths)
        return torch.stack(latents).to(self._device)
