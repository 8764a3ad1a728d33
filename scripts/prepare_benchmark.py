"""Measure preparing, without the model, against one bare pass over the same frames; and preparing what is prepared.

python scripts/prepare_benchmark.py --output outputs/prepare_benchmark

The bare pass decodes every file once with one thread, scales every frame as the encoder gets it, and feeds
PySceneDetect's AdaptiveDetector a small picture of it: once with swscale's plain bicubic, and once with its accurate
flags, which preparing uses. Preparing is the command with encoders that give zeros, in one process and in `--workers`.
Each part is a process of its own: the processor seconds of it and all that it starts are counted once they have ended,
less those of a part that only imports. All but the last are kept on one core, where no other thread slows them. Its
memory is the largest sum of what its processes hold, imports included.
"""

import argparse
import ctypes
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import psutil
import torch
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector
from torch import Tensor

import ltx_trainer.cache.fill
import ltx_trainer.survey  # noqa: F401 - imported here, so that no part counts it
from ltx_trainer import cli
from ltx_trainer.models.folder import OVERRIDES_FILE
from ltx_trainer.models.ltx2 import Ltx2Family
from ltx_trainer.models.miniature import write_miniature

SIZE, NUM_FRAMES, RATE = (960, 544), 89, 30
"""Of a clip; rate of the files."""

FILM_FRAMES = 100
REPEATS = 3
SMALL_CLIPS = 1000
PR_SET_CHILD_SUBREAPER = 36
SAMPLE_SECONDS = 0.1
PLAIN = Interpolation.BICUBIC
ACCURATE = PLAIN | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
THUMBNAIL = (256, 144)

CONFIG = """
endpoint: fal-ai/ltx23-trainer-v2/t2v
input:
  training_data_url: {clips}
  number_of_frames: {num_frames}
  number_of_steps: 1
  resolution: high
  aspect_ratio: "16:9"
model: {{base: {base}}}
data: {{workers: {workers}, max_left_out: 0}}
paths: {{cache: {cache}}}
"""


@dataclass(frozen=True)
class Cost:
    """What a part took.

    Attributes:
        cpu_seconds: Of all its processes.
        wall_seconds: From its start to its end.
        peak_mib: Most memory that its processes held for themselves at a time, imports included.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float


def main() -> None:
    """Measure all parts, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--clips", type=int, default=8, help="1080p files of the length of a clip")
    parser.add_argument("--film-minutes", type=float, default=0, help="also one 4K file of this length")
    parser.add_argument("--workers", type=int, default=min(8, len(os.sched_getaffinity(0))))
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part[0]](Path(options.part[1]), options.workers)
        return
    # What a part starts and leaves behind becomes this process's child, and is counted.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with TemporaryDirectory() as folder:
        figures = _measure(Path(folder), options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "prepare_benchmark.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    _say(json.dumps(figures, indent=1))


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    sets = {"clips": lambda path: _write_clips(path, options.clips)}
    if options.film_minutes:
        sets["film"] = lambda path: _write_film(path, options.film_minutes)
    figures: dict[str, Any] = {**_where(), "command": " ".join(sys.argv), "sets": {}}
    for name, write in sets.items():
        own = folder / name
        num_frames = write(own / "media")
        _write_base(own / "miniature")
        _say(f"{name}: {num_frames} frames")
        nothing = _cost_of("nothing", own, 0)
        costs = {part: _less(_cost_of(part, own, 0), nothing) for part in ("bare plain", "bare accurate", "prepare")}
        spread = f"prepare in {options.workers} processes"
        costs[spread] = _less(_cost_of("prepare", own, options.workers), nothing)
        base = costs["bare accurate"].cpu_seconds
        for part, cost in costs.items():
            _say(f"  {part}: {cost}, {cost.cpu_seconds / base:.2f} of the bare pass")
        figures["sets"][name] = {
            "frames": num_frames,
            "imports": asdict(nothing),
            "parts": {
                part: {**asdict(cost), "cpu_ms_a_frame": 1000 * cost.cpu_seconds / num_frames}
                for part, cost in costs.items()
            },
            "of_the_bare_pass": {part: cost.cpu_seconds / base for part, cost in costs.items()},
        }
    figures["prepared"] = _measure_prepared(folder / "small")
    return figures


def _where() -> dict[str, Any]:
    libraries = ("av", "numpy", "scenedetect-headless", "torch")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
    }


def _cost_of(part: str, folder: Path, workers: int) -> Cost:
    """Run a part as a process of its own, and count all that it starts."""
    before, started = _children_cpu(), time.monotonic()
    # Not as a script, which the processes that it starts would import again.
    code = "import prepare_benchmark; prepare_benchmark.main()"
    options = ["--output", os.devnull, "--workers", str(workers), "--part", part, str(folder)]
    process = subprocess.Popen([sys.executable, "-c", code, *options], cwd=Path(__file__).parent)
    if not workers:
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
    with _watched() as peak:
        status = process.wait()
    seconds = time.monotonic() - started
    _wait_for_orphans()
    if status:
        sys.exit(f"{part} ended with {status}.")
    return Cost(_children_cpu() - before, seconds, peak[0] / 2**20)


