"""What happened: for a person while it happens, and for machines afterwards.

`report.board`, which brings torch with it, and `report.wandb_log` are not re-exported.
"""

from ltx_trainer.report.dataset_page import PAGE, write_page
from ltx_trainer.report.events import describe_data, describe_result, describe_start, open_events
from ltx_trainer.report.logs import Event, Log, Logs, Measured
from ltx_trainer.report.result import RECORD, STATUS, write_record, write_result, write_status
from ltx_trainer.report.screen import (
    download_progress,
    show_advice,
    show_conditions,
    show_data,
    show_lacking,
    show_left_out,
    show_modes,
    show_result,
    track,
    training_progress,
)

__all__ = [
    "PAGE",
    "RECORD",
    "STATUS",
    "Event",
    "Log",
    "Logs",
    "Measured",
    "describe_data",
    "describe_result",
    "describe_start",
    "download_progress",
    "open_events",
    "show_advice",
    "show_conditions",
    "show_data",
    "show_lacking",
    "show_left_out",
    "show_modes",
    "show_result",
    "track",
    "training_progress",
    "write_page",
    "write_record",
    "write_result",
    "write_status",
]
