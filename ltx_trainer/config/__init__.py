"""Frozen, closed, ranged settings: YAML, a request body and overrides in, the same YAML out."""

from ltx_trainer.config.load import load_settings, read_config, settings_as_yaml, settings_from
from ltx_trainer.config.ranges import parse_ranges
from ltx_trainer.config.request import (
    MAX_REFERENCE_FACTOR,
    REQUEST_FRAMES_FACTOR,
    PreviewItem,
    Request,
    default_of,
    request_fields,
)
from ltx_trainer.config.schema import (
    AudioSection,
    CaptionsSection,
    DataSection,
    DownloadSection,
    HeldOutSection,
    LoraSection,
    ModelSection,
    NoiseSection,
    OptimizerSection,
    PathsSection,
    ReportSection,
    Settings,
    TrainingSection,
    ValidationSection,
)

__all__ = [
    "MAX_REFERENCE_FACTOR",
    "REQUEST_FRAMES_FACTOR",
    "AudioSection",
    "CaptionsSection",
    "DataSection",
    "DownloadSection",
    "HeldOutSection",
    "LoraSection",
    "ModelSection",
    "NoiseSection",
    "OptimizerSection",
    "PathsSection",
    "PreviewItem",
    "ReportSection",
    "Request",
    "Settings",
    "TrainingSection",
    "ValidationSection",
    "default_of",
    "load_settings",
    "parse_ranges",
    "read_config",
    "request_fields",
    "settings_as_yaml",
    "settings_from",
]
