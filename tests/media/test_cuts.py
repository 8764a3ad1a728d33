"""Where scenes are found to end and begin, frame by frame."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import accumulate
from typing import get_args

import numpy as np
import pytest
from av.video.frame import VideoFrame

from ltx_trainer.config import DataSection
from ltx_trainer.media import THRESHOLDS, cut_rule
from ltx_trainer.media.cuts import CutFinder

RATE = Fraction(24)
WIDTH, HEIGHT = 128, 72
# Frames of the scenes themselves that are lost with those of a transition, at most, at each end.
SPARED = 8

Spans = list[tuple[int, int]]


@cache
def texture(seed: int) -> np.ndarray:
    """Draw a landscape `[rows, columns, 3]`: noise of the spectrum of natural pictures, which repeats at its edges."""
    generator = np.random.default_rng(seed)
    rows, columns = 2 * HEIGHT, 4 * WIDTH
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    falling = np.where(frequency > 0, np.maximum(frequency, 1 / rows) ** -1.5, 0)
    noise = np.fft.irfft2(np.fft.rfft2(generator.standard_normal((3, rows, columns))) * falling, s=(rows, columns))
    mixed = noise[:1] + noise / 2
    levels = generator.uniform(70, 180, (3, 1, 1)) + generator.uniform(25, 50) * mixed / mixed.std()
    return np.clip(levels, 0, 255).transpose(1, 2, 0)


def view(land: np.ndarray, column: int) -> np.ndarray:
    return land[:HEIGHT, (np.arange(WIDTH) + column) % land.shape[1]]


def scene(seed: int, count: int, speed: float = 0.5) -> np.ndarray:
    """Film a landscape with a camera that pans by `speed` pixels a frame, with grain, and a thing that moves."""
    generator = np.random.default_rng(seed + 1000)
    land, colour = texture(seed), generator.uniform(0, 255, 3)
    frames = np.stack([view(land, round(speed * index)) for index in range(count)])
    for index, frame in enumerate(frames):
        frame[20:40, 30 + index // 2 : 50 + index // 2] = colour
    return np.clip(frames + generator.normal(0, 2, (count, HEIGHT, WIDTH, 1)), 0, 255)


def dissolve(one: np.ndarray, other: np.ndarray, length: int) -> np.ndarray:
    share = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    return np.concatenate([one[:-length], one[-length:] * (1 - share) + other[:length] * share, other[length:]])


def fade(one: np.ndarray, other: np.ndarray, length: int, hold: int, level: float) -> np.ndarray:
    share = (np.arange(1, length + 1) / length)[:, None, None, None]
    down, up = one[-length:] * (1 - share) + level * share, other[:length] * share + level * (1 - share)
    return np.concatenate([one[:-length], down, np.full((hold, HEIGHT, WIDTH, 3), level), up, other[length:]])


def whip() -> np.ndarray:
    """Rest on a landscape, swing to another side of it within 7 blurred frames, and rest there."""
    land = texture(3)
    steps = [0] * 30 + [40] * 7 + [0] * 30
    return np.stack(
        [
            np.mean([view(land, end - back) for back in range(0, step + 1, 4)], axis=0)
            for end, step in zip(accumulate(steps), steps, strict=True)
        ]
    )


def flash(level: float, lengths: tuple[float, ...] = (1.0,)) -> np.ndarray:
    frames = scene(4, 60)
    for index, share in enumerate(lengths):
        frames[30 + index] = frames[30 + index] * (1 - share) + level * share
    return frames


def crossed() -> np.ndarray:
    """Let something large pass before the camera."""
    frames = scene(10, 60)
    for index in range(60):
        right = (index - 24) * 8
        frames[index, :, max(0, right - 90) : max(0, right)] = (200, 180, 60)
    return frames


def found(frames: np.ndarray, times: list[Fraction] | None = None, detector: str = "transitions") -> Spans:
    """Feed frames to the finder, and give its cuts as indices of frames."""
    times = times or [index / RATE for index in range(len(frames))]
    finder = CutFinder(Fraction(1, 12000), cut_rule(detector))
    for time, pixels in zip(times, np.rint(frames).astype(np.uint8), strict=True):
        finder.feed(time, VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
    # A scene that nothing follows ends after the last frame.
    index_of = {time: index for index, time in enumerate(times)}
    return [(index_of[cut.end_seconds], index_of.get(cut.start_seconds, len(frames))) for cut in finder.cuts]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    return scene(1, 48), scene(2, 48, -1.0)


def test_a_hard_cut_is_found_at_its_frame(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert found(np.concatenate(pair)) == [(48, 48)]


def test_a_cut_is_found_where_the_rate_varies(pair: tuple[np.ndarray, np.ndarray]) -> None:
    steps = np.random.default_rng(2).integers(240, 1080, 96)
    times = [Fraction(7) + Fraction(int(ticks), 12000) for ticks in np.cumsum(steps)]
    assert found(np.concatenate(pair), times) == [(48, 48)]


def test_cuts_between_frames_that_stand_for_seconds_are_found() -> None:
    frames = np.concatenate([np.repeat(scene(seed, 1), 3, axis=0) for seed in (7, 8, 9)])
    assert found(frames, [Fraction(5 * index) for index in range(9)]) == [(3, 3), (6, 6)]


@pytest.mark.parametrize("length", [1, 3, 12, 24])
def test_the_frames_of_a_dissolve_are_in_no_scene(pair: tuple[np.ndarray, np.ndarray], length: int) -> None:
    ((end, start),) = found(dissolve(*pair, length))
    spared = max(SPARED, length // 2)
    assert 48 - length - spared <= end <= 48 - length
    assert 48 <= start <= 48 + spared


@pytest.mark.parametrize(("hold", "level"), [(6, 0.0), (0, 0.0), (6, 255.0)], ids=["black", "at once", "white"])
def test_the_frames_of_a_fade_are_in_no_scene(pair: tuple[np.ndarray, np.ndarray], hold: int, level: float) -> None:
    ((end, start),) = found(fade(*pair, 12, hold, level))
    assert 36 - SPARED <= end <= 36
    # The last frame of the way up is the scene's own.
    assert 36 + 12 + hold + 11 <= start <= 36 + 12 + hold + 12 + SPARED


def test_a_scene_that_fades_to_black_and_comes_back_is_two(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ((end, start),) = found(fade(pair[0], pair[0], 12, 6, 0.0))
    assert (end <= 36, start >= 65) == (True, True)


def test_black_before_and_after_a_video_is_in_no_scene(pair: tuple[np.ndarray, np.ndarray]) -> None:
    black = np.zeros((10, HEIGHT, WIDTH, 3))
    assert found(np.concatenate([black, pair[0], black])) == [(0, 10), (58, 68)]


@pytest.mark.parametrize(
    "film",
    [
        whip,
        lambda: flash(250.0),
        lambda: flash(250.0, (0.9, 0.6, 0.3)),
        lambda: flash(0.0),
        crossed,
        lambda: scene(6, 60, 6.0),
        lambda: np.repeat(scene(7, 1), 60, axis=0),
    ],
    ids=["whip pan", "flash", "flash that fades", "black frame", "something passes", "fast pan", "still"],
)
def test_what_is_no_cut_is_none(film: Callable[[], np.ndarray]) -> None:
    assert found(film()) == []


def test_a_flash_hides_no_cut_after_it_and_is_in_no_scene_where_it_stands_on_one() -> None:
    frames = np.concatenate([scene(12, 48), scene(13, 48)])
    early, on = frames.copy(), frames.copy()
    early[40] = on[47] = 245
    assert found(early) == [(48, 48)]
    assert found(on) == [(47, 48)]


@pytest.mark.parametrize("cut", [1, 46, 47])
def test_a_frame_of_another_scene_at_either_end_is_found(cut: int) -> None:
    frames = np.concatenate([scene(1, cut), scene(2, 48 - cut)])
    assert found(frames) == [(cut, cut)]


@pytest.mark.parametrize("detector", ["adaptive", "content", "histogram", "hash"])
def test_the_detectors_of_pyscenedetect_find_a_cut_between_stills(detector: str) -> None:
    stills = np.concatenate([np.repeat(scene(seed, 1), 30, axis=0) for seed in (7, 8)])
    assert found(stills, detector=detector) == [(30, 30)]


def test_the_threshold_detector_finds_what_is_dark(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ((end, start),) = found(fade(*pair, 12, 6, 0.0), detector="threshold")
    assert (46 <= end <= 48, 54 <= start <= 56) == (True, True)


def test_every_detector_can_be_asked_for() -> None:
    assert set(get_args(DataSection.model_fields["scene_detector"].annotation)) == set(THRESHOLDS)
