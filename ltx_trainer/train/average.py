"""Averages of the adapter over the steps: what is previewed, measured and published where a run keeps one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn


class Average(ABC):
    """An average of the adapter's parameters, beside the values that training goes on with."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the parameters the average's values for the length of the `with`, and exactly their own after it."""
        kept = _copies(self._parameters)
        try:
            self.put()
            yield
        finally:
            self.take_back()
            _set(self._parameters, kept)

    @abstractmethod
    def update(self) -> None:
        """Take in what a step made of the parameters."""

    @abstractmethod
    def restore(self) -> None:
        """Take the values that the parameters have now for the average."""

    @abstractmethod
    def put(self) -> None:
        """Give the parameters the average's values."""

    @abstractmethod
    def take_back(self) -> None:
        """Get ready to go on, before the parameters have their own values again."""


class MovingAverage(Average):
    """An exponential moving average, in the parameters' own precision and on their device."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        super().__init__(parameters)
        self._decay = decay
        self.restore()

    @torch.no_grad()
    def update(self) -> None:
        """Go a share of `1 - decay` of the way to the parameters."""
        torch._foreach_lerp_(self._values, list(self._parameters), 1 - self._decay)

    def restore(self) -> None:
        """Take the values that the parameters have now for the average."""
        self._values = _copies(self._parameters)

    def put(self) -> None:
        """Give the parameters the average's values."""
        _set(self._parameters, self._values)

    def take_back(self) -> None:
        """Do nothing."""


class ScheduleFreeAverage(Average):
    """The average that schedule-free optimizers make themselves, from what they keep."""

    def __init__(self, parameters: Sequence[nn.Parameter], optimizer: AdamWScheduleFree) -> None:
        super().__init__(parameters)
        self._optimizer = optimizer
        optimizer.train()

    def update(self) -> None:
        """Do nothing: the optimizer's step has."""

    def restore(self) -> None:
        """Do nothing: the optimizer's state has it."""

    def put(self) -> None:
        """Let the optimizer give the parameters the average's values."""
        self._optimizer.eval()

    def take_back(self) -> None:
        """Tell the optimizer that it goes on."""
        self._optimizer.train()


def make_average(
    parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, ema_decay: float | None
) -> Average | None:
    """Make the average that the settings ask for; None without one."""
    if isinstance(optimizer, AdamWScheduleFree):
        assert ema_decay is None, "the optimizer makes the average"
        return ScheduleFreeAverage(parameters, optimizer)
    return None if ema_decay is None else MovingAverage(parameters, ema_decay)


def _copies(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def _set(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
