"""The processes of a run: one, or the many of a launcher."""

from datetime import timedelta
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, parse_flag_from_env

from ltx_trainer.errors import ConfigError

# Others wait at a barrier while the main process encodes a dataset or renders a preview.
LONGEST_WAIT = timedelta(hours=24)

PRECISIONS: dict[str, tuple[Literal["no", "bf16"], torch.dtype]] = {
    "fp32": ("no", torch.float32),
    "bf16": ("bf16", torch.bfloat16),
}


def make_accelerator(precision: Literal["auto", "bf16", "fp32"]) -> tuple[Accelerator, torch.dtype]:
    """Join the other processes of the launcher, if any, and choose the precision.

    Args:
        precision: Of the frozen base and the arithmetic; auto is bf16 on CUDA and fp32 on a CPU.

    Returns:
        The accelerator, and the type of the base's weights.

    Raises:
        ConfigError: The GPU does not have the precision.
    """
    on_gpu = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    if precision == "auto":
        precision = "bf16" if on_gpu else "fp32"
    if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"{torch.cuda.get_device_name()} has no bf16. training.precision fp32 works.")
    mixed, dtype = PRECISIONS[precision]
    waiting = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(mixed_precision=mixed, kwargs_handlers=[waiting]), dtype
