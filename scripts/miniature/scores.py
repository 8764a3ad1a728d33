"""What the model makes of captions, and how much of what they say can be read in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ltx_trainer import world
from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import Terms
from ltx_trainer.conditions.streams import Latents
from ltx_trainer.config import Settings
from ltx_trainer.geometry import ClipShape, FrameSize, midpoint_times
from ltx_trainer.media import decode_audio, decode_frames, scan_audio, scan_video
from ltx_trainer.models.family import Family, VideoCodec
from ltx_trainer.modes import MODES
from ltx_trainer.validate import Sampling, given_streams, sample, sampling_of

HELD_OUT: tuple[world.Composition, ...] = (
    ("red", "square", "left"),
    ("yellow", "triangle", "right"),
    ("green", "circle", "up"),
    ("cyan", "square", "down"),
    ("blue", "triangle", "left"),
    ("purple", "circle", "right"),
    ("red", "triangle", "up"),
    ("green", "square", "down"),
)
"""Compositions that the transformer is never trained on."""

SHAPE = ClipShape(17, FrameSize(64, 64), Fraction(24))
"""Of the clips that scores are of."""


OUTPUT_RATE_HZ = 48000

EDGE_STEPS = 4
"""Into how many a pixel is divided to measure an edge."""

Prompt = Mapping[str, Tensor]


@dataclass(frozen=True)
class Made:
    """What was made of one example: frames `[f h w 3]`, and samples `[2 n]` at a rate, whichever there are."""

    frames: np.ndarray | None
    samples: np.ndarray | None
    rate_hz: int

    @cached_property
    def video(self) -> world.VideoReading:
        """What is read from the frames."""
        assert self.frames is not None, "asked of clips with pictures"
        return world.read_video(self.frames)

    @cached_property
    def sound(self) -> world.SoundReading:
        """What is read from the samples."""
        assert self.samples is not None, "asked of clips with sound"
        return world.read_sound(self.samples, self.rate_hz)


def read_made(file: Path) -> Made:
    """Decode a preview: a video, with its sound if it has any, or a sound.

    Raises:
        MediaError: It cannot be decoded.
    """
    frames, samples, begin = None, None, Fraction(0)
    sound = scan_audio(file, rate_hz=OUTPUT_RATE_HZ)
    if file.suffix != ".wav":
        scan = scan_video(file, find_cuts=False)
        frames = decode_frames(file, midpoint_times(begin, scan.duration_seconds, scan.num_frames), scan.size)
    if sound is not None:
        samples = decode_audio(file, start_seconds=begin, span_seconds=sound.duration_seconds, rate_hz=OUTPUT_RATE_HZ)
    return Made(frames, samples, OUTPUT_RATE_HZ)


FOLLOWED: Mapping[str, Callable[[Made, world.Scene], bool]] = {
    "colour": lambda clip, scene: clip.video.colour == scene.colour,
    "shape": lambda clip, scene: clip.video.shape == scene.shape,
    "motion": lambda clip, scene: clip.video.motion == scene.motion,
    "pitch": lambda clip, scene: clip.sound.pitch == world.PITCH_OF_MOTION[scene.motion],
}
"""Of a clip: whether it is read as a scene has it."""


def held_out_scenes(count: int, seed: int = 91) -> list[world.Scene]:
    """Draw scenes of the held-out compositions, each as often as the others."""
    scenes = world.draw_scenes(count, seed)
    return [
        replace(scene, colour=colour, shape=shape, motion=motion)
        for scene, (colour, shape, motion) in zip(scenes, HELD_OUT * (count // len(HELD_OUT) + 1), strict=False)
    ]


def prompts_of(family: Family, captions: Sequence[str], scratch: Path) -> dict[str, Tensor]:
    """Encode captions with the family's own text encoder and connectors, `[b l d]` for each stream."""
    found = dict(family.encode_prompts(captions, torch.device("cpu"), scratch=scratch))
    return {stream: torch.stack([found[text][stream] for text in captions]) for stream in found[captions[0]]}


def terms_for(shape: ClipShape) -> Terms:
    """Say what is given of clips of a shape, beside their text and perhaps a first frame: nothing."""
    return Terms(shape, shape.duration_seconds)


