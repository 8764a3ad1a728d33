"""Captions by a model, for clips that have none.

Only what needs no tensors is re-exported here; `fill` writes the captions.
"""

from ltx_trainer.caption.lacking import find_lacking

__all__ = ["find_lacking"]
