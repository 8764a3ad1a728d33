"""Frozen, closed, ranged settings: YAML, a request body and overrides in, the same YAML out."""

from ltx_trainer.config.load import load_settings, read_config, settings_as_yaml, settings_from
from ltx_trainer.config.request import REQUEST_FRAMES_FACTOR, PreviewItem, Request, request_fields
from ltx_trainer.config.schema import (
    LoraSection,
    ModelSection,
    NoiseSection,
    OptimizerSection,
    PathsSection,
    Settings,
    TrainingSection,
    ValidationSection,
)

__all__ = [
    "REQUEST_FRAMES_FACTOR",
    "LoraSection",
    "ModelSection",
    "NoiseSection",
    "OptimizerSection",
    "PathsSection",
    "PreviewItem",
    "Request",
    "Settings",
    "TrainingSection",
    "ValidationSection",
    "load_settings",
    "read_config",
    "request_fields",
    "settings_as_yaml",
    "settings_from",
]
