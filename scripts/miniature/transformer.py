"""The transformer and the connectors: flow matching on the latents of scenes, with and without a given first frame.

The noising, the conditions, the loss and the call of the transformer are the engine's own. Prompts are padded to many
lengths, because padding becomes registers and a model that has seen one length of it reads no other. A few batches are
trained without captions, and a few with the streams apart: what guidance guides away from.

With sound it has seven stages. The first learns how scenes look, the second refines that at the high noise levels where
sampling spends most of its steps. The next two learn directions from twins: half of a batch are the same scenes as the
other half, going the other way under the same noise, so that only the caption tells them apart; all clips and texts
have one length, and often the pictures do not hear the tone. Without twins left and right are taken for each other;
from the start, or among clips and texts of many lengths, twins do not help in as many steps. The fifth stage brings the
other lengths back. In the sixth one stream is always given whole, mostly without a caption and to twins that move up
and down: only then is a tone read off the pictures. The last settles all that was learned.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import torch
from diffusers import ModelMixin
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from torch import Tensor, nn
from torch.nn import functional
from transformers import Gemma3ForConditionalGeneration, GemmaTokenizer, T5EncoderModel, T5Tokenizer

from ltx_trainer import world
from ltx_trainer.atomic import whole_file
from ltx_trainer.conditions.streams import make_streams
from ltx_trainer.diffusion import GuidanceScales, ModelStream, Stream, add_noise, flow_loss
from ltx_trainer.geometry import ClipShape, FrameSize, num_audio_tokens
from ltx_trainer.models.family import Family
from ltx_trainer.models.miniature_parts import MAX_TEXT_TOKENS
from ltx_trainer.prepare.sound import PEAK
from ltx_trainer.train.step import draw_noise, generated
from miniature.parts import Recipe
from miniature.scores import (
    HELD_OUT,
    decode,
    defaults,
    held_out_scenes,
    latents_of,
    make,
    negative_prompt,
    share,
    terms_for,
)

SIDE = 64
NUM_SCENES = 1600
OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up"}
WEIGHTS = {"left": 3.0, "right": 3.0, "up": 1.0, "down": 1.0}
"""Of the motions among pairs of twins: up and down are told by the tone too, left and right by the caption alone."""
WEIGHTS_OF_WHOLE = {"left": 0.2, "right": 0.2, "up": 1.0, "down": 1.0}
"""The same where a stream is given whole: twins that move left and right sound alike."""


@dataclass(frozen=True)
class Bucket:
    """Clips of one shape, how many of them make a batch, and how often one does."""

    num_frames: int
    frame_rate: int
    batch_size: int = 1
    weight: int = 1

    @property
    def shape(self) -> ClipShape:
        """Frames, size and rate."""
        return ClipShape(self.num_frames, FrameSize(SIDE, SIDE), Fraction(self.frame_rate))


BUCKETS = (Bucket(9, 24, 12, weight=3), Bucket(17, 24, 8), Bucket(17, 12, 8))
TEXT_LENGTHS = (MAX_TEXT_TOKENS,) * 12 + (32,) * 5 + (128,) * 2 + (256,)
"""As likely as they are often."""

CAPTION_DROPOUT, CAPTION_DROPOUT_OF_WHOLE = 0.1, 0.8
STREAM_WEIGHTS = {"video": 1.0, "audio": 0.5}
"""Of the losses."""

WATCHED_SEED = 92
"""Of the scenes that a training is watched by: not those that the miniature is judged by, so that no choice that is
made by what is watched, of steps or of rates, makes its scores look better than they are."""


@dataclass(frozen=True)
class Stage:
    """One training, on top of the one before.

    Attributes:
        name: Of its state.
        recipe: Steps and rates.
        seed: Of its draws.
        mean_logit: Of the noise levels.
        twins: Whether half of a batch are twins of the other half.
        buckets: What batches are made of.
        text_lengths: That prompts are padded to, as likely as they are often.
        first_frame_share: Share of batches whose first frames are given.
        apart_share: Share of batches whose streams do not attend to each other.
        whole_share: Share of batches of which one stream is given whole, either as often as the other.
        motions: Weights of the motions among pairs of twins.

    Raises:
        ValueError: A batch cannot be halved into scenes and their twins.
    """

    name: str
    recipe: Recipe
    seed: int
    mean_logit: float = 1.8
    twins: bool = False
    buckets: tuple[Bucket, ...] = BUCKETS
    text_lengths: tuple[int, ...] = TEXT_LENGTHS
    first_frame_share: float = 0.2
    apart_share: float = 0.1
    whole_share: float = 0.0
    motions: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)

    def __post_init__(self) -> None:
        odd = [bucket.batch_size for bucket in self.buckets if bucket.batch_size % 2]
        if self.twins and odd:
            raise ValueError(
                f"{self.name}: a batch of {odd[0]} cannot be halved into twins. Give it an even batch_size."
            )


TWINS = Stage(
    "transformer-twins",
    Recipe(700, 1.2e-3, warmup=30, average=0.99),
    seed=6,
    twins=True,
    buckets=BUCKETS[:1],
    text_lengths=(MAX_TEXT_TOKENS,),
    first_frame_share=0.1,
    apart_share=0.3,
)
STAGES = (
    Stage("transformer", Recipe(2_923, 1.5e-3, horizon=4_000, warmup=100, average=0.995), seed=4, mean_logit=0.8),
    Stage("transformer-refined", Recipe(1_811, 8e-4, horizon=2_200, average=0.995), seed=5),
    TWINS,
    replace(TWINS, name="transformer-more-twins", recipe=Recipe(650, 1e-3, horizon=900, warmup=30, average=0.99)),
    Stage("transformer-settled", Recipe(550, 8e-4, average=0.99), seed=7, twins=True),
    Stage("transformer-whole", Recipe(500, 2e-3, average=0.95), seed=8, twins=True, whole_share=1.0, apart_share=0.0),
    Stage("transformer-settled-again", Recipe(600, 8e-4, average=0.99), seed=9, twins=True, whole_share=0.4),
)
"""Each begins with the average of the one before.

