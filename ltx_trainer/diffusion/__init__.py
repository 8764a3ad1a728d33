"""Tensors in, tensors out: tokens, conditions, noise levels, flow and guidance."""

from ltx_trainer.diffusion.flow import (
    Stream,
    add_noise,
    clean_estimate,
    euler_step,
    flow_loss,
    freeze,
    generated_stream,
    give,
    join,
)
from ltx_trainer.diffusion.guidance import GuidanceScales, LevelGuidance, fitted, guide
from ltx_trainer.diffusion.schedule import (
    draw_sigmas,
    linear_quadratic_sigmas,
    sampling_sigmas,
    shifted_logit_normal,
    shifted_sigmas,
)
from ltx_trainer.diffusion.tokens import (
    ModelStream,
    audio_coordinates,
    audio_latents,
    audio_tokens,
    video_coordinates,
    video_latents,
    video_tokens,
)

__all__ = [
    "GuidanceScales",
    "LevelGuidance",
    "ModelStream",
    "Stream",
    "add_noise",
    "audio_coordinates",
    "audio_latents",
    "audio_tokens",
    "clean_estimate",
    "draw_sigmas",
    "euler_step",
    "fitted",
    "flow_loss",
    "freeze",
    "generated_stream",
    "give",
    "guide",
    "join",
    "linear_quadratic_sigmas",
    "sampling_sigmas",
    "shifted_logit_normal",
    "shifted_sigmas",
    "video_coordinates",
    "video_latents",
    "video_tokens",
]