def _less(cost: Cost, nothing: Cost) -> Cost:
    return replace(cost, cpu_seconds=cost.cpu_seconds - nothing.cpu_seconds)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_orphans() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Note the most memory that the descendants of this process hold at a time."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(_held_by(each) for each in psutil.Process().children(recursive=True)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _held_by(process: psutil.Process) -> int:
    """Give what a process would give back: shared pages by share, without those of files, which the kernel may drop."""
    try:
        maps = process.memory_maps(grouped=True)
        return sum(each.pss for each in maps if not each.path.endswith((".npy", ".reel")))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _pass_over(folder: Path, flags: Interpolation) -> None:
    """Decode, scale and detect, and keep nothing."""
    scaled, small = VideoReformatter(), VideoReformatter()
    for path in sorted((folder / "media").glob("*.mp4")):
        detector = AdaptiveDetector()
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for index, frame in enumerate(container.decode(stream)):
                picture = scaled.reformat(frame, *SIZE, format="rgb24", interpolation=flags, threads=1)
                assert picture.to_ndarray().shape == (SIZE[1], SIZE[0], 3)
                thumbnail = small.reformat(
                    frame, *THUMBNAIL, format="bgr24", interpolation=Interpolation.BILINEAR, threads=1
                )
                detector.process_frame(FrameTimecode(index, float(RATE)), thumbnail.to_ndarray())


def _prepare(folder: Path, workers: int) -> None:
    """Say `prepare` for the first time, with encoders that give zeros at once."""
    family: Any = Ltx2Family
    family.video_codec = family.audio_codec = lambda *_: nullcontext(_Zeros())
    family.encode_prompts = _no_embeddings
    with TemporaryDirectory(dir=folder) as work:
        config = _write_config(Path(work), folder / "media", workers, base=folder / "miniature")
        status = cli.main(["prepare", str(config), "--output", f"{work}/run"])
    sys.exit(status)


class _Zeros:
    """Stands for the encoder of pictures, and for that of sound."""

    def encode(self, _media: Tensor, _num_tokens: int = 0) -> Tensor:
        return torch.zeros(1)


def _no_embeddings(*_: object, wanted: Sequence[str], **__: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
    return ((text, {"video": torch.zeros(1)}) for text in wanted)


def _measure_prepared(folder: Path) -> dict[str, Any]:
    """Time `prepare` of many small clips that are prepared, by the real miniature."""
    _write_small(folder / "media", SMALL_CLIPS)
    config = _write_config(folder, folder / "media", 0, base="miniature", num_frames=9)
    words = [sys.executable, "-m", "ltx_trainer", "prepare", str(config), "--output", str(folder / "run")]
    seconds = []
    for _ in range(1 + REPEATS):
        started = time.monotonic()
        subprocess.run(words, check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
    again = ", ".join(f"{each:.2f}" for each in seconds[1:])
    _say(f"{SMALL_CLIPS} small clips: {seconds[0]:.1f} s, and prepared already {again} s")
    return {"clips": SMALL_CLIPS, "first_seconds": seconds[0], "prepared_seconds": seconds[1:]}


def _write_base(folder: Path) -> None:
    """Write a miniature with the picture sizes of the real model."""
    write_miniature("ltx-2.3", folder)
    (folder / OVERRIDES_FILE).unlink()


def _write_config(folder: Path, media: Path, workers: int, *, base: Path | str, num_frames: int = NUM_FRAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    fields = {"clips": media, "num_frames": num_frames, "workers": workers, "cache": folder / "cache", "base": base}
    config.write_text(CONFIG.format(**fields), encoding="utf-8")
    return config


def _write_clips(folder: Path, count: int) -> int:
    """Write 1080p files of a drifting texture, each with a tone of its own and a caption; give the number of frames."""
    num_frames = round(NUM_FRAMES * RATE / 24) + 1
    for index in range(count):
        _write_video(folder / f"clip-{index:03d}.mp4", (1920, 1080), num_frames, seed=index)
    return count * num_frames


def _write_film(folder: Path, minutes: float) -> int:
    """Write one 4K file whose texture changes every few seconds; give the number of frames."""
    num_frames = round(60 * minutes * RATE)
    _write_video(folder / "film.mp4", (3840, 2160), num_frames, seed=0)
    return num_frames


def _write_small(folder: Path, count: int) -> None:
    for index in range(count):
        _write_video(folder / f"clip-{index:04d}.mp4", (64, 64), 12, seed=index)


def _write_video(path: Path, size: tuple[int, int], num_frames: int, *, seed: int) -> None:
    """Write a texture that drifts and changes every `FILM_FRAMES` frames, with a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"})
        sound = output.add_stream("aac", rate=48000, layout="stereo")
        assert isinstance(video, VideoStream)
        assert isinstance(sound, AudioStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        texture = _texture(seed * 1000, height, width)
        for index in range(num_frames):
            if index % FILM_FRAMES == 0:
                texture = _texture(seed * 1000 + index // FILM_FRAMES, height, width)
            drifted = np.ascontiguousarray(np.roll(texture, 2 * index, axis=1))
            output.mux(video.encode(VideoFrame.from_ndarray(drifted, format="rgb24")))
        output.mux(video.encode())
        wave = 0.3 * np.sin(2 * np.pi * (200 + seed % 50 * 10) * np.arange(num_frames * 48000 // RATE) / 48000)
        frame = AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
        frame.rate = 48000
        output.mux(sound.encode(frame))
        output.mux(sound.encode())
    path.with_suffix(".txt").write_text(f"a texture number {seed}", encoding="utf-8")


def _texture(seed: int, height: int, width: int) -> np.ndarray:
    """Draw smooth blobs with some grain, `[height, width, 3]`, uint8."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 256, (9, 16, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = random.integers(-12, 13, (height, width, 1))
    return (np.asarray(blobs).astype(np.int16) + grain).clip(0, 255).astype(np.uint8)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


PARTS: Mapping[str, Callable[[Path, int], None]] = {
    "nothing": lambda _folder, _workers: None,
    "bare plain": lambda folder, _: _pass_over(folder, PLAIN),
    "bare accurate": lambda folder, _: _pass_over(folder, ACCURATE),
    "prepare": _prepare,
}

if __name__ == "__main__":
    main()
