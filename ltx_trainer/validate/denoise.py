"""From noise to latents: the sampler of previews, on the same streams as the training.

Shapes: b samples, c channels, f latent frames, h rows, w columns, n tokens, l text tokens, d width.
A dictionary by stream has `video`, `audio` or both.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from ltx_trainer.diffusion import Stream, clean_estimate, euler_step, fitted, guide
from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.models.family import Family
from ltx_trainer.validate.sampling import Sampling

Prompt = Mapping[str, Tensor]
TokensByStream = dict[str, Tensor]


@torch.no_grad()
def denoise(
    family: Family,
    transformer: nn.Module,
    streams: Mapping[str, Stream],
    noise: Mapping[str, Tensor],
    prompt: Prompt,
    negative: Prompt,
    sampling: Sampling,
) -> TokensByStream:
    """Sample clean tokens `[b n c]` for each stream; given tokens, joined ones too, stay as they are.

    Args:
        family: The base model's family.
        transformer: The base with the adapter.
        streams: What is given of each stream, clean.
        noise: What each stream starts from `[b n c]`; what it holds at given tokens does not matter.
        prompt: Embeddings of what is asked for, in batches, as the family reads them.
        negative: Embeddings of what is guided away from.
        sampling: Steps and guidance.
    """
    model = _GuidedModel(family, transformer, streams, prompt, negative, sampling)
    tokens = {name: torch.where(stream.given[..., None], stream.clean, noise[name]) for name, stream in streams.items()}
    leading = streams["video"] if "video" in streams else next(iter(streams.values()))
    sigmas = family.sigmas(sampling.num_steps, leading.num_target)
    for sigma, next_sigma in pairwise(sigmas):
        estimates = model.estimate(tokens, sigma)
        tokens = {
            name: euler_step(stream, tokens[name], estimates[name], sigma, next_sigma)
            if name in estimates
            else tokens[name]
            for name, stream in streams.items()
        }
    return tokens


class _GuidedModel:
    """The model and its weaker versions, whose differences guide the sampling of what is generated."""

    def __init__(
        self,
        family: Family,
        transformer: nn.Module,
        streams: Mapping[str, Stream],
        prompt: Prompt,
        negative: Prompt,
        sampling: Sampling,
    ) -> None:
        self._family = family
        self._transformer = transformer
        self._streams = streams
        self._prompt = prompt
        self._negative = negative
        self._sampling = sampling
        self._of_velocity = family.sampling.of_velocity
        self._fits_negative = family.sampling.fits_negative
        self._generated = [name for name, stream in streams.items() if not stream.frozen]

    def estimate(self, tokens: TokensByStream, sigma: float) -> TokensByStream:
        """Estimate the clean tokens of each generated stream from `tokens` at noise level `sigma`."""
        seen = {
            name: stream.at(tokens[name], torch.full((len(stream.clean),), sigma, device=stream.clean.device))
            for name, stream in self._streams.items()
        }
        level = self._sampling.at(sigma)
        scales = [level.scales[name] for name in self._generated]
        plain = self._pass(seen, self._prompt)
        negative, perturbed, isolated = TokensByStream(), TokensByStream(), TokensByStream()
        if any(scale.cfg > 1 for scale in scales):
            negative = self._pass(seen, self._negative)
        if level.stg_blocks and any(scale.stg > 0 for scale in scales):
            perturbed = self._pass(seen, self._prompt, stg_blocks=level.stg_blocks)
        if len(self._streams) > 1 and any(scale.modality > 1 for scale in scales):
            isolated = self._pass(seen, self._prompt, isolate=True)
        if self._fits_negative:
            negative = {name: fitted(value, plain[name]) for name, value in negative.items()}
        guided = {
            name: guide(
                plain[name],
                level.scales[name],
                negative=negative.get(name),
                perturbed=perturbed.get(name),
                isolated=isolated.get(name),
            )
            for name in self._generated
        }
        if self._of_velocity:
            return {name: clean_estimate(seen[name], velocity) for name, velocity in guided.items()}
        return guided

    def _pass(
        self,
        seen: Mapping[str, ModelStream],
        prompt: Prompt,
        *,
        stg_blocks: tuple[int, ...] = (),
        isolate: bool = False,
    ) -> TokensByStream:
        """Give what is combined of each stream: its velocity, or the estimate of its clean tokens."""
        velocities = self._family.predict(self._transformer, seen, prompt, stg_blocks=stg_blocks, isolate=isolate)
        if self._of_velocity:
            return velocities
        return {name: clean_estimate(seen[name], velocity) for name, velocity in velocities.items()}
