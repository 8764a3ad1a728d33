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
    """One modality of a batch before noise.

    Attributes:
        clean: Latents as tokens `[b n c]`; what stands at tokens that are not given matters in training only.
        given: True where the token is a condition `[b n]`.
        coordinates: Where each token stands `[b a n 2]`.
    """

    clean: Tensor
    given: Tensor
    coordinates: Tensor

    def to(self, device: torch.device) -> "Stream":
        """Give the stream on a device."""
        return Stream(self.clean.to(device), self.given.to(device), self.coordinates.to(device))

    def at(self, tokens: Tensor, sigma: Tensor) -> ModelStream:
        """Show the model `tokens` at noise level `sigma` `[b]`, with every given token clean at timestep 0."""
        return ModelStream(
            tokens=torch.where(self.given[..., None], self.clean, tokens),
            timesteps=torch.where(self.given, torch.zeros_like(sigma)[:, None], sigma[:, None]),
            sigma=sigma,
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


def give_first_frame(stream: Stream, tokens_per_frame: int, chosen: Tensor) -> Stream:
    """Give the tokens of latent frame 0 in the samples that are `chosen` `[b]`.

    A one-frame sample is never chosen: nothing would be left to generate.
    """
    if stream.clean.shape[1] <= tokens_per_frame:
        return stream
    given = stream.given.clone()
    given[:, :tokens_per_frame] |= chosen.to(given.device)[:, None]
    return replace(stream, given=given)


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
