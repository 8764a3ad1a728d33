"""Frozen, closed, ranged settings: YAML, a request body and overrides in, the same YAML out."""

from ltx_trainer.config.load import load_settings, settings_as_yaml
from ltx_trainer.config.request import PreviewItem, Request, request_fields
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
    "request_fields",
    "settings_as_yaml",
]
