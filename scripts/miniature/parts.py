"""A part of the miniature and its training: a fixed number of steps that can be stopped anywhere and gone on with.

Every draw comes from one generator on the CPU, and the learning rate is a function of the step; so on a CPU, with one
number of threads, the weights do not depend on how often a training was stopped.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from ltx_trainer.atomic import whole_file
from ltx_trainer.errors import ConfigError

SAVE_SECONDS = 60
SHOW_SECONDS = 30


@dataclass(frozen=True)
class Recipe:
    """How a part is trained.

    Attributes:
        steps: Optimizer updates.
        horizon: Updates after which the rate would be at its lowest; 0 for `steps`.
        peak_rate: Learning rate after the warm-up; it falls to 2 % of this along half a cosine.
        warmup: Steps on the way up.
        average: Share of the old in the running average of the weights that is kept at the end; 0 keeps the last.
    """

    steps: int
    peak_rate: float
    horizon: int = 0
    warmup: int = 50
    average: float = 0.0

    def rate(self, step: int) -> float:
        """Give the learning rate of a step, the first being 0."""
        fall = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / (self.horizon or self.steps)))
        return self.peak_rate * min(1, (step + 1) / self.warmup) * fall


def train_part(
    name: str,
    module: nn.Module,
    recipe: Recipe,
    measure_loss: Callable[[torch.Generator], Tensor],
    work: Path,
    *,
    seed: int,
    basis: str,
    console: Console,
    opening: str = "",
    score: Callable[[], Mapping[str, float]] | None = None,
    score_every: int = 0,
) -> None:
    """Train a module to the end of its recipe, from where an earlier call stopped; leave it in evaluation mode.

    Args:
        name: Of the part, and of its file in `work`.
        module: What is trained; holds the averaged weights in the end.
        recipe: How.
        measure_loss: Draws a batch and gives its loss.
        work: Where the state is kept.
        seed: Of the draws.
        basis: Says what else decides the weights: the code, and the parts that this one is trained on top of.
        console: Where progress is shown.
        opening: Printed before the first loss, which draws what all are of; not of a part that is finished.
        score: Looks at the module as it stands, in evaluation mode.
        score_every: Steps from one score to the next; 0 never.

    Raises:
        ConfigError: `work` has the state of another recipe, seed or basis.
    """
    key = {"recipe": asdict(recipe), "seed": seed, "basis": basis}
    state = _State.of(module, seed)
    file = work / f"{name}.pt"
    if file.exists():
        state.load(file, key)
    if opening and state.step < recipe.steps:
        console.print(opening)
    began, first, saved, shown = time.monotonic(), state.step, time.monotonic(), 0.0
    recent: Tensor | None = None
    module.train()
    while state.step < recipe.steps:
        loss = measure_loss(state.generator)
        state.update(loss, recipe)
        recent = loss.detach() if recent is None else recent.lerp(loss.detach(), 0.02)
        now = time.monotonic()
        if now - shown > SHOW_SECONDS:
            shown = now
            pace = (state.step - first) / (now - began)
            console.print(f"{name}: step {state.step}/{recipe.steps}, loss {float(recent):.4f}, {pace:.2f} steps/s")
        if now - saved > SAVE_SECONDS:
            saved = now
            state.save(file, key)
        if score is not None and score_every and state.step % score_every == 0:
            module.eval()
            found = ", ".join(f"{measure} {value:.3f}" for measure, value in score().items())
            console.print(f"{name}: step {state.step}: {found}")
            module.train()
    state.save(file, key)
    with torch.no_grad():
        for parameter, mean in zip(state.parameters, state.average, strict=True):
            parameter.copy_(mean)
    module.eval()


@dataclass
class _State:
    """A training between two steps.

    Attributes:
        module: What is trained.
        parameters: Of it, those that are.
        optimizer: Of these.
        generator: Of all draws.
        average: Running means of the parameters.
        step: Updates done.
    """

    module: nn.Module
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    average: list[Tensor]
    step: int = 0

    @classmethod
    def of(cls, module: nn.Module, seed: int) -> "_State":
        """Begin."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
        average = [parameter.detach().clone() for parameter in parameters]
        return cls(module, parameters, optimizer, torch.Generator().manual_seed(seed), average)

    def update(self, loss: Tensor, recipe: Recipe) -> None:
        """Step down a loss at the recipe's rate, and average."""
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        weight = 1 - min(recipe.average, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], weight)

    def save(self, file: Path, key: Mapping[str, object]) -> None:
        """Write the state, and what it was trained by."""
        with whole_file(file) as unfinished:
            torch.save(
                {
                    "key": key,
                    "module": self.module.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "generator": self.generator.get_state(),
                    "average": self.average,
                    "step": self.step,
                },
                unfinished,
            )

    def load(self, file: Path, key: Mapping[str, object]) -> None:
        """Take up a state that was written.

        Raises:
            ConfigError: It is of another recipe, seed or basis.
        """
        kept = torch.load(file, weights_only=True, map_location="cpu")
        _check_key(file, kept.get("key"), key)
        self.module.load_state_dict(kept["module"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.generator.set_state(kept["generator"])
        self.average = [tensor.to(self.parameters[0].device) for tensor in kept["average"]]
        self.step = kept["step"]


def _check_key(state: Path, kept: Mapping[str, object] | None, key: Mapping[str, object]) -> None:
    """Refuse a state that was trained by another recipe, from another seed or on another basis."""
    remedy = "Give another --work, or remove the file to train the part again."
    if kept is None:
        raise ConfigError(f"{state} does not say what it was trained by. {remedy}")
    other = [f"its {name} is {kept.get(name)}, not {value}" for name, value in key.items() if kept.get(name) != value]
    if other:
        raise ConfigError(f"{state} is of another training: {'; '.join(other)}. {remedy}")
