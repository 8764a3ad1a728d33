"""A model of any scale factors, without weights: its velocities are noise, and it takes down what it was shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import Terms
from ltx_trainer.conditions.streams import Latents
from ltx_trainer.config import Request
from ltx_trainer.diffusion import ModelStream
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from ltx_trainer.models import ModelFacts
from ltx_trainer.models.facts import AudioFacts
from ltx_trainer.models.ltx2 import Ltx2Family
from ltx_trainer.models.names import LTX2_GROUPS
from ltx_trainer.modes import ENDPOINT, Mode, Presence, find_mode

VIDEO_CHANNELS, AUDIO_CHANNELS, AUDIO_BINS = 3, 2, 4
TOKENS_PER_SECOND = Fraction(25)
AUDIO = AudioFacts(16000, 160, 64, AUDIO_CHANNELS, AUDIO_BINS, TOKENS_PER_SECOND)


@dataclass
class Seen:
    """What the model was shown in one call, and what it answered."""

    streams: Mapping[str, ModelStream]
    velocities: Mapping[str, Tensor]


@dataclass
class FakeFamily(Ltx2Family):
    """Answers with noise that carries a gradient."""

    factors: ScaleFactors
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        nowhere = Path("nowhere")
        super().__init__(
            ModelFacts(
                "ltx-2.3", None, "fake", "fake", None, nowhere, {}, nowhere, nowhere,
                self.factors, VIDEO_CHANNELS, AUDIO, 1, LTX2_GROUPS, 8, {},
            )
        )  # fmt: skip
        self._generator = torch.Generator().manual_seed(5)

    def predict(
        self,
        transformer: nn.Module,
        streams: Mapping[str, ModelStream],
        prompt: Mapping[str, Tensor],
        *,
        stg_blocks: tuple[int, ...] = (),
        isolate: bool = False,
    ) -> dict[str, Tensor]:
        del transformer, prompt, stg_blocks, isolate
        answer = {
            name: torch.randn(stream.tokens.shape, generator=self._generator).requires_grad_()
            for name, stream in streams.items()
        }
        self.seen.append(Seen(dict(streams), answer))
        return dict(answer)


def mode_of(name: str) -> Mode:
    return find_mode(ENDPOINT + name)


def request_of(**fields: object) -> Request:
    return Request.model_validate({"training_data_url": "clips.zip", **fields})


def shape_of(num_frames: int, width: int, height: int, frame_rate: int = 25) -> ClipShape:
    return ClipShape(num_frames, FrameSize(width, height), Fraction(frame_rate))


def random_latents(
    mode: Mode, terms: Terms, factors: ScaleFactors, generator: torch.Generator, *, count: int = 1, with_audio: bool
) -> Latents:
    """Draw what a batch of a mode holds, but for masks and ranges."""

    def pictures(shape: ClipShape) -> Tensor:
        grid = shape.latent_grid(factors)
        return torch.randn(count, VIDEO_CHANNELS, grid.frames, grid.rows, grid.columns, generator=generator)

    def sound() -> Tensor:
        steps = round(terms.duration_seconds * TOKENS_PER_SECOND)
        return torch.randn(count, AUDIO_CHANNELS, steps, AUDIO_BINS, generator=generator)

    parts = {part.role for part in mode.parts}
    video, audio = {}, {}
    if mode.video is not Presence.ABSENT:
        assert terms.shape is not None
        still = ClipShape(1, terms.shape.size, terms.shape.frame_rate)
        video[Role.TARGET] = pictures(terms.shape)
        video |= {role: pictures(still) for role, _ in terms.keyframes}
        if Role.START in parts:
            video[Role.START] = pictures(still)
        if Role.REFERENCE in parts:
            video[Role.REFERENCE] = pictures(terms.reference_shape)
    if with_audio:
        audio[Role.TARGET] = sound()
        if Role.REFERENCE_SOUND in parts or (Role.REFERENCE in parts and mode.needs_audio):
            audio[Role.REFERENCE_SOUND] = sound()
    return Latents(video, audio)
