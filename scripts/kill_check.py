"""Kill a run again and again, continue it with the same command, and hold what it leaves to an undisturbed run.

python scripts/kill_check.py --kills 20
python scripts/kill_check.py --at checkpoint --at preview --at export

A kill is SIGKILL: a random number of events and a random moment after the run went on, so that the kills are spread
over its whole length, or inside the writing of the file named by `--at`. The LoRA, its config, the last
checkpoint, the previews, and the losses and order of the data in events.jsonl must be equal byte for byte. The exit
status is 1 if they are not.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from forked import start_command
from make_demo import write_scenes

from ltx_trainer import world

CONFIG = """
endpoint: {endpoint}
input:
  training_data_url: {archive}
  rank: 8
  number_of_steps: {steps}
  number_of_frames: 9
  resolution: low
  validation: [{{prompt: a red circle}}, {{prompt: a blue square}}]
  validation_number_of_frames: 9
  validation_resolution: low
model: {{base: miniature}}
lora: {{dropout: 0.2}}
optimizer: {{schedule: cosine, warmup_steps: 2}}
training: {{checkpoint_interval: 3, accumulation: 2, caption_dropout: 0.3, ema_decay: 0.9}}
held_out: {{fraction: 0.1, interval: 4}}
validation: {{steps: 2, interval: {interval}}}
paths: {{cache: {cache}}}
"""

BEING_WRITTEN = {
    "checkpoint": "checkpoints/.step-*.partial.safetensors",
    "preview": "previews/*/.*.partial.mp4",
    "export": ".lora.partial.safetensors",
}
"""The file that is there only while a part of the run writes."""

NUM_SCENES, SCENES_SEED = 12, 1
STEPS = 12
STEPS_A_KILL = 2
MOST_EVENTS = 6
LONGEST_WAIT_SECONDS = 1.0
OF_ITS_OWN = frozenset({"time", "seconds", "memory_bytes"})
"""What the events of two equal runs differ in."""


def main() -> None:
    """Run undisturbed, run with kills, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="at random moments")
    parser.add_argument("--at", choices=BEING_WRITTEN, action="append", default=[], help="inside a write")
    parser.add_argument("--endpoint", default="fal-ai/ltx23-trainer-v2/t2v", help="of text to video")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        different = _check(Path(folder), options.endpoint, options.kills, options.at, random.Random(options.seed))
    _say(f"different: {', '.join(different)}" if different else "equal byte for byte")
    sys.exit(bool(different))


def _check(folder: Path, endpoint: str, num_kills: int, writes: Sequence[str], moments: random.Random) -> list[str]:
    archive, config = folder / "clips.zip", folder / "run.yaml"
    write_scenes(archive, world.draw_scenes(NUM_SCENES, SCENES_SEED), side=64, num_frames=12)
    steps = STEPS + STEPS_A_KILL * num_kills
    fields = {"archive": archive, "cache": folder / "cache", "steps": steps, "interval": steps // 2 - 1}
    config.write_text(CONFIG.format(endpoint=endpoint, **fields))
    whole, killed = folder / "undisturbed", folder / "killed"
    _finish(config, whole)
    for number in range(1, num_kills + 1):
        num_events, seconds = moments.randint(0, MOST_EVENTS), moments.uniform(0, LONGEST_WAIT_SECONDS)
        _say(f"kill {number} of {num_kills}: {_kill_after(num_events, seconds, config, killed)}")
    for write in writes:
        _say(f"kill in the write of the {write}: {_kill_inside(BEING_WRITTEN[write], config, killed)}")
    _finish(config, killed)
    return list(_differences(whole, killed))


def _start(config: Path, output: Path) -> BaseProcess:
    nowhere = Path(os.devnull)
    return start_command(["run", str(config), "--output", str(output)], nowhere, nowhere)


def _finish(config: Path, output: Path) -> None:
    run = _start(config, output)
    run.join()
    if run.exitcode:
        raise SystemExit(f"The run ended with {run.exitcode}: {(output / 'status.json').read_text()}")


def _kill_after(num_events: int, seconds: float, config: Path, output: Path) -> str:
    """Kill some time after the run has told of so many more events; 0 of them is while it starts."""
    awaited = _num_events(output) + num_events
    run = _start(config, output)
    while run.is_alive() and _num_events(output) < awaited:
        time.sleep(0.01)
    time.sleep(seconds)
    if not run.is_alive():
        raise SystemExit(f"The run ended with {run.exitcode} before it was killed.")
    run.kill()
    run.join()
    return f"{num_events} events and {seconds:.2f} s on, {_reached(output)}"


def _num_events(output: Path) -> int:
    path = output / "events.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _kill_inside(pattern: str, config: Path, output: Path) -> str:
    """Kill as soon as a file that is being written is there."""
    run = _start(config, output)
    while run.is_alive():
        if found := next(output.glob(pattern), None):
            run.kill()
            run.join()
            return f"{found.name} left, {_reached(output)}"
        time.sleep(0.001)
    raise SystemExit(f"The run ended with {run.exitcode} before {pattern} was seen.")


def _reached(output: Path) -> str:
    checkpoints = sorted(path.stem for path in output.glob("checkpoints/step-*.safetensors"))
    return f"newest checkpoint {checkpoints[-1] if checkpoints else 'none'}"


def _differences(whole: Path, killed: Path) -> Iterator[str]:
    last = max(whole.glob("checkpoints/*.safetensors"))
    files = [whole / "lora.safetensors", whole / "config.json", last, *sorted(whole.glob("previews/*/*"))]
    for name in (str(path.relative_to(whole)) for path in files):
        if not (killed / name).is_file() or (whole / name).read_bytes() != (killed / name).read_bytes():
            yield name
    if _told(whole) != _told(killed):
        yield "events.jsonl"


def _told(output: Path) -> list[dict[str, object]]:
    """Give every step and measurement of a run, without what belongs to the moment."""
    events = map(json.loads, (output / "events.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in event.items() if name not in OF_ITS_OWN}
        for event in events
        if event["event"] in {"step", "skipped", "held_out"}
    ]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
