"""Cached batches to an adapter."""

from ltx_trainer.train.loop import Hook, train_adapter
from ltx_trainer.train.order import generator_for
from ltx_trainer.train.run import StepMetrics

__all__ = ["Hook", "StepMetrics", "generator_for", "train_adapter"]
