"""Kill the preparation of data at random moments, say the same command again, and hold the cache to an undisturbed one.

python scripts/prepare_kill_check.py --kills 50
python scripts/prepare_kill_check.py --kills 20 --endpoint fal-ai/ltx-video-trainer

Every kill is SIGKILL of the command alone, a moment after a random number of files has come to be in a cache that
begins empty, so that the kills are spread over all that is written. The archive has clips with sound, references,
masks, images, captions and a clip that is damaged. After the second command the cache and the run's folder must be
equal to the undisturbed ones, file by file and byte for byte, what lay whole in the cache at the kill must be the same
file still, and no process of the killed command may be at work. The exit status is 1 if it is not so.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from forked import start_command
from PIL import Image

from ltx_trainer import world
from ltx_trainer.media import write_video

MASKED, MIXED = "fal-ai/ltx23-trainer-v2/av2av-masked", "fal-ai/ltx-video-trainer"
"""A mode of LTX-2.3 with pictures, sound, references and masks; one of LTX-Video with images among the clips."""

REQUEST = {"number_of_frames": 9, "resolution": "low", "number_of_steps": 1, "trigger_phrase": "TOK"}
PREVIEW = {"validation_number_of_frames": 9, "validation_resolution": "low"}
NUM_SCENES, SCENES_SEED = 3, 1
SIDE, NUM_FRAMES, RATE_HZ, FRAME_RATE = 64, 12, 48000, Fraction(24)
DAMAGED_BYTES = 600
"""Of a clip that ends so early that nothing of it can be decoded."""
FOR_A_WHILE = frozenset({"scratch", "spool"})
"""Folders of the cache that are made again and are empty in the end."""
LONGEST_WAIT_SECONDS = 0.2
"""From the awaited file to the kill."""


def main() -> None:
    """Prepare undisturbed, prepare with kills, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--endpoint", choices=[MASKED, MIXED], default=MASKED)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode; 0 is the command's own")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with TemporaryDirectory() as folder:
        desk = make_desk(Path(folder), options.endpoint, workers=options.workers)
        # The first command starts the server that the others are forked from.
        desk.finish()
        desk.clear()
        seconds = desk.finish()
        undisturbed = desk.content()
        _say(f"undisturbed: {len(undisturbed)} files in {seconds:.1f} s")
        wrong = [_check(desk, undisturbed, moments) for _ in range(options.kills)]
    _say(f"{sum(wrong)} of {options.kills} kills left another cache" if any(wrong) else "equal byte for byte")
    sys.exit(any(wrong))


def _check(desk: "Desk", undisturbed: Mapping[str, bytes], moments: random.Random) -> bool:
    """Kill once, prepare again and compare; tell whether anything is wrong."""
    desk.clear()
    awaited, seconds = moments.randrange(len(undisturbed)), moments.uniform(0, LONGEST_WAIT_SECONDS)
    killed = desk.kill_once(lambda: desk.num_files() >= awaited, seconds)
    left = desk.whole()
    kinds = Counter(name.split("/")[0] for name in left)
    desk.finish()
    different = sorted({*differences(undisturbed, desk.content()), *changed(left, desk.whole())})
    reached = ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "nothing"
    ended = "killed" if killed else "ended by itself"
    _say(f"{awaited} files and {seconds:.2f} s: {ended} with {reached}; {', '.join(different) or 'equal'}")
    return bool(different)


