"""The published LoRA, reopened and checked before it is called done; its config file; and what training saw."""

from ltx_trainer.export.bundle import write_bundle
from ltx_trainer.export.check import check_lora
from ltx_trainer.export.debug import write_debug_dataset

__all__ = ["check_lora", "write_bundle", "write_debug_dataset"]
