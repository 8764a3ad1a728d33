"""One pass: noise in, velocity out, loss.

Shapes: b samples, n tokens, c channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ltx_trainer.config import NoiseSection
from ltx_trainer.diffusion import add_noise, draw_sigmas, flow_loss
from ltx_trainer.models.family import Family
from ltx_trainer.train.batch import Batch


@dataclass(frozen=True)
class PassLoss:
    """What one pass measured.

    Attributes:
        total: Mean over the batch of the sum of all streams' losses; carries the gradient.
        streams: Loss of each sample by stream `[b]`.
        sigma: Noise level of each sample `[b]`.
        names: Of the samples.
    """

    total: Tensor
    streams: Mapping[str, Tensor]
    sigma: Tensor
    names: tuple[str, ...]


def loss_of(
    family: Family, transformer: nn.Module, batch: Batch, noise_settings: NoiseSection, generator: torch.Generator
) -> PassLoss:
    """Noise a batch and measure how well the model tells the noise from the clip.

    The streams of a sample share one noise level, drawn for the number of its video tokens, as in sampling.
    """
    num_tokens = batch.streams["video"].clean.shape[1]
    device = batch.streams["video"].clean.device
    sigma = draw_sigmas(
        len(batch.names),
        num_tokens,
        distribution=noise_settings.distribution,
        uniform_fraction=noise_settings.uniform_fraction,
        generator=generator,
    ).to(device)
    # Drawn on the CPU, so that a run's noise does not depend on the device.
    noise = {
        name: torch.randn(stream.clean.shape, generator=generator).to(device) for name, stream in batch.streams.items()
    }
    seen = {name: add_noise(stream, noise[name], sigma) for name, stream in batch.streams.items()}
    velocities = family.predict(transformer, seen, batch.prompt)
    losses = {name: flow_loss(velocities[name], stream, noise[name]) for name, stream in batch.streams.items()}
    return PassLoss(
        total=torch.stack(list(losses.values())).sum(dim=0).mean(),
        streams={name: loss.detach() for name, loss in losses.items()},
        sigma=sigma,
        names=batch.names,
    )