def differences(undisturbed: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Name the files that two commands have left differently, or only one of them."""
    names = undisturbed.keys() | other.keys()
    return sorted(name for name in names if undisturbed.get(name) != other.get(name))


def changed(left: Mapping[str, tuple[int, int]], later: Mapping[str, tuple[int, int]]) -> list[str]:
    """Name the files that lay whole and are gone or were made again."""
    return sorted(f"{name} made again" for name, facts in left.items() if later.get(name) != facts)


@dataclass(frozen=True)
class Desk:
    """Where commands are said.

    Attributes:
        folder: Of all that follows.
        config: The settings.
        orphans: Processes that a killed command had started.
    """

    folder: Path
    config: Path
    orphans: list[psutil.Process] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        """What is compared and what is kept."""
        return self.folder / "cache"

    @property
    def output(self) -> Path:
        """The run's own folder."""
        return self.folder / "run"

    def start(self, *, output: Path | None = None, config: Path | None = None) -> BaseProcess:
        """Start `prepare`, in a folder and with settings that may be others than the desk's own."""
        run = output or self.output
        words = ["prepare", str(config or self.config), "--output", str(run)]
        return start_command(words, Path(os.devnull), run.with_name(f"{run.name}.said"))

    def finish(self) -> float:
        """Prepare to the end; give the seconds that it took."""
        began = time.monotonic()
        command = self.start()
        command.join()
        if command.exitcode:
            raise SystemExit(f"prepare ended with {command.exitcode}: {(self.folder / 'run.said').read_text()}")
        alive = [orphan.pid for orphan in self.orphans if _is_at_work(orphan)]
        if alive:
            raise SystemExit(f"Processes of a killed command are at work after the next one: {alive}.")
        return time.monotonic() - began

    def kill_once(self, reached: Callable[[], bool], seconds: float = 0.0) -> bool:
        """Prepare, and kill some seconds after something is reached; tell whether there was something to kill."""
        command = self.start()
        while command.is_alive() and not reached():
            time.sleep(0.002)
        command.join(seconds)
        was_alive = command.is_alive()
        with suppress(psutil.NoSuchProcess):
            self.orphans[:] = psutil.Process(command.pid).children(recursive=True)
        command.kill()
        command.join()
        return was_alive

    def num_files(self) -> int:
        """Count what there is, whole or not."""
        # os.walk goes on where a folder has been taken away meanwhile.
        return sum(len(files) for place in (self.cache, self.output) for _, _, files in os.walk(place))

    def clear(self) -> None:
        """Take away what commands have left."""
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.rmtree(self.output, ignore_errors=True)

    def content(self) -> dict[str, bytes]:
        """Give every file of the cache and of the run's folder, without what belongs to the moment."""
        return {
            str(path.relative_to(self.folder)): _lasting(path)
            for place in (self.cache, self.output)
            for path in sorted(place.rglob("*"))
            if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
        }

    def whole(self) -> dict[str, tuple[int, int]]:
        """Give the inode and the time of change of every file of the cache that is not on its way."""
        files = (path.relative_to(self.cache) for path in self.cache.rglob("*") if path.is_file())
        files = (file for file in files if file.parts[0] not in FOR_A_WHILE)
        facts = {
            str(file): (self.cache / file).stat() for file in files if not any(part[0] == "." for part in file.parts)
        }
        return {name: (fact.st_ino, fact.st_mtime_ns) for name, fact in facts.items() if not name.endswith(".lock")}


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _lasting(path: Path) -> bytes:
    """Give what a file says, but for times: when a source was changed last, which an extracted file owes to its run."""
    if path.parent.name == "digests":
        size, _, digest = json.loads(path.read_text())
        return f"{size} {digest}".encode()
    return path.read_bytes()


def make_desk(folder: Path, endpoint: str, base: str = "miniature", *, workers: int = 0) -> Desk:
    """Write the archive, the inputs of a preview and the settings of a run.

    Args:
        folder: Where to.
        endpoint: `MASKED` or `MIXED`.
        base: The model.
        workers: Processes that decode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenes = world.draw_scenes(NUM_SCENES, SCENES_SEED)
    files = {name: file for number, scene in enumerate(scenes) for name, file in _example(folder, number, scene)}
    damaged = folder / "damaged.mp4"
    damaged.write_bytes(files["0_end.mp4"].read_bytes()[:DAMAGED_BYTES])
    if endpoint == MASKED:
        files |= {"bad_start.mp4": files["0_start.mp4"], "bad_end.mp4": damaged, "bad_mask.png": files["0_mask.png"]}
        item = {"video_url": "1_end.mp4", "mask_url": "0_mask.png", "reference_video_url": "1_start.mp4"}
    else:
        files = {name.replace("_end", ""): file for name, file in files.items() if "_start" not in name}
        files["bad.mp4"], item = damaged, {"image_url": "0_mask.png"}
    archive = folder / "data.zip"
    write_files(archive, files)
    shown = {"prompt": "a red circle", **{name: str(folder / file) for name, file in item.items()}}
    request = {**REQUEST, **PREVIEW, "training_data_url": str(archive), "validation": [shown]}
    settings = {
        "endpoint": endpoint,
        "input": request,
        "model": {"base": base},
        "data": {"workers": workers},
        "paths": {"cache": str(folder / "cache")},
    }
    config = folder / "run.yaml"
    config.write_text(json.dumps(settings))
    return Desk(folder, config)


def write_files(archive: Path, files: Mapping[str, Path]) -> None:
    """Write a zip of files by their names in it; equal files have equal bytes."""
    with zipfile.ZipFile(archive, "w") as members:
        for name, file in files.items():
            members.writestr(zipfile.ZipInfo(name), file.read_bytes())


def _example(folder: Path, number: int, scene: world.Scene) -> Iterator[tuple[str, Path]]:
    """Write a pair of clips with sound, a mask and a caption; every other mask is a video."""
    for suffix, shown in (("start", scene), ("end", world.as_zorp(scene))):
        clip = folder / f"{number}_{suffix}.mp4"
        sound = world.sing(shown, int(NUM_FRAMES / FRAME_RATE * RATE_HZ), RATE_HZ)
        frames = world.render(shown, SIDE, SIDE, NUM_FRAMES)
        write_video(clip, frames, FRAME_RATE, audio=sound, audio_rate_hz=RATE_HZ)
        yield clip.name, clip
    white = np.zeros((SIDE, SIDE, 3), np.uint8)
    white[:, : SIDE // 2] = 255
    mask = folder / f"{number}_mask{'.mp4' if number % 2 else '.png'}"
    if mask.suffix == ".png":
        Image.fromarray(white).save(mask)
    else:
        write_video(mask, np.repeat(white[None], NUM_FRAMES, 0), FRAME_RATE)
    yield mask.name, mask
    caption = folder / f"{number}.txt"
    caption.write_text(world.caption(scene))
    yield caption.name, caption


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
