"""Clips to tensors on disk, keyed by content, so that only what changed is computed again.

Only what needs no tensors is re-exported here; `fill` computes them.
"""

from ltx_trainer.cache.places import find_filled

__all__ = ["find_filled"]
