"""Tiny videos with patches of colour and tones, images, sounds, and manifests of them."""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ltx_trainer.artifacts import Clips, Example, Footage, Manifest, Role, SourceFile
from ltx_trainer.conditions import terms_of
from ltx_trainer.config import AudioSection, DataSection, Request
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors, SoundGrid, midpoint_times
from ltx_trainer.media import write_audio, write_video
from ltx_trainer.modes import KINDS, MODES, Mode
from ltx_trainer.prepare import prepare_clips

SIDE = 32
RATE_HZ = 16000
FACTORS = ScaleFactors(8, 32, 32)
GRID = SoundGrid(Fraction(100), 4)


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


@pytest.fixture
def make_numbered(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes square pictures with their index in bars, which `read_numbers` reads, with a tone."""

    def make(name: str, count: int, rate: Fraction | int = 24, side: int = 2 * SIDE, peak: float | None = None) -> Path:
        path = tmp_path / "media" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        bits = (np.arange(count)[:, None] >> np.arange(8)) & 1
        rows = np.where(bits, 235, 20).astype(np.uint8).repeat(side // 8, axis=1)
        pixels = np.broadcast_to(rows[:, None, :, None], (count, side, side, 3)).copy()
        write_video(path, pixels, Fraction(rate), audio=_tone(peak, count / Fraction(rate)), audio_rate_hz=RATE_HZ)
        return path

    return make


@pytest.fixture
def make_film(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes 9 grey frames of a given size at 24 fps, and gives the path."""

    def make(name: str, width: int, height: int) -> Path:
        path = tmp_path / "media" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, np.full((9, height, width, 3), 90, np.uint8), Fraction(24))
        return path

    return make


def read_numbers(pixels: np.ndarray) -> list[int]:
    """Read the index off each picture, at any size."""
    columns = (np.arange(8) * 2 + 1) * pixels.shape[2] // 16
    bits = pixels[:, pixels.shape[1] // 2, columns, 1] > 128
    return [int(number) for number in bits @ (1 << np.arange(8))]


def times_of(footage: Footage) -> list[Fraction]:
    """Give the times at which pictures are taken, on their file's clock."""
    return list(midpoint_times(footage.start_seconds, footage.span_seconds, footage.shape.num_frames))


def _tone(peak: float | None, duration_seconds: Fraction) -> np.ndarray | None:
    if peak is None:
        return None
    seconds = np.arange(round(duration_seconds * RATE_HZ)) / RATE_HZ
    return np.tile(peak * np.sin(2 * np.pi * 1000 * seconds), (2, 1)).astype(np.float32)


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a picture of noise and gives its path."""

    def make(name: str, width: int = SIDE, height: int = SIDE) -> Path:
        path = tmp_path / "media" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
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


@pytest.fixture
def make_sound(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a tone of a given length and peak as a WAV, and gives its path."""

    def make(name: str, duration_seconds: Fraction | float, peak: float = 0.5) -> Path:
        path = tmp_path / "media" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        samples = _tone(peak, Fraction(duration_seconds))
        assert samples is not None
        write_audio(path, samples, RATE_HZ)
        return path

    return make


def source_of(path: Path) -> SourceFile:
    """Make the source file that ingestion makes of a path."""
    return SourceFile(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest(), KINDS[path.suffix])


def example_of(path: Path, caption: str | None = "a caption", **others: Path) -> Example:
    """Make the example that ingestion makes of a target and of other files, which are named by their roles."""
    files = {Role.TARGET: path, **{Role[name.upper()]: other for name, other in others.items()}}
    return Example(path.stem, {role: source_of(file) for role, file in files.items()}, caption)


def mode_of(name: str) -> Mode:
    """Look a mode up by its name."""
    return next(mode for mode in MODES if mode.name == name)


@pytest.fixture
def prepare(scans: Path) -> Callable[..., Clips]:
    """Give a function that prepares files, or examples, for a model of 9 frames at 24 fps, with sound."""

    def run(
        *items: Path | Example,
        mode: str = "t2v",
        num_frames: int = 9,
        frame_rate: Fraction = Fraction(24),
        side: int = SIDE,
        audio: AudioSection | None = None,
        audio_rate_hz: int | None = RATE_HZ,
        data: DataSection | None = None,
        **fields: object,
    ) -> Clips:
        request = Request.model_validate({"training_data_url": "data.zip", **fields})
        row = mode_of(mode)
        examples = tuple(item if isinstance(item, Example) else example_of(item) for item in items)
        shape = ClipShape(num_frames, FrameSize(side, side), frame_rate) if row.has_video else None
        return prepare_clips(
            request,
            row,
            terms_of(row, request, FACTORS, shape, trained_size=None),
            Manifest(examples, ()),
            scans,
            audio=audio or AudioSection(),
            audio_rate_hz=audio_rate_hz,
            sound_grid=None if audio_rate_hz is None else GRID,
            frames_factor=FACTORS.frames,
            data=data or DataSection(),
        )

    return run


@pytest.fixture
def as_example() -> Callable[..., Example]:
    return example_of
