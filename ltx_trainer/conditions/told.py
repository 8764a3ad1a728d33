"""The conditions of a run in words and numbers, for people and for files."""

from typing import Any

from ltx_trainer.artifacts import WHITE_FROM
from ltx_trainer.conditions.terms import Terms
from ltx_trainer.config import Request
from ltx_trainer.geometry import ScaleFactors
from ltx_trainer.modes import Condition, Mode

WHOLE = {"video": "whole video", "audio": "whole sound"}


def describe_conditions(mode: Mode, request: Request, terms: Terms, factors: ScaleFactors) -> list[dict[str, Any]]:
    """Say what is given of the clips: `condition` names it, the rest are its numbers, in pixels, frames and seconds.

    Args:
        mode: Of the run.
        request: Holds the numbers as they were asked for.
        terms: Holds them as they are.
        factors: Of the model's video VAE.
    """
    whole = [{"condition": WHOLE[name]} for name in sorted(terms.frozen)]
    return whole + [
        {"condition": str(condition), **_numbers(condition, request, terms, factors)} for condition in mode.conditions
    ]


def _numbers(condition: Condition, request: Request, terms: Terms, factors: ScaleFactors) -> dict[str, Any]:
    match condition:
        case Condition.FIRST_FRAME:
            return {"share": request.first_frame_conditioning_p}
        case Condition.REFERENCE if terms.shape is not None:
            return {"downscale_factor": terms.reference_space, "temporal_scale_factor": terms.reference_time}
        case Condition.MASK:
            return {"white_from": WHITE_FROM}
        case Condition.RECTANGLE if terms.kept_cells is not None:
            top_left, bottom_right = terms.kept_cells.corners(factors)
            return {"top_left": list(top_left), "bottom_right": list(bottom_right)}
        case Condition.KEYFRAMES:
            return {"frames": [frame for _, frame in terms.keyframes]}
        case Condition.PREFIX | Condition.SUFFIX if terms.shape is not None:
            return {"frames": request.conditioning_frames}
        case Condition.PREFIX | Condition.SUFFIX:
            return {"seconds": request.conditioning_seconds}
    return {}
