"""Prompts and inputs to rendered video and sound."""

from ltx_trainer.validate.denoise import denoise
from ltx_trainer.validate.render import Previews, render_previews
from ltx_trainer.validate.sample import as_tokens, sample, starting_noise, streams_of
from ltx_trainer.validate.sampling import Sampling, sampling_of

__all__ = [
    "Previews",
    "Sampling",
    "as_tokens",
    "denoise",
    "render_previews",
    "sample",
    "sampling_of",
    "starting_noise",
    "streams_of",
]
