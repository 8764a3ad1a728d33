"""What the measures of the miniature make of the truth, and of what is less true."""

from dataclasses import replace

import numpy as np
import pytest
from miniature.scores import Made, edge_width, out_of_step

from ltx_trainer import world

RATE_HZ = 16000
NUM_SAMPLES = 17 * RATE_HZ // 24
SCENES = world.draw_scenes(8, 21)


def drawn(scene: world.Scene) -> np.ndarray:
    return world.render(scene, 64, 64, 9)


def silent(frames: np.ndarray) -> Made:
    return Made(np.clip(frames, 0, 255).astype(np.uint8), np.zeros((2, NUM_SAMPLES)), RATE_HZ)


def width_of(frames: np.ndarray) -> float:
    width = edge_width(silent(frames))
    assert width is not None
    return width


def blurred(frames: np.ndarray, reach: int) -> np.ndarray:
    """Average squares of pixels that reach this far from the middle one."""
    padded = np.pad(frames.astype(float), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    side = 2 * reach + 1
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2)).mean((-1, -2))


def heard(shown: world.Scene, sounded: world.Scene) -> float:
    distance = out_of_step(Made(drawn(shown), world.sing(sounded, NUM_SAMPLES, RATE_HZ), RATE_HZ))
    assert distance is not None
    return distance


def test_an_edge_is_wider_the_more_it_is_blurred() -> None:
    for scene in SCENES:
        widths = [width_of(frames) for frames in (drawn(scene), blurred(drawn(scene), 1), blurred(drawn(scene), 2))]
        assert widths[1] > 1.3 * widths[0]
        assert widths[2] > 1.3 * widths[1]


@pytest.mark.parametrize("glow", [0.0, 0.15])
def test_a_slope_of_known_width_is_measured_as_wide_as_it_is_with_a_faint_glow_or_without(glow: float) -> None:
    across = np.arange(96) + 0.5 - 48
    away = np.hypot(across, across[:, None])
    share = np.maximum(np.clip((24 - away) / 20 + 0.5, 0, 1), glow * np.clip((40 - away) / 4, 0, 1))
    frames = 128 + share[None, :, :, None] * np.array([100, -100, -100])

    assert width_of(frames) == pytest.approx(10, rel=0.05)


def test_noise_and_contrast_do_not_make_an_edge_sharper() -> None:
    noise = np.random.default_rng(0)
    for scene in SCENES:
        frames = drawn(scene)
        true = width_of(frames)
        assert width_of(frames + noise.normal(0, 12, frames.shape)) > 0.9 * true
        assert width_of((frames - 127.5) * 1.3 + 127.5) == pytest.approx(true, rel=0.1)


def test_a_picture_without_a_shape_has_no_edge() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (9, 64, 64, 3))

    assert edge_width(silent(drawn(replace(SCENES[0], radius=0.0)))) is None
    assert edge_width(silent(noise)) is None


def test_a_true_sound_is_in_step_with_its_picture() -> None:
    for scene in SCENES:
        assert heard(scene, scene) < 0.15


def test_a_tone_of_another_height_is_out_of_step_though_it_goes_the_same_way() -> None:
    for scene in SCENES:
        lower = replace(scene, centre=(scene.centre[0], scene.centre[1] + 0.15))
        assert heard(scene, lower) == pytest.approx(0.15 * 3, abs=0.14)


def test_what_cannot_be_read_is_neither_in_step_nor_out_of_it() -> None:
    scene = SCENES[0]
    noise = np.random.default_rng(0).normal(0, 0.2, (2, NUM_SAMPLES))

    assert out_of_step(Made(drawn(scene), noise, RATE_HZ)) is None
    assert (
        out_of_step(Made(drawn(replace(scene, radius=0.0)), world.sing(scene, NUM_SAMPLES, RATE_HZ), RATE_HZ)) is None
    )
