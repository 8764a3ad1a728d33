"""From noise to latents: the sampler of previews, on the same streams as the training.

Shapes: b samples, c channels, f latent frames, h rows, w columns, n tokens, l text tokens, d width.
A dictionary by stream has `video`, `audio` or both.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from ltx_trainer.diffusion import Stream, clean_estimate, euler_step, guide, sampling_sigmas
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
        prompt: Embeddings of what is asked for, `[b l d]` for each stream.
        negative: Embeddings of what is guided away from.
        sampling: Steps and guidance.
    """
    model = _GuidedModel(family, transformer, streams, prompt, negative, sampling)
    tokens = {name: torch.where(stream.given[..., None], stream.clean, noise[name]) for name, stream in streams.items()}
    sigmas = sampling_sigmas(sampling.num_steps)
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
        self._generated = [name for name, stream in streams.items() if not stream.frozen]
        scales = [sampling.scales[name] for name in self._generated]
        self._uses_cfg = any(scale.cfg > 1 for scale in scales)
        self._uses_stg = any(scale.stg > 0 for scale in scales)
        self._uses_modality = len(streams) > 1 and any(scale.modality > 1 for scale in scales)

    def estimate(self, tokens: TokensByStream, sigma: float) -> TokensByStream:
        """Estimate the clean tokens of each generated stream from `tokens` at noise level `sigma`."""
        plain = self._pass(tokens, sigma, self._prompt)
        negative = self._pass(tokens, sigma, self._negative) if self._uses_cfg else {}
        perturbed = self._pass(tokens, sigma, self._prompt, perturbed=True) if self._uses_stg else {}
        isolated = self._pass(tokens, sigma, self._prompt, isolate=True) if self._uses_modality else {}
        return {
            name: guide(
                plain[name],
                self._sampling.scales[name],
                negative=negative.get(name),
                perturbed=perturbed.get(name),
                isolated=isolated.get(name),
            )
            for name in self._generated
        }

    def _pass(
        self, tokens: TokensByStream, sigma: float, prompt: Prompt, *, perturbed: bool = False, isolate: bool = False
    ) -> TokensByStream:
        seen = {
            name: stream.at(tokens[name], torch.full((len(stream.clean),), sigma, device=stream.clean.device))
            for name, stream in self._streams.items()
        }
        velocities = self._family.predict(
            self._transformer,
            seen,
            prompt,
            stg_blocks=self._sampling.stg_blocks if perturbed else (),
            isolate=isolate,
        )
        return {name: clean_estimate(seen[name], velocity) for name, velocity in velocities.items()}
