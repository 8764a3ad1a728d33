"""Tiny videos with patches of colour and tones, images, and manifests of them."""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ltx_trainer.artifacts import Clips, Example, Manifest, MediaKind, Role, SourceFile
from ltx_trainer.config import Request
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media import write_video
from ltx_trainer.modes import MODES, Mode
from ltx_trainer.prepare import prepare_clips

SIDE = 32
RATE_HZ = 16000


@pytest.fixture
def t2v() -> Mode:
    return next(mode for mode in MODES if mode.name == "t2v")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Where scans are remembered."""
    return tmp_path / "scans"


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes scenes of one colour each, with a tone of a given peak, and gives the path."""

    def make(name: str, *scenes: int, rate: Fraction = Fraction(24), peak: float | None = None) -> Path:
        path = tmp_path / "media" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        colours = np.random.default_rng(0).integers(0, 256, (len(scenes), SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
        blocks = np.repeat(np.repeat(np.repeat(colours, 8, axis=1), 8, axis=2), scenes, axis=0)
        write_video(path, blocks, rate, audio=_tone(peak, sum(scenes) / rate), audio_rate_hz=RATE_HZ)
        return path

    return make


def _tone(peak: float | None, duration_seconds: Fraction) -> np.ndarray | None:
    if peak is None:
        return None
    seconds = np.arange(round(duration_seconds * RATE_HZ)) / RATE_HZ
    return np.tile(peak * np.sin(2 * np.pi * 1000 * seconds), (2, 1)).astype(np.float32)


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[[str], Path]:
    """Give a function that writes a picture of noise and gives its path."""

    def make(name: str) -> Path:
        path = tmp_path / "media" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make


@pytest.fixture
def with_damaged_sound(tmp_path: Path) -> Callable[[Path], Path]:
    """Give a function that copies a video with every packet of its sound replaced by zeros."""

    def damage(path: Path) -> Path:
        damaged = tmp_path / "media" / f"{path.stem}-damaged.mkv"
        with av.open(str(path)) as source, av.open(str(damaged), "w") as copy:
            streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is None:
                    continue
                written = packet
                if packet.stream.type == "audio":
                    written = av.Packet(bytes(packet.size))
                    written.pts, written.dts, written.time_base = packet.pts, packet.dts, packet.time_base
                written.stream = streams[packet.stream.index]
                copy.mux(written)
        return damaged

    return damage


def example_of(path: Path, caption: str | None = "a caption") -> Example:
    """Make the example that ingestion makes of a file."""
    kind = MediaKind.IMAGE if path.suffix == ".png" else MediaKind.VIDEO
    source = SourceFile(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest(), kind)
    return Example(path.stem, {Role.TARGET: source}, caption)


@pytest.fixture
def prepare(t2v: Mode, scans: Path) -> Callable[..., Clips]:
    """Give a function that prepares files, or examples, for a model of 9 frames at 24 fps, with sound."""

    def run(
        *items: Path | Example,
        num_frames: int = 9,
        frame_rate: Fraction = Fraction(24),
        audio_rate_hz: int | None = RATE_HZ,
        **fields: object,
    ) -> Clips:
        request = Request.model_validate({"training_data_url": "data.zip", **fields})
        examples = tuple(item if isinstance(item, Example) else example_of(item) for item in items)
        return prepare_clips(
            request,
            t2v,
            ClipShape(num_frames, FrameSize(SIDE, SIDE), frame_rate),
            Manifest(examples, ()),
            scans,
            audio_rate_hz=audio_rate_hz,
            frames_factor=8,
        )

    return run


@pytest.fixture
def as_example() -> Callable[..., Example]:
    return example_of
