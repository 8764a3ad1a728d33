"""Prompts and inputs to rendered video and sound."""

from ltx_trainer.validate.denoise import denoise
from ltx_trainer.validate.render import Previews, Showing
from ltx_trainer.validate.sample import as_latents, as_tokens, given_streams, noise_tokens, sample, starting_noise
from ltx_trainer.validate.sampling import Sampling, sampling_of

__all__ = [
    "Previews",
    "Sampling",
    "Showing",
    "as_latents",
    "as_tokens",
    "denoise",
    "given_streams",
    "noise_tokens",
    "sample",
    "sampling_of",
    "starting_noise",
]
