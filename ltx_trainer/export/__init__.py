"""The published LoRA, its config file and metadata; reopened and checked before it is called done."""

from ltx_trainer.export.bundle import write_bundle
from ltx_trainer.export.check import check_lora

__all__ = ["check_lora", "write_bundle"]
