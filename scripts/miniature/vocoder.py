"""The vocoder: a trained ear that hears pitch and loudness, and an oscillator that is set, not trained.

Convolutions alone cannot hold the phase of a steady tone: equal frames give equal pieces of sound, which is a buzz at
the frame rate. What holds it is a sum of the frequency over all of the past, and the class can compute that: a block of
dilated convolutions is a running sum, and its activation `sin²` is an oscillator. So of the three stages of the main
vocoder

- the first, at the rate of the frames, is trained to tell the tone's frequency, and how loud each harmonic is
  in each ear;
- the second, at 500 Hz, is set to sum up the frequency, over 8.192 seconds at most;
- the third, at 16 kHz, is set to sound: `sin²(x + u) - sin²(x - u) = sin(2 x) sin(2 u)`.

What has to be exact in the oscillator are numbers that bfloat16 holds. Both ears share one pitch; hiss is not sounded.
The bandwidth extension adds nothing to the class's resampling: this world has next to nothing above 8 kHz.

Shapes: b sounds, e ears (2), n samples, t spectrogram frames, m mel bins, h harmonics, c channels.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2 import LTX2VocoderWithBWE
from torch import Tensor, nn

from ltx_trainer import world
from ltx_trainer.models.miniature import HOP_LENGTH, MEL_BINS, OUTPUT_RATE_HZ, RATE_HZ
from ltx_trainer.world.scenes import FADE_SECONDS, HARMONICS, HISS, LOUDNESS
from miniature.audio_vae import draw_sounds, hear
from miniature.parts import Recipe

RECIPE = Recipe(steps=7_500, peak_rate=1.5e-3, average=0.995)
NUM_SOUNDS = 1500
BATCH_SIZE = 12
SECONDS = 1.5
LONGEST, SHORTEST = 150, 60
"""Spectrogram frames of a batch."""

NUM_EARS = 2
FREQUENCY = 0
LOUDNESSES = slice(1, 1 + len(HARMONICS) * NUM_EARS)
"""Channels of the first stage that the second takes."""

TRAINED = re.compile(r"upsamplers\.0\.|resnets\.0\.(convs|acts)[12]\.[012]\.")
"""Parameters of the first stage. The other units of its block reach farther than a batch is long, and do nothing."""

CONV_IN = 7
"""Frames that the class's first convolution takes."""

SUM_RATE_HZ = 500
STEP = 4
"""Phase of the oscillator, in half radians, that a frequency of 1 (637 Hz) adds in a step of the sum."""

FIRST_FREQUENCY = 1.5
"""What is told before anything is learned."""

FULL_SCALE = 1.5
"""Amplitude of the loudest harmonic that can be sounded."""

MEAN_LEVEL, SCALE = -6.0, 0.25
"""What makes the levels of a spectrogram numbers around 0 and 1."""

LINEAR = 20.0
"""Logarithm of what an activation divides its sine by, so that nothing of it is left."""

SINE = -8.0
"""The same, so that next to nothing but the sine is left."""

LOWEST_HZ, HIGHEST_HZ = 250, 2800
"""Of the tones that are trained on: a little more than the world has."""

SLOPE_WEIGHT, LOUDNESS_WEIGHT, QUIET_WEIGHT = 3.0, 20.0, 0.1
FAINT = 0.003


def prepare(vocoder: LTX2VocoderWithBWE) -> None:
    """Set the oscillator in place, and leave only the ear to be trained."""
    vocoder.requires_grad_(requires_grad=False)
    main = vocoder.vocoder
    with torch.no_grad():
        vocoder.get_parameter("bwe_generator.conv_out.weight").zero_()
        for name, parameter in main.named_parameters():
            if TRAINED.match(name):
                parameter.requires_grad = True
            elif name.endswith(("weight", "bias")):
                parameter.zero_()
            elif not name.startswith("resnets.0."):
                # An activation: `x + sin²(x) / exp(beta)`.
                parameter.fill_(LINEAR if name.endswith("beta") else 0)
        main.get_parameter("upsamplers.0.bias")[FREQUENCY] = FIRST_FREQUENCY
        _set_input(main)
        _set_steps(main.get_parameter("upsamplers.1.weight"))
        _set_sum(main)
        _set_phases(main.get_parameter("upsamplers.2.weight"))
        _set_sines(main)


