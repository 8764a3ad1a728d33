"""A Manifest to Clips: the exact frames and samples that the model will see and hear."""

from ltx_trainer.prepare.budget import check_complete, check_loss
from ltx_trainer.prepare.clips import prepare_clips
from ltx_trainer.prepare.previews import prepare_previews, settle_previews

__all__ = ["check_complete", "check_loss", "prepare_clips", "prepare_previews", "settle_previews"]
