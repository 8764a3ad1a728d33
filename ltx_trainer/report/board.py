"""TensorBoard: losses by step, and previews as strips of pictures, or as sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import torch
from torch.utils.tensorboard.writer import SummaryWriter

from ltx_trainer import media
from ltx_trainer.artifacts import Render
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.report.logs import Event, Measured, curves_of_event, curves_of_step

FRAMES_IN_A_STRIP = 8


class Board:
    """Writes one run's curves and previews; silent without a writer."""

    def __init__(self, writer: SummaryWriter | None) -> None:
        self._writer = writer

    def add_step(self, measured: Measured) -> None:
        """Add the numbers of one step."""
        if self._writer is None:
            return
        for name, value in curves_of_step(measured).items():
            self._writer.add_scalar(name, value, measured.step)

    def add_event(self, event: Event) -> None:
        """Add the losses on held-out clips; other events have no curve."""
        if self._writer is None:
            return
        for name, value in curves_of_event(event).items():
            self._writer.add_scalar(name, value, event["step"])

    def add_render(self, render: Render) -> None:
        """Add the previews of a step: frames of each item side by side, first to last; sound as it is."""
        if self._writer is None:
            return
        for index, path in enumerate(render.items):
            name = f"preview/{index + 1}"
            if path.suffix == ".wav":
                samples, rate_hz = media.read_audio(path)
                self._writer.add_audio(name, torch.from_numpy(samples).mean(dim=0), render.step, rate_hz)
            else:
                self._writer.add_image(name, _strip(path), render.step, dataformats="HWC")


@contextmanager
def open_board(folder: Path, *, start: int, enabled: bool) -> Iterator[Board]:
    """Open a board in `folder`, or one that writes nothing, as in every process but the main one.

    Args:
        folder: Where event files go.
        start: The step that training goes on from; what an earlier process wrote of later steps is hidden.
        enabled: Write at all.
    """
    writer = SummaryWriter(folder, purge_step=start + 1) if enabled else None
    try:
        yield Board(writer)
    finally:
        if writer is not None:
            writer.close()


def _strip(path: Path) -> torch.Tensor:
    """Lay frames of a video side by side `[h, frames * w, 3]`."""
    scan = media.scan_video(path, find_cuts=False)
    times = midpoint_times(scan.start_seconds, Fraction(scan.duration_seconds), min(FRAMES_IN_A_STRIP, scan.num_frames))
    frames = torch.from_numpy(media.decode_frames(path, times, scan.size))
    return torch.cat(list(frames), dim=1)
