"""Clips to tensors on disk, keyed by content, so that only what changed is computed again."""

from ltx_trainer.cache.fill import digest_of, fill_cache

__all__ = ["digest_of", "fill_cache"]
