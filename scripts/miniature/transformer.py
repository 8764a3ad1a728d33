"""The transformer and the connectors: flow matching on the latents of scenes, with and without a given first frame.

The noising, the conditions, the loss and the call of the transformer are the engine's own. Prompts are padded to many
lengths, because padding becomes registers and a model that has seen one length of it reads no other. A few batches are
trained without captions, and a few with the streams apart: what guidance guides away from.

Half of a batch are twins of the other half: the same scenes going the other way, under the same noise. What is learned
from them can only be the caption's direction, which is otherwise learned late or, left and right, not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from diffusers import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from torch import Tensor, nn
from torch.nn import functional
from transformers import Gemma3ForConditionalGeneration, GemmaTokenizer

from ltx_trainer import world
from ltx_trainer.atomic import whole_file
from ltx_trainer.conditions.streams import make_streams
from ltx_trainer.config.request import NEGATIVE_PROMPT
from ltx_trainer.diffusion import GuidanceScales, ModelStream, add_noise, flow_loss
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models.family import Family
from ltx_trainer.prepare.sound import PEAK
from ltx_trainer.train.step import draw_noise
from ltx_trainer.validate import Sampling
from miniature.parts import Recipe
from miniature.scores import HELD_OUT, decode, held_out_scenes, latents_of, make, share, terms_for

RECIPE = Recipe(steps=4_000, peak_rate=1.5e-3, warmup=100, average=0.995)

MEAN_LOGIT, LOGIT_SPREAD = 1.6, 1.4
"""Of the noise levels: mostly the high ones, where sampling spends most of its steps and motion is decided."""

SIDE = 64
NUM_PAIRS = 800
OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up"}


@dataclass(frozen=True)
class Bucket:
    """Clips of one shape, how many and their twins make a batch, and how often one does."""

    num_frames: int
    frame_rate: int
    num_pairs: int = 1
    weight: int = 1

    @property
    def shape(self) -> ClipShape:
        """Frames, size and rate."""
        return ClipShape(self.num_frames, FrameSize(SIDE, SIDE), Fraction(self.frame_rate))


BUCKETS = (Bucket(9, 24, 6, weight=3), Bucket(17, 24, 4), Bucket(17, 12, 4))
TEXT_LENGTHS = (64,) * 12 + (32,) * 5 + (128,) * 2 + (256,)
"""As likely as they are often."""

CAPTION_DROPOUT = 0.1
EMPTY_CAPTIONS = ("", NEGATIVE_PROMPT)
"""What a dropped caption becomes: both say nothing of the clip."""
FIRST_FRAME_SHARE = 0.2
APART_SHARE = 0.1
AUDIO_WEIGHT = 0.5


class Trained(nn.Module):
    """What is trained together."""

    def __init__(self, transformer: LTX2VideoTransformer3DModel, connectors: LTX2TextConnectors) -> None:
        super().__init__()
        self.transformer = transformer
        self.connectors = connectors


class Texts:
    """The hidden states of texts `[k s]` by the frozen language model, and prompts of them at any padded length."""

    def __init__(self, encoder: Gemma3ForConditionalGeneration, tokenizer: GemmaTokenizer) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._states: dict[str, Tensor] = {}

    @torch.no_grad()
    def states(self, text: str) -> Tensor:
        """Give the hidden states of all layers side by side."""
        if text not in self._states:
            ids = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=max(TEXT_LENGTHS)).input_ids
            # As the engine computes them, whoever asks.
            with torch.autocast(self._encoder.device.type, enabled=False):
                output = self._encoder(input_ids=ids, output_hidden_states=True, logits_to_keep=1)
            self._states[text] = torch.stack(output.hidden_states, dim=-1).flatten(2)[0]
        return self._states[text]

    def prompt(self, connectors: nn.Module, texts: Sequence[str], length: int) -> dict[str, Tensor]:
        """Give the embeddings `[b l d]` of both streams."""
        device = next(connectors.parameters()).device
        rows = [self.states(text)[:length] for text in texts]
        padded = torch.stack([functional.pad(row, (0, 0, length - len(row), 0)) for row in rows]).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(length, device=device)[None] >= length - lengths[:, None]
        video, audio, _ = connectors(padded, mask.long(), padding_side="left")
        return {"video": video, "audio": audio}


@dataclass(frozen=True)
class Pool:
    """Encoded scenes of one bucket: latents of pictures `[n c f h w]` and of sounds `[n c t m]`."""

    bucket: Bucket
    video: Tensor
    audio: Tensor


def encode(family: Family, scenes: Sequence[world.Scene], bucket: Bucket, device: torch.device) -> Pool:
    """Draw, sing and encode scenes as the engine does."""
    shape, facts = bucket.shape, family.facts.audio
    assert facts is not None
    num_tokens = shape.num_audio_tokens(facts.tokens_per_second)
    num_samples = round(bucket.num_frames / bucket.frame_rate * facts.rate_hz)
    with family.video_codec(device) as codec:
        frames = (world.render(scene, SIDE, SIDE, bucket.num_frames) for scene in scenes)
        video = torch.stack([codec.encode(torch.from_numpy(clip)) for clip in frames])
    with family.audio_codec(device) as codec:
        sounds = (world.sing(scene, num_samples, facts.rate_hz) for scene in scenes)
        loud = (torch.from_numpy(sound * (PEAK / abs(sound).max())) for sound in sounds)
        audio = torch.stack([codec.encode(sound, num_tokens) for sound in loud])
    return Pool(bucket, video, audio)


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
            torch.save([(pool.video, pool.audio) for pool in pools], unfinished)
    tensors = torch.load(kept, weights_only=True, map_location="cpu")
    return [Pool(bucket, *pair) for bucket, pair in zip(BUCKETS, tensors, strict=True)]


def draw_trained_scenes(seed: int) -> list[world.Scene]:
    """Draw the scenes that are trained on; the second half are the twins of the first, in its order."""
    kept_out = [*HELD_OUT, *((colour, shape, OPPOSITES[motion]) for colour, shape, motion in HELD_OUT)]
    scenes = world.draw_scenes(NUM_PAIRS, seed, without=kept_out)
    return [*scenes, *(replace(scene, motion=OPPOSITES[scene.motion]) for scene in scenes)]


@torch.no_grad()
def measure(family: Family, trained: Trained, texts: Texts, count: int = 16) -> dict[str, float]:
    """Sample held-out compositions in a hurry, and say how much of them can be read."""
    device = next(trained.parameters()).device
    scenes = held_out_scenes(count)
    prompt = texts.prompt(trained.connectors, [world.caption(scene, 0) for scene in scenes], 64)
    negative = texts.prompt(trained.connectors, [NEGATIVE_PROMPT], 64)
    scales = GuidanceScales(cfg=3.0, stg=0.0, modality=1.0, rescale=0.0)
    sampling = Sampling(num_steps=12, seed=0, scales={"video": scales, "audio": scales}, stg_blocks=())
    latents = make(family, trained.transformer, prompt, negative, BUCKETS[0].shape, sampling)
    with family.video_codec(device) as video, family.audio_codec(device) as audio:
        return share(decode(latents, video, audio), scenes)


class Loss:
    """The loss of a batch drawn from the pools."""

    def __init__(
        self,
        family: Family,
        trained: Trained,
        texts: Texts,
        scenes: Sequence[world.Scene],
        pools: Sequence[Pool],
    ) -> None:
        self._family = family
        self._trained = trained
        self._texts = texts
        self._scenes = scenes
        self._pools = pools
        self._weights = torch.tensor([pool.bucket.weight for pool in pools], dtype=torch.float32)

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw clips and their twins, captions, padding, conditions, noise and its level."""
        pool = self._pools[int(torch.multinomial(self._weights, 1, generator=generator))]
        num_pairs = pool.bucket.num_pairs
        first = torch.randint(NUM_PAIRS, (num_pairs,), generator=generator)
        chosen = torch.cat([first, first + NUM_PAIRS])
        wordings = torch.randint(len(world.WORDINGS), (num_pairs,), generator=generator).repeat(2)
        dropped = torch.rand(2 * num_pairs, generator=generator) < CAPTION_DROPOUT
        length = TEXT_LENGTHS[int(torch.randint(len(TEXT_LENGTHS), (), generator=generator))]
        given = bool(torch.rand((), generator=generator) < FIRST_FRAME_SHARE)
        apart = bool(torch.rand((), generator=generator) < APART_SHARE)
        sigma = torch.sigmoid(MEAN_LOGIT + LOGIT_SPREAD * torch.randn(num_pairs, generator=generator)).repeat(2)
        captions = [
            EMPTY_CAPTIONS[index % 2] if drop else world.caption(self._scenes[index], wording)
            for index, wording, drop in zip(chosen.tolist(), wordings.tolist(), dropped.tolist(), strict=True)
        ]
        device = next(self._trained.parameters()).device
        clips = {"video": pool.video[chosen], "audio": pool.audio[chosen]}
        first_frames = clips["video"][:, :, :1] if given else None
        streams = make_streams(self._family, terms_for(pool.bucket.shape), latents_of(clips, first_frames))
        noise = draw_noise(streams, generator)
        noise = {name: value[:num_pairs].repeat(2, 1, 1).to(device) for name, value in noise.items()}
        streams = {name: stream.to(device) for name, stream in streams.items()}
        with torch.autocast(device.type, torch.bfloat16):
            prompt = self._texts.prompt(self._trained.connectors, captions, length)
            seen = {name: add_noise(stream, noise[name], sigma.to(device)) for name, stream in streams.items()}
            if not given:
                seen = {name: _with_one_timestep(stream) for name, stream in seen.items()}
            velocities = self._family.predict(self._trained.transformer, seen, prompt, isolate=apart)
        losses = {name: flow_loss(velocities[name], streams[name], noise[name]).mean() for name in streams}
        return losses["video"] + AUDIO_WEIGHT * losses["audio"]


def _with_one_timestep(stream: ModelStream) -> ModelStream:
    """Say once for a sample what is the same for all of its tokens, which saves a third of a step."""
    return replace(stream, timesteps=stream.timesteps[:, :1])
