"""A Manifest to Clips: the exact frames and samples that the model will see and hear."""

from ltx_trainer.prepare.clips import prepare_clips
from ltx_trainer.prepare.previews import prepare_previews

__all__ = ["prepare_clips", "prepare_previews"]
