"""A run whose second process runs out of memory in its second step, as a GPU of many may."""

import os
import sys

import torch

from ltx_trainer.cli import main
from ltx_trainer.train.run import Run, StepMetrics

take_step = Run.take_step


def take_step_or_lack_memory(self: Run) -> StepMetrics | None:
    if self.step == 1 and os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return take_step(self)


if __name__ == "__main__":
    Run.take_step = take_step_or_lack_memory
    sys.exit(main())
