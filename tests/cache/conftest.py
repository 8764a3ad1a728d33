"""Clips of tiny real media, and a cache to fill with them."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ltx_trainer.artifacts import CachedSet, Clip, Clips, Footage, MediaKind, Preview, Role, Soundtrack, SourceFile
from ltx_trainer.cache.fill import fill_cache
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media import Spool
from ltx_trainer.models.family import Family
from ltx_trainer.processes import make_accelerator
from ltx_trainer.report import track

SIZE = FrameSize(64, 64)


def source_of(path: Path) -> SourceFile:
    kind = MediaKind.IMAGE if path.suffix == ".png" else MediaKind.VIDEO
    return SourceFile(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest(), kind)


def clip_of(
    path: Path,
    *,
    caption: str = "a red ball",
    num_frames: int = 5,
    size: FrameSize = SIZE,
    start_seconds: Fraction = Fraction(0),
    span_seconds: Fraction | None = None,
    gain: float = 1.0,
    with_sound: bool = False,
) -> Clip:
    """Cut a clip out of a video of 12 frames at 24 fps; it is scaled in time if a span is given."""
    source, shape = source_of(path), ClipShape(num_frames, size, Fraction(24))
    span = shape.duration_seconds if span_seconds is None else span_seconds
    footage = Footage(source, start_seconds, span, shape)
    soundtrack = Soundtrack(source, start_seconds, span, shape.duration_seconds, preserve_pitch=True, gain=gain)
    return Clip(path.stem, caption, {Role.TARGET: footage}, {Role.TARGET: soundtrack} if with_sound else {})


def fill_of(
    family: Family,
    folder: Path,
    *clips: Clip,
    previews: Sequence[Preview] = (),
    negative_prompt: str = "blurry",
    still_crf: int | None = 33,
    workers: int | None = None,
) -> CachedSet:
    prepared = Clips(clips, (), with_audio=any(clip.soundtrack for clip in clips))
    return fill_cache(
        family,
        prepared,
        previews,
        negative_prompt,
        folder,
        spool=None if workers is None else Spool(folder / "spool", 0),
        workers=workers,
        still_crf=still_crf,
        accelerator=make_accelerator("fp32")[0],
        track=track(Console(quiet=True)),
    )


@pytest.fixture
def as_source() -> Callable[[Path], SourceFile]:
    return source_of


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory, write_clip: Any) -> Path:
    """Two videos with sound: to be copied, never changed."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("a", "b")):
        write_clip(folder / f"{name}.mp4", seed=seed)
    return folder


@pytest.fixture
def make_clip(tmp_path: Path, videos: Path, family: Family) -> Callable[..., Clip]:
    """Give a function that makes a clip of video `a` or `b`, which this test may damage; sound is the family's own."""

    def make(name: str = "a", *, with_sound: bool = False, **facts: Any) -> Clip:
        path = tmp_path / f"{name}.mp4"
        if not path.exists():
            shutil.copy(videos / path.name, path)
        return clip_of(path, with_sound=with_sound and family.facts.audio is not None, **facts)

    return make


@pytest.fixture
def cache_folder(tmp_path: Path) -> Path:
    """The cache of this test; empty, unless the test asks for `filled` too."""
    return tmp_path / "cache"


@pytest.fixture
def fill(cache_folder: Path, family: Family) -> Callable[..., CachedSet]:
    """Give a function that fills the cache of this test with the miniature, unless it is given others."""

    def run(*clips: Clip, base: Family = family, folder: Path = cache_folder, **settings: Any) -> CachedSet:
        return fill_of(base, folder, *clips, **settings)

    return run


@pytest.fixture(scope="session")
def filled_folder(tmp_path_factory: pytest.TempPathFactory, videos: Path, family: Family) -> Path:
    """A filled cache: to be copied, never changed."""
    folder = tmp_path_factory.mktemp("filled")
    fill_of(family, folder, clip_of(videos / "a.mp4", with_sound=family.facts.audio is not None))
    return folder


@pytest.fixture
def filled(
    filled_folder: Path, cache_folder: Path, fill: Callable[..., CachedSet], make_clip: Callable[..., Clip]
) -> CachedSet:
    """What the cache of this test begins with: the clip of no facts, with sound."""
    shutil.copytree(filled_folder, cache_folder)
    return fill(make_clip(with_sound=True))