The second stage of twins has the seed of the first, so it begins with the same batches once more. Where a horizon lies
beyond the steps, the rate does not fall to its lowest but ends on the way, where the next stage takes over.
"""

ALIKE = dict.fromkeys(OPPOSITES, 1.0)
SILENT_STAGES = (
    Stage(
        "transformer",
        Recipe(2_200, 1.5e-3, horizon=3_000, warmup=100, average=0.995),
        seed=4,
        mean_logit=0.8,
        apart_share=0.0,
    ),
    Stage("transformer-refined", Recipe(1_000, 8e-4, average=0.995), seed=5, apart_share=0.0),
    replace(TWINS, first_frame_share=0.1, apart_share=0.0, motions=ALIKE),
    Stage("transformer-settled", Recipe(550, 8e-4, average=0.99), seed=7, apart_share=0.0, twins=True, motions=ALIKE),
)
"""Those of a model without sound, whose directions are all told by the caption alone."""

LOGIT_SPREAD = 1.2


class Texts(ABC):
    """Prompts, as the transformer reads them while it is trained.

    Attributes:
        empty: What a dropped caption becomes: nothing, or the negative prompt; both say nothing of the clip.
    """

    def __init__(self, negative: str) -> None:
        self.empty = ("", negative)
        self._states: dict[str, Tensor] = {}

    @property
    def trained(self) -> nn.Module | None:
        """What is trained with the transformer; None if nothing is."""
        return None

    @abstractmethod
    def prompt(self, texts: Sequence[str], length: int, device: torch.device) -> dict[str, Tensor]:
        """Give what `Family.predict` reads of texts `[b l d]`, padded to a length where that changes anything."""

    @torch.no_grad()
    def states(self, text: str) -> Tensor:
        """Give the hidden states of a text `[k s]`, by the frozen language model."""
        if text not in self._states:
            # As the engine computes them, whoever asks.
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                self._states[text] = self._encode(text)
        return self._states[text]

    @abstractmethod
    def _encode(self, text: str) -> Tensor: ...


class Ltx2Texts(Texts):
    """Hidden states of all layers side by side, which connectors turn into the embeddings of both streams."""

    def __init__(
        self, encoder: Gemma3ForConditionalGeneration, tokenizer: GemmaTokenizer, connectors: LTX2TextConnectors
    ) -> None:
        super().__init__(negative_prompt("ltx-2.3"))
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._connectors = connectors

    @property
    def trained(self) -> nn.Module:
        """The connectors."""
        return self._connectors

    def _encode(self, text: str) -> Tensor:
        ids = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=max(TEXT_LENGTHS)).input_ids
        output = self._encoder(input_ids=ids, output_hidden_states=True, logits_to_keep=1)
        return torch.stack(output.hidden_states, dim=-1).flatten(2)[0]

    def prompt(self, texts: Sequence[str], length: int, device: torch.device) -> dict[str, Tensor]:
        """Give the embeddings of both streams; padding becomes registers."""
        rows = [self.states(text)[:length] for text in texts]
        padded = torch.stack([functional.pad(row, (0, 0, length - len(row), 0)) for row in rows]).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(length, device=device)[None] >= length - lengths[:, None]
        video, audio, _ = self._connectors(padded, mask.long(), padding_side="left")
        return {"video": video, "audio": audio}


class T5Texts(Texts):
    """Last hidden states, and which of them are text: padding is not read, so its length does not matter."""

    def __init__(self, encoder: T5EncoderModel, tokenizer: T5Tokenizer) -> None:
        super().__init__(negative_prompt("ltx-video"))
        self._encoder = encoder
        self._tokenizer = tokenizer

    def _encode(self, text: str) -> Tensor:
        ids = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TEXT_TOKENS).input_ids
        return self._encoder(input_ids=ids)[0][0]

    def prompt(self, texts: Sequence[str], length: int, device: torch.device) -> dict[str, Tensor]:
        """Give the embeddings and their mask, as long as the longest text."""
        del length
        rows = [self.states(text) for text in texts]
        longest = max(map(len, rows))
        padded = torch.stack([functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        mask = torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]
        return {"video": padded.to(device), "mask": mask.to(device)}


class Trained(nn.Module):
    """What is trained together."""

    def __init__(self, transformer: ModelMixin, texts: Texts) -> None:
        super().__init__()
        self.transformer = transformer
        self.connectors = texts.trained


@dataclass(frozen=True)
class Pool:
    """Encoded scenes of one bucket by stream: latents of pictures `[n c f h w]`, and of sounds `[n c t m]` if any."""

    bucket: Bucket
    clips: Mapping[str, Tensor]


def encode(family: Family, scenes: Sequence[world.Scene], bucket: Bucket, device: torch.device) -> Pool:
    """Draw, sing and encode scenes as the engine does."""
    shape, facts = bucket.shape, family.facts.audio
    with family.video_codec(device) as codec:
        frames = (world.render(scene, SIDE, SIDE, bucket.num_frames) for scene in scenes)
        clips = {"video": torch.stack([codec.encode(torch.from_numpy(clip)) for clip in frames])}
    if facts is not None:
        num_tokens = num_audio_tokens(shape.duration_seconds, facts.tokens_per_second)
        num_samples = round(bucket.num_frames / bucket.frame_rate * facts.rate_hz)
        with family.audio_codec(device) as codec:
            sounds = (world.sing(scene, num_samples, facts.rate_hz) for scene in scenes)
            loud = (torch.from_numpy(sound * (PEAK / abs(sound).max())) for sound in sounds)
            clips["audio"] = torch.stack([codec.encode(sound, num_tokens) for sound in loud])
    return Pool(bucket, clips)


def encode_pools(family: Family, scenes: Sequence[world.Scene], kept: Path, device: torch.device) -> list[Pool]:
    """Encode the scenes in every bucket, or read what was encoded before, onto the CPU.

    Args:
        family: Whose VAEs encode.
        scenes: In the order of the pools.
        kept: The file, whose name tells these VAEs and scenes from others.
        device: That the VAEs are on.
    """
    if not kept.exists():
        pools = [encode(family, scenes, bucket, device) for bucket in BUCKETS]
        with whole_file(kept) as unfinished:
            torch.save([pool.clips for pool in pools], unfinished)
    found = torch.load(kept, weights_only=True, map_location="cpu")
    return [Pool(bucket, clips) for bucket, clips in zip(BUCKETS, found, strict=True)]


def draw_trained_scenes(seed: int, *, twins: bool) -> list[world.Scene]:
    """Draw the scenes that are trained on; if there are twins, the second half are those of the first, in its order."""
    if not twins:
        return world.draw_scenes(NUM_SCENES, seed, without=HELD_OUT)
    kept_out = [*HELD_OUT, *((colour, shape, OPPOSITES[motion]) for colour, shape, motion in HELD_OUT)]
    scenes = world.draw_scenes(NUM_SCENES // 2, seed, without=kept_out)
    return [*scenes, *(replace(scene, motion=OPPOSITES[scene.motion]) for scene in scenes)]


@torch.no_grad()
def measure(family: Family, trained: Trained, texts: Texts, count: int = 16) -> dict[str, float]:
    """Sample held-out compositions in a hurry, and say how much of them can be read."""
    device = next(trained.parameters()).device
    scenes = held_out_scenes(count, WATCHED_SEED)
    prompt = texts.prompt([world.caption(scene, 0) for scene in scenes], MAX_TEXT_TOKENS, device)
    negative = texts.prompt(texts.empty[1:], MAX_TEXT_TOKENS, device)
    scales = GuidanceScales(cfg=3.0, stg=0.0, modality=1.0, rescale=0.0)
    streams = defaults(family).scales
    sampling = replace(defaults(family), num_steps=12, seed=0, scales=dict.fromkeys(streams, scales), stg_blocks=())
    latents = make(family, trained.transformer, prompt, negative, BUCKETS[0].shape, sampling)
    return share(decode(family, latents, device), scenes)


@dataclass(frozen=True)
class Draw:
    """One batch.

    Attributes:
        chosen: Places of its scenes `[b]`.
        captions: What is said of each; a dropped one says nothing.
        length: That prompts are padded to.
        given: Whether first frames are given.
        apart: Whether the streams do not attend to each other.
        sigma: Noise level of each sample `[b]`.
        streams: Its clips.
        noise: Of each stream `[b n c]`.
    """

    chosen: Tensor
    captions: Sequence[str]
    length: int
    given: bool
    apart: bool
    sigma: Tensor
    streams: Mapping[str, Stream]
    noise: Mapping[str, Tensor]


class Loss:
    """The loss of a batch drawn from the pools."""

    def __init__(
        self,
        family: Family,
        trained: Trained,
        texts: Texts,
        scenes: Sequence[world.Scene],
        pools: Sequence[Pool],
        stage: Stage,
    ) -> None:
        self._stage = stage
        self._family = family
        self._trained = trained
        self._texts = texts
        self._scenes = scenes
        self._pools = [pool for pool in pools if pool.bucket in stage.buckets]
        self._weights = torch.tensor([pool.bucket.weight for pool in self._pools], dtype=torch.float32)

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch and measure it."""
        drawn = self.draw(generator)
        device = next(self._trained.parameters()).device
        noise = {name: value.to(device) for name, value in drawn.noise.items()}
        streams = {name: stream.to(device) for name, stream in drawn.streams.items()}
        with torch.autocast(device.type, torch.bfloat16):
            prompt = self._texts.prompt(drawn.captions, drawn.length, device)
            seen = {name: add_noise(stream, noise[name], drawn.sigma.to(device)) for name, stream in streams.items()}
            if not drawn.given:
                seen = {name: _with_one_timestep(stream) for name, stream in seen.items()}
            velocities = self._family.predict(self._trained.transformer, seen, prompt, isolate=drawn.apart)
        losses = [
            STREAM_WEIGHTS[name] * flow_loss(velocities[name], streams[name], noise[name]).mean()
            for name in generated(streams)
        ]
        return torch.stack(losses).sum()

    def draw(self, generator: torch.Generator) -> Draw:
        """Draw clips, captions, padding, conditions, noise and its level.

        In a stage of twins the second half of a batch are those of the first, with its wordings, levels and noise; each
        half drops captions of its own.
        """
        pool = self._pools[int(torch.multinomial(self._weights, 1, generator=generator))]
        size, copies = pool.bucket.batch_size, 2 if self._stage.twins else 1
        whole = self._whole(generator)
        chosen = self._choose(size // copies, WEIGHTS_OF_WHOLE if whole else self._stage.motions, generator)
        wordings = torch.randint(len(world.WORDINGS), (size // copies,), generator=generator).repeat(copies)
        dropout = CAPTION_DROPOUT_OF_WHOLE if whole else CAPTION_DROPOUT
        dropped = torch.rand(size, generator=generator) < dropout
        length = self._stage.text_lengths[int(torch.randint(len(self._stage.text_lengths), (), generator=generator))]
        given = bool(torch.rand((), generator=generator) < self._stage.first_frame_share)
        apart = bool(torch.rand((), generator=generator) < self._stage.apart_share)
        terms = replace(terms_for(pool.bucket.shape), frozen=whole)
        logits = self._stage.mean_logit + LOGIT_SPREAD * torch.randn(size // copies, generator=generator)
        sigma = torch.sigmoid(logits).repeat(copies)
        captions = [
            self._texts.empty[index % 2] if drop else world.caption(self._scenes[index], wording)
            for index, wording, drop in zip(chosen.tolist(), wordings.tolist(), dropped.tolist(), strict=True)
        ]
        clips = {name: latents[chosen] for name, latents in pool.clips.items()}
        first_frames = clips["video"][:, :, :1] if given else None
        streams = make_streams(self._family, terms, latents_of(clips, first_frames))
        noise = {
            name: value[: size // copies].repeat(copies, 1, 1) for name, value in draw_noise(streams, generator).items()
        }
        return Draw(chosen, captions, length, given, apart, sigma, streams, noise)

    def _whole(self, generator: torch.Generator) -> frozenset[str]:
        """Draw which stream is given whole; a stage without any draws nothing."""
        if not self._stage.whole_share or torch.rand((), generator=generator) >= self._stage.whole_share:
            return frozenset()
        return frozenset({("video", "audio")[int(torch.randint(2, (), generator=generator))]})

    def _choose(self, count: int, weights: Mapping[str, float], generator: torch.Generator) -> Tensor:
        """Draw scenes, or pairs of twins by the weights of their motions: first one of each, then their twins."""
        if not self._stage.twins:
            return torch.randint(len(self._scenes), (count,), generator=generator)
        num_pairs = len(self._scenes) // 2
        each = torch.tensor([weights[scene.motion] for scene in self._scenes[:num_pairs]])
        first = torch.multinomial(each, count, replacement=True, generator=generator)
        return torch.cat([first, first + num_pairs])


def _with_one_timestep(stream: ModelStream) -> ModelStream:
    """Say once for a sample what is the same for all of its tokens, which saves a third of a step."""
    return replace(stream, timesteps=stream.timesteps[:, :1])
