"""Which decoding this is; everything that is cached of media is named by it."""

DECODING = 2
"""Raised whenever the decoding of media changes what the same facts give."""
