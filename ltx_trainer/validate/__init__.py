"""Prompts and inputs to rendered video and sound."""

from ltx_trainer.validate.denoise import Sampling, denoise
from ltx_trainer.validate.render import render_previews, sampling_of

__all__ = ["Sampling", "denoise", "render_previews", "sampling_of"]
