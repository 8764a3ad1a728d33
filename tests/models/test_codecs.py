"""Clips to latents and back."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2Pipeline

from ltx_trainer.errors import GeometryError
from ltx_trainer.geometry import ClipShape, FrameSize, num_audio_tokens
from ltx_trainer.models.family import Family
from ltx_trainer.models.log_mel import log_mel

CPU = torch.device("cpu")


def random_frames(generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, (9, 64, 96, 3), dtype=torch.uint8, generator=generator)


def test_a_clip_becomes_its_latent_grid_and_comes_back(family: Family, generator: torch.Generator) -> None:
    frames = random_frames(generator)
    grid = ClipShape(9, FrameSize(96, 64), Fraction(24)).latent_grid(family.facts.factors)

    with family.video_codec(CPU) as codec:
        latents = codec.encode(frames)
        decoded = codec.decode(latents)

    assert latents.shape == (family.facts.video_channels, grid.frames, grid.rows, grid.columns)
    assert latents.dtype == torch.float32
    assert decoded.shape == frames.shape
    assert decoded.dtype == torch.uint8


@torch.no_grad()
def test_video_latents_are_the_mean_normalised_as_in_the_librarys_pipeline(
    family: Family, miniature_folder: Path, generator: torch.Generator
) -> None:
    frames = random_frames(generator)
    vae = AutoencoderKLLTX2Video.from_pretrained(miniature_folder / "vae", local_files_only=True)
    pixels = (frames.float() / 255 * 2 - 1).permute(3, 0, 1, 2)[None]
    scaling = vae.config["scaling_factor"]
    expected = LTX2Pipeline._normalize_latents(  # noqa: SLF001
        vae.encode(pixels)[0].mode(), vae.latents_mean, vae.latents_std, scaling
    )

    with family.video_codec(CPU) as codec:
        found = codec.encode(frames)
        decoded = codec.decode(found)

    torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=1e-5)
    raw = LTX2Pipeline._denormalize_latents(expected, vae.latents_mean, vae.latents_std, scaling)  # noqa: SLF001
    shown = (vae.decode(raw)[0][0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255
    assert (decoded - shown).abs().max() <= 0.51


@pytest.mark.parametrize(
    ("num_frames", "frame_rate"), [(9, Fraction(24)), (89, Fraction(30000, 1001)), (17, Fraction(50))]
)
def test_sound_is_cut_to_the_length_that_the_sampler_asks_for(
    family: Family, num_frames: int, frame_rate: Fraction, generator: torch.Generator
) -> None:
    audio = family.facts.audio
    assert audio is not None
    clip = ClipShape(num_frames, FrameSize(64, 64), frame_rate)
    samples = torch.rand(2, int(clip.duration_seconds * audio.rate_hz), generator=generator) - 0.5
    num_tokens = num_audio_tokens(clip.duration_seconds, audio.tokens_per_second)

    with family.audio_codec(CPU) as codec:
        latents = codec.encode(samples, num_tokens)

    assert latents.shape == (audio.latent_channels, num_tokens, audio.latent_mel_bins)
    assert num_tokens == round(25 * num_frames / frame_rate)


@torch.no_grad()
def test_audio_latents_are_the_mean_normalised_as_in_the_librarys_pipeline(
    family: Family, miniature_folder: Path, generator: torch.Generator
) -> None:
    samples = torch.rand(2, 8000, generator=generator) - 0.5
    vae = AutoencoderKLLTX2Audio.from_pretrained(miniature_folder / "audio_vae", local_files_only=True)
    spectrogram = log_mel(samples, rate_hz=16000, hop_length=160, mel_bins=64)
    packed = LTX2Pipeline._pack_audio_latents(vae.encode(spectrogram[None])[0].mode())  # noqa: SLF001
    expected = LTX2Pipeline._normalize_audio_latents(packed, vae.latents_mean, vae.latents_std)  # noqa: SLF001

    with family.audio_codec(CPU) as codec:
        found = codec.encode(samples, 12)

    torch.testing.assert_close(found.transpose(0, 1).flatten(1), expected[0, :12], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_decoded_sound_is_the_librarys_at_the_vocoders_rate(
    family: Family, miniature_folder: Path, generator: torch.Generator
) -> None:
    latents = torch.randn(2, 12, 16, generator=generator)
    pipeline = LTX2Pipeline.from_pretrained(miniature_folder, local_files_only=True)
    vae = pipeline.audio_vae
    packed = latents.transpose(0, 1).flatten(1)[None]
    raw = LTX2Pipeline._denormalize_audio_latents(packed, vae.latents_mean, vae.latents_std)  # noqa: SLF001
    unpacked = LTX2Pipeline._unpack_audio_latents(raw, 12, num_mel_bins=16)  # noqa: SLF001
    expected = pipeline.vocoder(vae.decode(unpacked).sample)[0]

    with family.audio_codec(CPU) as codec:
        samples = codec.decode(latents)
        rate_hz = codec.output_rate_hz

    assert rate_hz == 48000
    assert samples.shape[0] == 2
    assert abs(samples.shape[1] / rate_hz - 12 / 25) < 0.04
    torch.testing.assert_close(samples, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("num_samples", "num_tokens"), [(6000, 12), (400, 1)])
def test_sound_that_is_too_short_is_refused(family: Family, num_samples: int, num_tokens: int) -> None:
    with (
        family.audio_codec(CPU) as codec,
        pytest.raises(GeometryError, match=rf"{num_samples} samples are too few for {num_tokens} audio tokens"),
    ):
        codec.encode(torch.zeros(2, num_samples), num_tokens)


def test_the_least_sound_that_is_taken_makes_all_its_tokens(family: Family) -> None:
    with family.audio_codec(CPU) as codec:
        assert codec.encode(torch.zeros(2, 11 * 640), 12).shape[1] == 12


def test_memory_is_given_back_though_the_codec_is_still_named(family: Family, generator: torch.Generator) -> None:
    with family.video_codec(CPU) as codec:
        pass

    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        codec.encode(random_frames(generator)).sum().item()
