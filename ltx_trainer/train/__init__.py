"""Cached batches to an adapter."""

from ltx_trainer.train.loop import Hook, StepMetrics, train_adapter
from ltx_trainer.train.order import generator_for

__all__ = ["Hook", "StepMetrics", "generator_for", "train_adapter"]
