"""What happened: for a person while it happens, and for machines afterwards.

`report.board` is not re-exported: it brings torch with it.
"""

from ltx_trainer.report.result import write_record, write_result, write_status
from ltx_trainer.report.screen import show_data, show_left_out, show_modes, show_result, track, training_progress

__all__ = [
    "show_data",
    "show_left_out",
    "show_modes",
    "show_result",
    "track",
    "training_progress",
    "write_record",
    "write_result",
    "write_status",
]
