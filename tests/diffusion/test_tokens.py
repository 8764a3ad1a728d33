from fractions import Fraction

import torch

from ltx_trainer.diffusion import (
    audio_coordinates,
    audio_latents,
    audio_tokens,
    video_coordinates,
    video_latents,
    video_tokens,
)
from ltx_trainer.geometry import LatentGrid, ScaleFactors


def test_video_tokens_run_by_frame_row_and_column_and_come_back() -> None:
    grid = LatentGrid(2, 3, 4)
    latents = torch.arange(2 * 5 * 24.0).view(2, 5, 2, 3, 4)

    tokens = video_tokens(latents)

    assert torch.equal(tokens[1, 4 * 3 + 4 + 2], latents[1, :, 1, 1, 2])
    assert torch.equal(video_latents(tokens, grid), latents)


def test_an_audio_token_is_one_step_with_channels_outermost_and_comes_back() -> None:
    latents = torch.arange(2 * 8 * 5 * 16.0).view(2, 8, 5, 16)

    tokens = audio_tokens(latents)

    assert torch.equal(tokens[1, 3, 2 * 16 : 3 * 16], latents[1, 2, 3])
    assert torch.equal(audio_latents(tokens, 8), latents)


def test_video_coordinates_are_causal_in_time_and_in_pixels_in_space() -> None:
    bounds = video_coordinates(LatentGrid(3, 2, 2), ScaleFactors(8, 32, 16), Fraction(24))

    assert bounds.shape == (3, 12, 2)
    times = bounds[0, ::4] * 24
    torch.testing.assert_close(times, torch.tensor([[0.0, 1], [1, 9], [9, 17]]))
    assert bounds[1, :4].tolist() == [[0, 32], [0, 32], [32, 64], [32, 64]]
    assert bounds[2, :4].tolist() == [[0, 16], [16, 32], [0, 16], [16, 32]]


def test_time_runs_at_the_true_rate() -> None:
    ntsc = video_coordinates(LatentGrid(2, 1, 1), ScaleFactors(8, 32, 32), Fraction(30000, 1001))

    torch.testing.assert_close(ntsc[0, 1], torch.tensor([1001 / 30000, 9 * 1001 / 30000]))


def test_audio_coordinates_are_causal_and_without_gaps() -> None:
    bounds = audio_coordinates(4, hops_per_token=4, hop_length=160, rate_hz=16000)

    torch.testing.assert_close(bounds[0], torch.tensor([[0, 0.01], [0.01, 0.05], [0.05, 0.09], [0.09, 0.13]]))
