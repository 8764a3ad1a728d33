from itertools import pairwise

import pytest
import torch

from ltx_trainer.diffusion import (
    add_noise,
    clean_estimate,
    euler_step,
    flow_loss,
    freeze,
    generated_stream,
    give,
    join,
    sampling_sigmas,
)
from ltx_trainer.diffusion.flow import Stream

NUM_TOKENS, NUM_GIVEN, NUM_JOINED = 12, 4, 3


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def stream(generator: torch.Generator) -> Stream:
    """Three samples; the first four tokens of the second are given, and three more are joined to each."""
    own, beside = (torch.randn(3, count, 5, generator=generator) for count in (NUM_TOKENS, NUM_JOINED))
    given = torch.zeros(3, NUM_TOKENS, dtype=torch.bool)
    given[1, :NUM_GIVEN] = True
    whole = give(generated_stream(own, torch.zeros(3, NUM_TOKENS, 2)), given)
    return join(whole, beside, torch.ones(3, NUM_JOINED, 2))


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

    assert stream.given.sum() == NUM_GIVEN + 3 * NUM_JOINED
    assert torch.equal(seen.tokens[stream.given], stream.clean[stream.given])
    assert (seen.timesteps[stream.given] == 0).all()
    assert torch.equal(seen.timesteps[~stream.given], SIGMA.repeat_interleave(torch.tensor([12, 8, 12])))
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


def test_joined_tokens_are_given_and_come_after_the_targets_own(stream: Stream) -> None:
    beside = torch.full((3, 2, 5), 7.0)

    more = join(stream, beside, torch.full((3, 2, 2), 2.0))

    assert (more.num_target, more.num_joined) == (NUM_TOKENS, NUM_JOINED + 2)
    assert torch.equal(more.given, torch.cat([stream.given, torch.ones(3, 2, dtype=torch.bool)], dim=1))
    assert torch.equal(more.clean, torch.cat([stream.clean, beside], dim=1))
    assert more.coordinates[2, 1, :, 0].tolist() == [0] * NUM_TOKENS + [1] * NUM_JOINED + [2, 2]


def test_giving_more_tokens_keeps_those_that_were_given() -> None:
    stream = generated_stream(torch.zeros(2, 3, 5), torch.zeros(3, 3, 2))

    once = give(stream, torch.tensor([[True, False, False], [False, False, False]]))
    twice = give(once, torch.tensor([[False, False, True], [True, False, False]]))

    assert twice.given.tolist() == [[True, False, True], [True, False, False]]


def test_a_frozen_stream_is_clean_at_noise_level_0(stream: Stream, generator: torch.Generator) -> None:
    noise = torch.randn(stream.clean.shape, generator=generator)

    seen = add_noise(freeze(stream), noise, SIGMA)

    assert torch.equal(seen.tokens, stream.clean)
    assert (seen.timesteps == 0).all()
    assert (seen.sigma == 0).all()


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
