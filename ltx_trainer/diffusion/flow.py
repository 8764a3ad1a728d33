"""What is given and what is generated, how noise is mixed in, and what the model must predict.

A `Stream` is the one definition of a condition: training noises it and measures the loss on it, sampling denoises it,
and in all of them a given token is clean, stands at timestep 0 and does not count.

Shapes: b samples, n tokens, c channels, a axes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ltx_trainer.diffusion.tokens import ModelStream


@dataclass(frozen=True)
class Stream:
    """One modality of a batch before noise: the target's tokens, then those that are joined to it.

    Attributes:
        clean: Latents as tokens `[b n c]`; what stands at tokens that are not given matters in training only.
        given: True where the token is a condition `[b n]`.
        coordinates: Where each token stands `[b a n 2]`.
        num_joined: How many of the tokens, at the end, are not the target's.
        frozen: Whether the whole stream is given; its noise level is then 0 too.
    """

    clean: Tensor
    given: Tensor
    coordinates: Tensor
    num_joined: int = 0
    frozen: bool = False

    @property
    def num_target(self) -> int:
        """How many of the tokens are the target's own; they come first."""
        return self.clean.shape[1] - self.num_joined

    def to(self, device: torch.device) -> "Stream":
        """Give the stream on a device."""
        return replace(
            self,
            clean=self.clean.to(device),
            given=self.given.to(device),
            coordinates=self.coordinates.to(device),
        )

    def at(self, tokens: Tensor, sigma: Tensor) -> ModelStream:
        """Show the model `tokens` at noise level `sigma` `[b]`, with every given token clean at timestep 0."""
        return ModelStream(
            tokens=torch.where(self.given[..., None], self.clean, tokens),
            timesteps=torch.where(self.given, torch.zeros_like(sigma)[:, None], sigma[:, None]),
            sigma=torch.zeros_like(sigma) if self.frozen else sigma,
            coordinates=self.coordinates,
        )


def generated_stream(clean: Tensor, coordinates: Tensor) -> Stream:
    """Make a stream in which nothing is given.

    Args:
        clean: `[b n c]`.
        coordinates: `[a n 2]`, the same for every sample.
    """
    batch, num_tokens, _ = clean.shape
    return Stream(
        clean=clean,
        given=torch.zeros(batch, num_tokens, dtype=torch.bool, device=clean.device),
        coordinates=coordinates.to(clean.device).expand(batch, *coordinates.shape),
    )


def give(stream: Stream, tokens: Tensor) -> Stream:
    """Give more of the target's tokens, those that are true in `tokens` `[b n]`."""
    assert stream.num_joined == 0, "tokens are given before others are joined"
    return replace(stream, given=stream.given | tokens.to(stream.given.device))


def join(stream: Stream, clean: Tensor, coordinates: Tensor) -> Stream:
    """Join given tokens that are not the target's, such as those of a reference.

    Args:
        stream: What they are joined to.
        clean: `[b n c]`.
        coordinates: `[a n 2]`, the same for every sample.
    """
    batch, num_tokens, _ = clean.shape
    beside = coordinates.to(clean.device).expand(batch, *coordinates.shape)
    return replace(
        stream,
        clean=torch.cat([stream.clean, clean], dim=1),
        given=torch.cat([stream.given, stream.given.new_ones(batch, num_tokens)], dim=1),
        coordinates=torch.cat([stream.coordinates, beside], dim=2),
        num_joined=stream.num_joined + num_tokens,
    )


def freeze(stream: Stream) -> Stream:
    """Give the whole of a stream."""
    return replace(stream, given=torch.ones_like(stream.given), frozen=True)


def add_noise(stream: Stream, noise: Tensor, sigma: Tensor) -> ModelStream:
    """Mix a stream with noise: sigma 0 is the clip, sigma 1 is pure noise.

    Source: Liu et al. 2022 (arXiv 2209.03003), equation 1, with the data at t = 0.
    """
    level = sigma[:, None, None]
    return stream.at((1 - level) * stream.clean + level * noise, sigma)


def flow_loss(velocity: Tensor, stream: Stream, noise: Tensor) -> Tensor:
    """Give the squared error of each sample `[b]` against `noise - clean`, over generated tokens only."""
    error = (velocity.float() - (noise - stream.clean).float()).square().mean(dim=-1)
    counted = (~stream.given).to(error.dtype)
    return (error * counted).sum(dim=-1) / counted.sum(dim=-1)


def clean_estimate(seen: ModelStream, velocity: Tensor) -> Tensor:
    """Follow the velocity back to noise level 0 `[b n c]`: what the model believes the clip to be."""
    return seen.tokens - velocity.float() * seen.timesteps[..., None]


def euler_step(stream: Stream, tokens: Tensor, estimate: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """Move the generated tokens from one noise level to the next, straight towards the estimate."""
    moved = tokens + (tokens - estimate) / sigma * (next_sigma - sigma)
    return torch.where(stream.given[..., None], stream.clean, moved)
