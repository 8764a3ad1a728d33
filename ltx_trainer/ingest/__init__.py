"""An archive, safely, to a Manifest: which files make an example, and every file that was left out and why."""

from ltx_trainer.ingest.manifest import check_archive, ingest_archive

__all__ = ["check_archive", "ingest_archive"]