def _set_input(main: nn.Module) -> None:
    """Give the mean of both ears in each bin, and by how much the left is louder in each pair of bins."""
    weight = main.get_parameter("conv_in.weight")[:, :, CONV_IN // 2]
    main.get_parameter("conv_in.bias")[:MEL_BINS] = -MEAN_LEVEL * SCALE
    for mel in range(MEL_BINS):
        pair = MEL_BINS + mel // 2
        weight[mel, [mel, MEL_BINS + mel]] = SCALE / 2
        weight[pair, mel], weight[pair, MEL_BINS + mel] = SCALE / 4, -SCALE / 4


def _set_steps(weight: Tensor) -> None:
    """Draw straight lines from frame to frame, the middle of a frame being where its window is centred."""
    rising = torch.tensor([6, 19, 32, 45, 58]) / 64
    for channel in range(LOUDNESSES.stop):
        weight[channel, channel, : 2 * len(rising)] = torch.cat([rising, rising.flip(0)])


def _set_sum(main: nn.Module) -> None:
    """Add up the past in place: each unit adds its three last sums to a sum, which makes one four times as long."""
    for name, parameter in main.named_parameters():
        if re.fullmatch(r"resnets\.1\.convs.\.\d+\.weight", name):
            middle = parameter.shape[-1] // 2
            taps = slice(middle) if "convs1" in name else middle
            parameter[FREQUENCY, FREQUENCY, taps] = 1


def _set_phases(weight: Tensor) -> None:
    """Give the phase of each harmonic, moved ahead and back by half its loudness in each ear."""
    stride = weight.shape[-1] // 2
    rising = (torch.arange(stride) + 0.5) / stride
    line = torch.cat([rising, rising.flip(0)])
    for voice, (harmonic, ear, sign) in enumerate(_voices()):
        weight[FREQUENCY, voice] = STEP * (harmonic + 1) * line
        weight[LOUDNESSES.start + harmonic * NUM_EARS + ear, voice] = sign * line


def _set_sines(main: nn.Module) -> None:
    main.get_parameter("act_out.act.beta").fill_(SINE)
    last = main.get_parameter("conv_out.weight")
    for voice, (_, ear, sign) in enumerate(_voices()):
        last[ear, voice, last.shape[-1] // 2] = sign * FULL_SCALE * math.exp(SINE)


def _voices() -> list[tuple[int, int, int]]:
    """Give harmonic, ear and sign of each channel of the third stage."""
    return list(product(range(len(HARMONICS)), range(NUM_EARS), (1, -1)))


@dataclass(frozen=True)
class Tones:
    """Sounds whose making is known.

    Attributes:
        samples: `[b e n]`.
        hertz: Pitch at each spectrogram frame `[b t]`.
        amplitudes: Of each harmonic in each ear `[b h*e t]`.
    """

    samples: Tensor
    hertz: Tensor
    amplitudes: Tensor


def draw_tones(count: int, seed: int) -> Tones:
    """Draw tones of `SECONDS` or less that glide, wave, beat and lean to one ear more than those of the world do."""
    draw = np.random.default_rng(seed)
    parts = zip(*(_draw_tone(draw) for _ in range(count)), strict=True)
    return Tones(*(torch.from_numpy(np.stack(part).astype(np.float32)) for part in parts))


def _draw_tone(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    num_samples = int(SECONDS * RATE_HZ)
    length = int(num_samples * draw.uniform(0.25, 1))
    start = int(draw.integers(num_samples - length + 1)) if draw.random() < 0.3 else 0
    seconds = np.arange(-start, num_samples - start) / RATE_HZ
    moment = np.clip(seconds * RATE_HZ / length, 0, 1)
    lowest, highest = np.log2([LOWEST_HZ, HIGHEST_HZ])
    first, last = draw.uniform(lowest, highest, 2)
    last = first if draw.random() < 0.4 else last
    wave = draw.choice([0, 0, 0.02, 0.1]) * np.sin(2 * math.pi * draw.uniform(1, 6) * seconds)
    hertz = 2 ** np.clip(first + (last - first) * moment + wave, lowest, highest)
    swell = 0.5 - 0.5 * np.cos(2 * math.pi * draw.uniform(4, 10) * seconds) if draw.random() < 1 / 3 else 1.0
    fade = np.clip(np.minimum(seconds, length / RATE_HZ - seconds) / FADE_SECONDS, 0, 1)
    gain = 2 ** draw.uniform(-3, 1.4)
    leaning = np.array(draw.choice([(1, 1), (1, 1), (1, draw.random()), (draw.random(), 1), (1, 0), (0, 1)], axis=0))
    strength = np.array(HARMONICS) * (draw.uniform(0.5, 1.5, 3) if draw.random() < 0.5 else 1.0)
    amplitudes = LOUDNESS * gain * strength[:, None, None] * leaning[:, None] * (swell * fade)
    phase = 2 * math.pi * np.cumsum(hertz) / RATE_HZ
    partials = np.sin(np.arange(1, len(HARMONICS) + 1)[:, None] * phase)
    hiss = HISS * gain * draw.choice([0, draw.uniform(0, 2), 1, 1]) * draw.normal(size=num_samples)
    hiss *= (moment > 0) & (moment < 1)
    samples = (amplitudes * partials[:, None]).sum(0) + leaning[:, None] * hiss
    every = slice(None, None, HOP_LENGTH)
    return samples, hertz[every], amplitudes.reshape(-1, num_samples)[:, every]


class Loss:
    """The loss of a batch drawn from a fixed pool of tones."""

    def __init__(self, vocoder: LTX2VocoderWithBWE, vae: AutoencoderKLLTX2Audio | None, seed: int) -> None:
        """Note what the pool is drawn from.

        Args:
            vocoder: What is trained.
            vae: Whose reconstructions half of the pool are; None for none.
            seed: Of the pool.
        """
        self._vocoder = vocoder
        self._vae = vae
        self._seed = seed

    @cached_property
    def _pool(self) -> tuple[Tensor, Tensor, Tensor]:
        """Spectrograms `[b e t m]`, frequencies in half radians for each step of the sum `[b t]`, amplitudes."""
        tones = draw_tones(NUM_SOUNDS, self._seed)
        spectrograms = hear(tones.samples)
        num_frames = tones.hertz.shape[1]
        if self._vae is not None:
            half = NUM_SOUNDS // 2
            again = [_reconstruct(self._vae, batch) for batch in spectrograms[:half].split(25)]
            num_frames = min(num_frames, again[0].shape[2])
            spectrograms = torch.cat([torch.cat(again)[:, :, :num_frames], spectrograms[half:, :, :num_frames]])
        device = self._vocoder.device
        frequencies = tones.hertz[:, :num_frames] * (2 * math.pi / (2 * STEP * SUM_RATE_HZ))
        amplitudes = tones.amplitudes[:, :, :num_frames]
        return spectrograms[:, :, :num_frames].to(device), frequencies.to(device), amplitudes.to(device)

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch, half of the time noisier than it was heard; measure frequency where there is a tone."""
        all_spectrograms, all_frequencies, all_amplitudes = self._pool
        length = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=generator))
        chosen = torch.randint(len(all_spectrograms), (BATCH_SIZE,), generator=generator)
        start = int(torch.randint(max(1, all_spectrograms.shape[2] - length + 1), (), generator=generator))
        piece = slice(start, start + length)
        spectrograms = _disturb(all_spectrograms[chosen, :, piece], generator)
        frequency, amplitudes = all_frequencies[chosen, piece], all_amplitudes[chosen, :, piece]
        told = listen(self._vocoder, spectrograms)
        loudness = amplitudes.sum(1)
        weight = loudness / (loudness + 0.03) + QUIET_WEIGHT * (loudness > 0)
        off = (told[:, FREQUENCY] - frequency) / frequency
        jitter = (off[:, 1:] - off[:, :-1]).abs() * weight[:, 1:]
        pitch = (weight * off.abs()).mean() + SLOPE_WEIGHT * jitter.mean()
        truth = torch.asin(amplitudes / FULL_SCALE) / 2
        loud = told[:, LOUDNESSES]
        linear = (loud - truth).abs().mean()
        aside = (loud - truth).unflatten(1, (-1, NUM_EARS)).diff(dim=2).abs().mean()
        relative = ((loud.abs() + FAINT).log() - (truth + FAINT).log()).abs().mean()
        return 10 * pitch + LOUDNESS_WEIGHT * (linear + aside) + relative


def listen(vocoder: LTX2VocoderWithBWE, spectrograms: Tensor) -> Tensor:
    """Give what the first stage tells of spectrograms `[b e t m]`: its channels `[b c t]`."""
    main = vocoder.vocoder
    return main.resnets[0](main.upsamplers[0](main.conv_in(spectrograms.transpose(2, 3).flatten(1, 2))))


@torch.no_grad()
def _reconstruct(vae: AutoencoderKLLTX2Audio, spectrograms: Tensor) -> Tensor:
    return vae.decode(vae.encode(spectrograms.to(vae.device))[0].mode())[0].cpu()


def _disturb(spectrograms: Tensor, generator: torch.Generator) -> Tensor:
    """Raise the floor, and blur and roughen half of them."""
    count = len(spectrograms)
    floor, much, blurred = torch.rand(3, count, 1, 1, 1, generator=generator).to(spectrograms)
    noise = torch.randn(spectrograms.shape, generator=generator).to(spectrograms)
    neighbours = nn.functional.avg_pool2d(spectrograms, 3, stride=1, padding=1, count_include_pad=False)
    spectrograms = torch.lerp(spectrograms, neighbours, (2 * blurred - 1).clamp(min=0) * 0.6)
    spectrograms = spectrograms + (0.4 * much - 0.2).clamp(min=0) * noise
    return torch.maximum(spectrograms, 12 * floor - 18)


@torch.no_grad()
def measure(
    vocoder: LTX2VocoderWithBWE, vae: AutoencoderKLLTX2Audio | None = None, count: int = 32, seed: int = 7
) -> Mapping[str, float]:
    """Sound the spectrograms of tones that were never trained on.

    Args:
        vocoder: What is measured.
        vae: Whose reconstructions are sounded; None sounds the spectrograms themselves.
        count: How many sounds.
        seed: Of the sounds.

    Returns:
        `pitch` and `beats`, the shares of sounds that are read as their truth is; `pitch_off`, the median distance of
        their pitches in octaves; `spectral_db`, the distance of their log spectra down to 50 dB below the loudest.
    """
    truth = draw_sounds(count, seed)
    spectrograms = hear(truth).to(vocoder.device)
    if vae is not None:
        spectrograms = _reconstruct(vae, spectrograms).to(vocoder.device)
    hits, off, apart = {"pitch": 0, "beats": 0}, [], []
    ratio = OUTPUT_RATE_HZ // RATE_HZ
    for sound, spectrogram in zip(truth, spectrograms, strict=True):
        sounded = vocoder(spectrogram[None])[0].cpu()
        num_samples = min(sound.shape[-1], sounded.shape[-1] // ratio)
        true, made = sound[:, :num_samples], sounded[:, : num_samples * ratio]
        expected, found = world.read_sound(true.numpy(), RATE_HZ), world.read_sound(made.numpy(), OUTPUT_RATE_HZ)
        for what in hits:
            hits[what] += getattr(found, what) == getattr(expected, what)
        shared = min(len(expected.track), len(found.track))
        off.append(found.track[:shared] - expected.track[:shared])
        apart.append(float(_distance_db(true, made)))
    distances = np.abs(np.concatenate(off))
    return {
        **{what: number / count for what, number in hits.items()},
        "pitch_off": float(np.nanmedian(distances)),
        "spectral_db": sum(apart) / count,
    }


def _distance_db(true: Tensor, made: Tensor) -> Tensor:
    """Compare samples at 16 kHz with samples at 48 kHz, both `[e n]`, up to 8 kHz: root mean square in decibels."""
    spectra = []
    for samples, rate_hz in ((true, RATE_HZ), (made, OUTPUT_RATE_HZ)):
        length = 1024 * rate_hz // RATE_HZ
        window = torch.hann_window(length)
        spectrum = torch.stft(samples, length, length // 4, window=window, return_complex=True).abs()
        spectra.append(spectrum[:, :512] / window.sum())
    num_frames = min(spectrum.shape[-1] for spectrum in spectra)
    floor = 10 ** (-50 / 20) * spectra[0].max()
    levels = [20 * torch.maximum(spectrum[..., :num_frames], floor).log10() for spectrum in spectra]
    return (levels[1] - levels[0]).square().mean().sqrt()
