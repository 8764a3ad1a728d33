"""What a request names, as a file on this machine: a path, a file: or http(s) URL, or a data URI."""

from ltx_trainer.download.fetch import fetch
from ltx_trainer.download.rules import Limits, Patience, Progress, Received
from ltx_trainer.download.url import without_secrets

__all__ = ["Limits", "Patience", "Progress", "Received", "fetch", "without_secrets"]
