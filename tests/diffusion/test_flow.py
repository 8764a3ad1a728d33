from itertools import pairwise

import pytest
import torch

from ltx_trainer.diffusion import (
    add_noise,
    clean_estimate,
    euler_step,
    flow_loss,
    generated_stream,
    give_first_frame,
    sampling_sigmas,
)
from ltx_trainer.diffusion.flow import Stream

TOKENS_PER_FRAME = 4


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def clean(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(3, 3 * TOKENS_PER_FRAME, 5, generator=generator)


@pytest.fixture
def stream(clean: torch.Tensor) -> Stream:
    """Three samples; the first frame of the second is given."""
    whole = generated_stream(clean, torch.zeros(3, clean.shape[1], 2))
    return give_first_frame(whole, TOKENS_PER_FRAME, torch.tensor([False, True, False]))


SIGMA = torch.tensor([0.1, 0.5, 0.9])


def test_following_the_velocity_back_recovers_the_clip(stream: Stream, generator: torch.Generator) -> None:
    noise = torch.randn(stream.clean.shape, generator=generator)

    estimate = clean_estimate(add_noise(stream, noise, SIGMA), noise - stream.clean)

    torch.testing.assert_close(estimate, stream.clean)


def test_noise_level_0_is_the_clip_and_1_is_noise(stream: Stream, generator: torch.Generator) -> None:
    noise = torch.randn(stream.clean.shape, generator=generator)

    assert torch.equal(add_noise(stream, noise, torch.zeros(3)).tokens, stream.clean)
    generated = ~stream.given
    assert torch.equal(add_noise(stream, noise, torch.ones(3)).tokens[generated], noise[generated])


def test_given_tokens_are_clean_at_timestep_0(stream: Stream, generator: torch.Generator) -> None:
    noise = torch.randn(stream.clean.shape, generator=generator)

    seen = add_noise(stream, noise, SIGMA)

    assert stream.given.sum() == TOKENS_PER_FRAME
    assert torch.equal(seen.tokens[stream.given], stream.clean[stream.given])
    assert (seen.timesteps[stream.given] == 0).all()
    assert torch.equal(seen.timesteps[1, TOKENS_PER_FRAME:], SIGMA[1].expand(2 * TOKENS_PER_FRAME))
    assert torch.equal(seen.sigma, SIGMA)


def test_given_tokens_get_no_gradient_and_do_not_dilute_the_loss(stream: Stream, generator: torch.Generator) -> None:
    noise = torch.randn(stream.clean.shape, generator=generator)
    velocity = (noise - stream.clean + 1).requires_grad_()

    loss = flow_loss(velocity, stream, noise)
    loss.sum().backward()

    torch.testing.assert_close(loss.detach(), torch.ones(3))
    assert velocity.grad is not None
    assert (velocity.grad[stream.given] == 0).all()
    assert (velocity.grad[~stream.given] != 0).all()


def test_a_one_frame_sample_is_never_given_whole(clean: torch.Tensor) -> None:
    still = generated_stream(clean[:, :TOKENS_PER_FRAME], torch.zeros(3, TOKENS_PER_FRAME, 2))

    assert not give_first_frame(still, TOKENS_PER_FRAME, torch.ones(3, dtype=torch.bool)).given.any()


def test_sampling_leaves_given_tokens_bit_equal_and_reaches_the_estimate(
    stream: Stream, generator: torch.Generator
) -> None:
    noise = torch.randn(stream.clean.shape, generator=generator)
    target = torch.randn(stream.clean.shape, generator=generator)
    sigmas = sampling_sigmas(8)

    tokens = noise
    for sigma, lower in pairwise(sigmas):
        tokens = euler_step(stream, tokens, target, sigma, lower)
        assert torch.equal(tokens[stream.given], stream.clean[stream.given])

    torch.testing.assert_close(tokens[~stream.given], target[~stream.given])
