"""What a person should know of the data before it is trained on: a little of every clip, and advice."""

from ltx_trainer.survey.alike import groups_of
from ltx_trainer.survey.facts import (
    Advice,
    AdviceKind,
    Fingerprint,
    Glance,
    Glimpse,
    LookAlikes,
    Overlap,
    Survey,
    SurveyedClip,
    Waveform,
)
from ltx_trainer.survey.sound import PEAK_STEP, silent_share
from ltx_trainer.survey.survey import after_encoding, survey_data

__all__ = [
    "PEAK_STEP",
    "Advice",
    "AdviceKind",
    "Fingerprint",
    "Glance",
    "Glimpse",
    "LookAlikes",
    "Overlap",
    "Survey",
    "SurveyedClip",
    "Waveform",
    "after_encoding",
    "groups_of",
    "silent_share",
    "survey_data",
]
