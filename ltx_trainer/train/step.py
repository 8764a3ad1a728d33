"""One pass: noise in, velocity out, loss.

Shapes: b samples, n tokens, c channels. A mapping by stream has `video`, `audio` or both; of levels and losses, only
those that are generated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ltx_trainer.config import NoiseSection, TrainingSection
from ltx_trainer.diffusion import ModelStream, Stream, add_noise, draw_sigmas, flow_loss
from ltx_trainer.models.family import Family
from ltx_trainer.train.batch import Batch


@dataclass(frozen=True)
class PassLoss:
    """What one pass measured.

    Attributes:
        total: Mean over the batch of the weighted sum of all streams' losses; carries the gradient.
        streams: Loss of each sample by generated stream `[b]`, not weighted.
        sigma: Noise level of each sample by generated stream `[b]`.
    """

    total: Tensor
    streams: Mapping[str, Tensor]
    sigma: Mapping[str, Tensor]


def loss_of(
    family: Family,
    transformer: nn.Module,
    batch: Batch,
    noise_settings: NoiseSection,
    weights: Mapping[str, float],
    generator: torch.Generator,
) -> PassLoss:
    """Noise a batch and measure how well the model tells the noise from the clip.

    Args:
        family: The base model's family.
        transformer: The base with the adapter.
        batch: What is noised.
        noise_settings: How noise levels are drawn.
        weights: Factor on the loss of each stream, as `stream_weights` gives it.
        generator: On the CPU, so that a run's noise does not depend on the device.
    """
    sigma = _draw_levels(generated(batch.streams), noise_settings, generator)
    noise = draw_noise(batch.streams, generator)
    losses = losses_at(family, transformer, batch, sigma, noise)
    return PassLoss(
        total=torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(dim=0).mean(),
        streams={name: loss.detach() for name, loss in losses.items()},
        sigma={name: level.to(losses[name].device) for name, level in sigma.items()},
    )


def losses_at(
    family: Family,
    transformer: nn.Module,
    batch: Batch,
    sigma: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Measure the loss of each sample by generated stream `[b]`.

    Args:
        family: The base model's family.
        transformer: The base with the adapter.
        batch: What is noised.
        sigma: Noise levels `[b]` of the generated streams.
        noise: Of all streams `[b n c]`; that of a frozen one changes nothing.
    """
    noise = {name: value.to(batch.streams[name].clean.device) for name, value in noise.items()}
    seen = {name: _seen(stream, noise[name], sigma.get(name)) for name, stream in batch.streams.items()}
    velocities = family.predict(transformer, seen, batch.prompt)
    return {name: flow_loss(velocities[name], stream, noise[name]) for name, stream in generated(batch.streams).items()}


def generated(streams: Mapping[str, Stream]) -> dict[str, Stream]:
    """Leave out the streams that are given whole."""
    return {name: stream for name, stream in streams.items() if not stream.frozen}


def draw_noise(streams: Mapping[str, Stream], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw standard normal noise for each stream `[b n c]`, on the CPU."""
    return {name: torch.randn(stream.clean.shape, generator=generator) for name, stream in streams.items()}


def stream_weights(training: TrainingSection) -> dict[str, float]:
    """Give the factor on the loss of each stream."""
    return {"video": training.video_loss_weight, "audio": training.audio_loss_weight}


def _seen(stream: Stream, noise: Tensor, sigma: Tensor | None) -> ModelStream:
    """Show a stream with noise; None is for one that is frozen."""
    device = stream.clean.device
    return add_noise(
        stream, noise, torch.zeros(len(stream.clean), device=device) if sigma is None else sigma.to(device)
    )


def _draw_levels(
    streams: Mapping[str, Stream], settings: NoiseSection, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw the noise level of each sample: one for all its streams, as in sampling, or one for each.

    A shared level is drawn for the number of video tokens, or of audio tokens where no video is generated.
    """
    if settings.levels == "per_stream":
        return {name: _draw_sigmas(stream, settings, generator) for name, stream in streams.items()}
    leading = streams["video"] if "video" in streams else streams["audio"]
    return dict.fromkeys(streams, _draw_sigmas(leading, settings, generator))


def _draw_sigmas(stream: Stream, settings: NoiseSection, generator: torch.Generator) -> Tensor:
    return draw_sigmas(
        len(stream.clean),
        stream.num_target,
        distribution=settings.distribution,
        uniform_fraction=settings.uniform_fraction,
        generator=generator,
    )
