"""A training in one of several processes: straight to the end, and stopped by a signal to the last process, then on.

shared_training.py CACHED.pickle SETTINGS.yaml FOLDER
"""

import json
import os
import pickle
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ltx_trainer.artifacts import Clips
from ltx_trainer.conditions import terms_of
from ltx_trainer.config import load_settings
from ltx_trainer.continuation import run_identity
from ltx_trainer.errors import Interrupted
from ltx_trainer.interruption import handle_signals
from ltx_trainer.models import read_model
from ltx_trainer.models.family import open_family
from ltx_trainer.models.lora import adapter_state, attach_lora
from ltx_trainer.processes import make_accelerator
from ltx_trainer.tensorfile import tensors_digest
from ltx_trainer.train import StepMetrics, generator_for, train_adapter

RANK, COUNT = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
STOPPED_AT = 2


def main() -> None:
    handle_signals()
    seen = {
        "straight": train("straight", stop=False),
        "stopped": train("stopped", stop=True),
        "continued": train("stopped", stop=False),
    }
    (Path(sys.argv[3]) / f"seen-{RANK}.json").write_text(json.dumps(seen))


def train(name: str, *, stop: bool) -> dict[str, Any]:
    with Path(sys.argv[1]).open("rb") as file:
        facts_folder, cached = pickle.load(file)
    settings = load_settings(Path(sys.argv[2]))
    seen: dict[str, Any] = {"clips": [], "losses": [], "events": [], "signal": 0}

    def observe(metrics: StepMetrics) -> None:
        seen["clips"].append(metrics.clips)
        seen["losses"].append(metrics.loss)
        if stop and metrics.step == STOPPED_AT and RANK == COUNT - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def hear(event: Mapping[str, Any]) -> None:
        seen["events"].append({key: str(value) if isinstance(value, Path) else value for key, value in event.items()})

    accelerator, dtype = make_accelerator("fp32")
    family = open_family(read_model(facts_folder, "ltx-2.3"))
    shape = cached.examples[0].shape
    terms = terms_of(settings.mode, settings.input, family.facts.factors, shape, trained_size=None)
    with family.transformer(accelerator.device, dtype) as transformer:
        modules = family.lora_modules(settings.lora_targets(with_audio=True))
        generator = generator_for(settings.training.seed, "adapter")
        attach_lora(transformer, modules, rank=8, alpha=8, dropout=settings.lora.dropout, generator=generator)
        try:
            train_adapter(
                settings,
                family,
                transformer,
                cached,
                Path(sys.argv[3]) / name,
                terms=terms,
                identity=run_identity(settings, Clips((), (), with_audio=True), COUNT),
                accelerator=accelerator,
                hooks=[],
                observers=[observe],
                on_event=hear,
            )
        except Interrupted as error:
            seen["signal"] = error.signal_number
        seen["adapter"] = tensors_digest(adapter_state(transformer))
    torch.distributed.barrier()
    return seen


if __name__ == "__main__":
    main()
