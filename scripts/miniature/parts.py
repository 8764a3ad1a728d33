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
        score: Looks at the module as it stands, in evaluation mode.
        score_every: Steps from one score to the next; 0 never.

    Raises:
        ConfigError: `work` has the state of another recipe, seed or basis.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    average = [parameter.detach().clone() for parameter in parameters]
    key = {"recipe": asdict(recipe), "seed": seed, "basis": basis}
    state = work / f"{name}.pt"
    step = 0
    if state.exists():
        kept = torch.load(state, weights_only=True, map_location="cpu")
        _check_key(state, kept.get("key"), key)
        module.load_state_dict(kept["module"])
        optimizer.load_state_dict(kept["optimizer"])
        generator.set_state(kept["generator"])
        average, step = [tensor.to(parameters[0].device) for tensor in kept["average"]], kept["step"]

    def save() -> None:
        with whole_file(state) as unfinished:
            torch.save(
                {
                    "key": key,
                    "module": module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "generator": generator.get_state(),
                    "average": average,
                    "step": step,
                },
                unfinished,
            )

    began, first, saved, shown = time.monotonic(), step, time.monotonic(), 0.0
    recent: Tensor | None = None
    module.train()
    while step < recipe.steps:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        loss = measure_loss(generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        weight = 1 - min(recipe.average, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], weight)
        recent = loss.detach() if recent is None else recent.lerp(loss.detach(), 0.02)
        now = time.monotonic()
        if now - shown > SHOW_SECONDS:
            shown = now
            pace = (step - first) / (now - began)
            console.print(f"{name}: step {step}/{recipe.steps}, loss {float(recent):.4f}, {pace:.2f} steps/s")
        if now - saved > SAVE_SECONDS:
            saved = now
            save()
        if score is not None and score_every and step % score_every == 0:
            module.eval()
            console.print(f"{name}: step {step}: " + ", ".join(f"{key} {value:.3f}" for key, value in score().items()))
            module.train()
    save()
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    module.eval()


def _check_key(state: Path, kept: Mapping[str, object] | None, key: Mapping[str, object]) -> None:
    """Refuse a state that was trained by another recipe, from another seed or on another basis."""
    remedy = "Give another --work, or remove the file to train the part again."
    if kept is None:
        raise ConfigError(f"{state} does not say what it was trained by. {remedy}")
    other = [f"its {name} is {kept.get(name)}, not {value}" for name, value in key.items() if kept.get(name) != value]
    if other:
        raise ConfigError(f"{state} is of another training: {'; '.join(other)}. {remedy}")
