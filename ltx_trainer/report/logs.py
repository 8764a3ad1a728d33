"""What is told of a training, and who is told: the screen, events.jsonl, TensorBoard and W&B are each a `Log`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ltx_trainer.artifacts import Render

Event = Mapping[str, Any]
"""Something that happened: `event` names its kind, `step` says when, the rest are facts of that kind."""


class Measured(Protocol):
    """What a training step tells of itself."""

    @property
    def step(self) -> int:
        """Optimizer updates done, this one included."""
        ...

    @property
    def loss(self) -> Mapping[str, float]:
        """By name: `loss`, and one for each stream."""
        ...

    @property
    def loss_by_sigma(self) -> Mapping[str, float]:
        """By stream and range of noise levels, such as `video 0.50-0.75`; those that the step drew."""
        ...

    @property
    def clips(self) -> Sequence[str]:
        """Names of the samples, in the order of the data."""
        ...

    @property
    def learning_rate(self) -> float:
        """Of this step."""
        ...

    @property
    def grad_norm(self) -> float:
        """Before clipping."""
        ...

    @property
    def seconds(self) -> float:
        """Wall time of the step."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Most device memory so far; 0 on a CPU."""
        ...

    @property
    def skipped(self) -> int:
        """Batches so far whose loss or gradient was not finite."""
        ...


class Log(Protocol):
    """Someone who is told of a training while it goes on."""

    def add_step(self, measured: Measured) -> None:
        """Take the numbers of one step."""
        ...

    def add_event(self, event: Event) -> None:
        """Take something that happened besides a step."""
        ...

    def add_render(self, render: Render) -> None:
        """Take a preview."""
        ...


class Logs:
    """Tells several logs the same, in their order."""

    def __init__(self, *logs: Log) -> None:
        self._logs = logs
        self._rendered: int | None = None

    def add_step(self, measured: Measured) -> None:
        """Tell every log of one step."""
        for log in self._logs:
            log.add_step(measured)

    def add_event(self, event: Event) -> None:
        """Tell every log of something that happened."""
        for log in self._logs:
            log.add_event(event)

    def add_render(self, render: Render) -> None:
        """Tell every log of a preview, once for each step: the last one is also asked for after the training."""
        if render.step == self._rendered:
            return
        for log in self._logs:
            log.add_render(render)
        self._rendered = render.step


def curves_of_step(measured: Measured) -> dict[str, float]:
    """Give the numbers of a step by the name of the curve that each belongs to."""
    by_sigma = {f"loss_by_sigma/{name.replace(' ', '/')}": loss for name, loss in measured.loss_by_sigma.items()}
    return {
        **measured.loss,
        **by_sigma,
        "learning_rate": measured.learning_rate,
        "gradient_norm": measured.grad_norm,
        "seconds_a_step": measured.seconds,
        "skipped": float(measured.skipped),
    }


def curves_of_event(event: Event) -> dict[str, float]:
    """Give the numbers of an event likewise; only a measurement on held-out clips has any."""
    if event["event"] != "held_out":
        return {}
    by_sigma = {f"held_out/{name.replace(' ', '/')}": loss for name, loss in event["by_sigma"].items()}
    return {"held_out/loss": event["loss"], **by_sigma}