def latents_of(clips: Mapping[str, Tensor], first_frames: Tensor | None = None) -> Latents:
    """Take clips, or nothing but first frames `[b c 1 h w]`, as what streams are made of.

    Args:
        clips: Normalised latents, video `[b c f h w]` and audio `[b c t m]`, or none.
        first_frames: Of the clips' own or others; None if none are given.
    """
    given = {} if first_frames is None else {Role.START: first_frames}
    video = {Role.TARGET: clips["video"]} if "video" in clips else {}
    return Latents({**video, **given}, {Role.TARGET: clips["audio"]} if "audio" in clips else {})


def make(
    family: Family,
    transformer: nn.Module,
    prompt: Prompt,
    negative: Prompt,
    shape: ClipShape,
    sampling: Sampling,
    *,
    first_frames: Tensor | None = None,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """Sample a clip for each prompt: normalised latents, video `[b c f h w]` and audio `[b c t m]`.

    Args:
        family: The base model's family.
        transformer: The base, with an adapter or without.
        prompt: Embeddings `[b l d]` for each stream.
        negative: Embeddings `[1 l d]` of what is guided away from.
        shape: Of the clips.
        sampling: Steps, seed and guidance. The seed is the first batch's; the next has the next.
        first_frames: Latents of given first frames `[b c 1 h w]`.
        batch_size: Clips that are sampled at once.
    """
    pieces: list[dict[str, Tensor]] = []
    for index, start in enumerate(range(0, len(prompt["video"]), batch_size)):
        part = slice(start, start + batch_size)
        own = {stream: embeddings[part] for stream, embeddings in prompt.items()}
        away = {name: value.expand(len(own[name]), *value.shape[1:]) for name, value in negative.items()}
        given = None if first_frames is None else first_frames[part]
        seeded = replace(sampling, seed=sampling.seed + index)
        terms = terms_for(shape)
        streams = given_streams(
            family, terms, latents_of({}, given), len(own["video"]), with_audio=family.facts.audio is not None
        )
        pieces.append(sample(family, transformer, own, away, terms, streams, seeded))
    return {stream: torch.cat([piece[stream] for piece in pieces]) for stream in pieces[0]}


def decode(family: Family, latents: Mapping[str, Tensor], device: torch.device) -> list[Made]:
    """Decode sampled latents one clip at a time, with the decoders of the streams that there are."""
    count = len(latents["video"])
    samples, rate_hz = [None] * count, 0
    with family.video_codec(device) as video:
        frames = [video.decode(pictures).numpy() for pictures in latents["video"]]
    if "audio" in latents:
        with family.audio_codec(device) as audio:
            samples, rate_hz = [audio.decode(sound).numpy() for sound in latents["audio"]], audio.output_rate_hz
    return [Made(pictures, sound, rate_hz) for pictures, sound in zip(frames, samples, strict=True)]


def share(made: Sequence[Made], scenes: Sequence[world.Scene]) -> dict[str, float]:
    """Give the share of clips in which colour, shape, motion and, of sound, pitch are read as the scene has them."""
    pairs = list(zip(made, scenes, strict=True))
    silent = any(clip.samples is None for clip in made)
    followed = {name: holds for name, holds in FOLLOWED.items() if not (silent and name == "pitch")}
    return {name: sum(holds(*pair) for pair in pairs) / len(pairs) for name, holds in followed.items()}


def reconstruction(codec: VideoCodec, scenes: Sequence[world.Scene], shape: ClipShape) -> dict[str, float]:
    """Encode and decode scenes: PSNR in dB, and the share whose shape can still be read."""
    psnr, shapes = 0.0, 0
    for scene in scenes:
        frames = world.render(scene, shape.size.width, shape.size.height, shape.num_frames)
        decoded = codec.decode(codec.encode(torch.from_numpy(frames))).numpy()
        error = (decoded.astype(np.float64) - frames) / 255
        psnr -= 10 * np.log10(np.mean(error**2))
        shapes += world.read_video(decoded).shape == scene.shape
    return {"psnr": psnr / len(scenes), "shape": shapes / len(scenes)}


def defaults(family: Family) -> Sampling:
    """Give the sampling of a preview whose settings say nothing of it."""
    return sampling_of(_least_settings(family.facts.family), family)


def negative_prompt(family: str) -> str:
    """Give what previews of a family are guided away from by default."""
    return _least_settings(family).input.validation_negative_prompt


def _least_settings(family: str) -> Settings:
    endpoint = next(mode.endpoint for mode in MODES if mode.family == family)
    return Settings.model_validate({"endpoint": endpoint, "input": {"training_data_url": "clips.zip"}})


def sample_captions(
    family: Family, captions: Sequence[str], shape: ClipShape, scratch: Path, sampling: Sampling
) -> list[Made]:
    """Make a clip of each caption with the base model alone."""
    prompt = prompts_of(family, [*captions, negative_prompt(family.facts.family)], scratch)
    asked = {stream: embeddings[:-1] for stream, embeddings in prompt.items()}
    away = {stream: embeddings[-1:] for stream, embeddings in prompt.items()}
    device = torch.device("cpu")
    with family.transformer(device, torch.float32) as transformer:
        latents = make(family, transformer, asked, away, shape, sampling)
    return decode(family, latents, device)


def sample_held_out(
    family: Family, shape: ClipShape, count: int, scratch: Path, sampling: Sampling, wording: int | None = None
) -> tuple[list[Made], list[world.Scene]]:
    """Make clips of held-out compositions from their captions, each scene's own or all of one wording."""
    scenes = held_out_scenes(count)
    captions = [world.caption(scene, wording) for scene in scenes]
    return sample_captions(family, captions, shape, scratch, sampling), scenes


def against_others(made: Sequence[Made], scenes: Sequence[world.Scene]) -> dict[str, float]:
    """Hold clips to the captions of others, each to every one: what a model that does not read would score."""
    count = len(scenes)
    turns = [share(made, [*scenes[turn:], *scenes[:turn]]) for turn in range(1, count)]
    return {name: sum(turn[name] for turn in turns) / len(turns) for name in turns[0]}


def edge_width(clip: Made) -> float | None:
    """Give how wide a shape's edge is, in pixels: where its colour goes from a quarter to three quarters of its own.

    It is the area of that band by the length of the outline, so contrast does not change it.

    Returns:
        The mean over frames; None where no shape is seen.
    """
    if clip.frames is None or clip.video.colour is None:
        return None
    widths = [_edge_width(frame.astype(np.float32) / 255) for frame in clip.frames]
    return float(np.nanmean(widths)) if np.isfinite(widths).any() else None


def _edge_width(pixels: np.ndarray) -> float:
    """Measure one frame `[h w 3]`, from 0 to 1; not a number if it has no edge."""
    saturation = pixels.max(-1) - pixels.min(-1)
    peak = np.quantile(saturation, 0.99)
    hue = pixels - pixels.mean(-1, keepdims=True)
    inside, outside = hue[saturation > 0.8 * peak], hue[saturation < 0.4 * peak]
    if not len(inside) or not len(outside):
        return float("nan")
    ground = np.median(outside, 0)
    own = np.median(inside, 0) - ground
    part = (hue - ground) @ own / max(float(own @ own), 1e-6)
    height, width = part.shape
    # Between pixels too: an edge may be narrower than one.
    size = (EDGE_STEPS * (height - 1) + 1, EDGE_STEPS * (width - 1) + 1)
    fine = nn.functional.interpolate(torch.from_numpy(part)[None, None], size, mode="bilinear", align_corners=True)
    values = fine[0, 0].numpy()
    band = (values > 0.25) & (values < 0.75)
    down, across = np.gradient(values, 1 / EDGE_STEPS)
    # The slope summed over the band is the outline's length times the half that is climbed.
    climbed = np.hypot(down, across)[band].sum()
    return float(0.5 * band.sum() / climbed) if climbed > 0 else float("nan")


def out_of_step(clip: Made) -> float | None:
    """Give the median distance in octaves between a clip's tone and the tone of its shape's height.

    None where the shape or the tone cannot be read.
    """
    path, sound = clip.video.path[:, 1], clip.sound
    seen = np.isfinite(path)
    if sound.pitch is None or 2 * seen.sum() < len(path):
        return None
    place = (np.arange(len(path)) + 0.5) / len(path)
    down = np.interp(np.linspace(place[0], place[-1], len(sound.track)), place[seen], path[seen])
    return float(np.nanmedian(abs(sound.track - np.log2(world.pitch_at(down)))))
