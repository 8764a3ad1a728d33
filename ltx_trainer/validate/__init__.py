"""Prompts and inputs to rendered video and sound."""

from ltx_trainer.validate.denoise import denoise
from ltx_trainer.validate.render import Previews, render_previews
from ltx_trainer.validate.sampling import Sampling, sampling_of

__all__ = ["Previews", "Sampling", "denoise", "render_previews", "sampling_of"]
