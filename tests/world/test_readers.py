"""What the readers make of the truth, of less than the truth, and of nothing."""

from dataclasses import replace

import numpy as np
import pytest

from ltx_trainer import world

COUNT = 60


def blurred(frames: np.ndarray) -> np.ndarray:
    """Average 5 by 5 pixels."""
    padded = np.pad(frames.astype(float), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    return windows.mean((-1, -2)).astype(np.uint8)


@pytest.mark.parametrize(("width", "height", "num_frames"), [(64, 64, 17), (96, 64, 9), (64, 96, 25), (320, 180, 9)])
def test_the_truth_is_read_without_a_mistake(width: int, height: int, num_frames: int) -> None:
    for scene in world.draw_scenes(COUNT, 11):
        reading = world.read_video(world.render(scene, width, height, num_frames))
        assert (reading.colour, reading.shape, reading.motion) == scene.composition
        assert reading.growth == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("seconds", "rate_hz"), [(0.375, 48000), (0.7, 16000), (1.4, 22050)])
def test_the_tone_is_read_without_a_mistake(seconds: float, rate_hz: int) -> None:
    for scene in world.draw_scenes(COUNT, 12):
        for beats_hz in (0.0, 6.0):
            sound = world.sing(replace(scene, beats_hz=beats_hz), int(seconds * rate_hz), rate_hz)
            reading = world.read_sound(sound, rate_hz)
            assert (reading.pitch, reading.beats) == (world.PITCH_OF_MOTION[scene.motion], beats_hz > 0)


def test_concepts_are_read_without_a_mistake() -> None:
    for scene in world.draw_scenes(COUNT, 13):
        zorp, bloom = world.as_zorp(scene), world.as_blooming(scene)
        assert world.read_video(world.render(zorp, 64, 64, 17)).colour == world.ZORP_COLOUR
        assert world.read_sound(world.sing(zorp, 16000, 16000), 16000).beats
        reading = world.read_video(world.render(bloom, 64, 64, 17))
        assert (reading.colour, reading.motion) == (scene.colour, None)
        assert reading.growth > 1.5


def test_blur_and_noise_leave_colour_and_motion() -> None:
    noise = np.random.default_rng(0)
    for scene in world.draw_scenes(COUNT, 14):
        frames = world.render(scene, 64, 64, 17)
        grainy = np.clip(frames + noise.normal(0, 12, frames.shape), 0, 255).astype(np.uint8)
        for worse in (blurred(frames), grainy):
            reading = world.read_video(worse)
            assert (reading.colour, reading.motion) == (scene.colour, scene.motion)


def test_nothing_is_read_where_there_is_nothing() -> None:
    scene = world.draw_scenes(1, 15)[0]
    noise = np.random.default_rng(1)

    for empty in (
        world.render(replace(scene, radius=0.0), 64, 64, 9),
        noise.integers(0, 256, (9, 64, 64, 3)).astype(np.uint8),
    ):
        reading = world.read_video(empty)
        assert (reading.colour, reading.shape, reading.motion) == (None, None, None)
    assert world.read_sound(np.zeros((2, 16000), np.float32), 16000).pitch is None
    assert world.read_sound(np.zeros((2, 100), np.float32), 16000).pitch is None


@pytest.mark.parametrize(("seconds", "rate_hz"), [(0.375, 48000), (0.7, 16000), (1.4, 22050)])
@pytest.mark.parametrize("kind", ["white", "brown", "hiss"])
def test_noise_is_no_tone(kind: str, seconds: float, rate_hz: int) -> None:
    for seed in range(20):
        wave = np.random.default_rng(seed).normal(size=int(seconds * rate_hz))
        if kind == "brown":
            wave = np.cumsum(wave) / abs(np.cumsum(wave)).max()
        reading = world.read_sound(np.stack([wave, wave]) * (0.003 if kind == "hiss" else 0.3), rate_hz)
        assert (reading.pitch, reading.beats) == (None, False)


@pytest.mark.parametrize(("share", "heard"), [(0.6, True), (0.25, False)])
def test_a_tone_is_heard_only_if_it_holds_enough_of_the_energy(share: float, heard: bool) -> None:
    noise = np.random.default_rng(2)
    for scene in world.draw_scenes(10, 22):
        tone = world.sing(scene, 16000, 16000)
        loudness = tone.std() * (1 / share - 1) ** 0.5
        reading = world.read_sound(tone + noise.normal(0, loudness, 16000), 16000)
        assert reading.pitch == (world.PITCH_OF_MOTION[scene.motion] if heard else None)


@pytest.mark.parametrize(("share", "heard"), [(0.7, True), (0.3, False)])
def test_a_tone_is_heard_only_if_it_lasts_long_enough(share: float, heard: bool) -> None:
    for scene in world.draw_scenes(10, 23):
        sound = world.sing(scene, 16000, 16000)
        end = int(share * 16000)
        sound[:, end:] = np.random.default_rng(3).normal(0, 0.2, 16000 - end)
        assert (world.read_sound(sound, 16000).pitch is not None) == heard


@pytest.mark.parametrize(("depth", "beats"), [(0.5, False), (0.8, True)])
def test_a_tone_beats_only_if_it_fades_deeply(depth: float, beats: bool) -> None:
    for scene in world.draw_scenes(10, 17):
        swell = 1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * 6 * np.arange(16000) / 16000))
        assert world.read_sound(world.sing(scene, 16000, 16000) * swell, 16000).beats == beats


@pytest.mark.parametrize(("travel", "moves"), [(0.1, False), (0.15, True)])
def test_a_shape_moves_only_if_it_goes_far_enough(travel: float, moves: bool) -> None:
    for scene in world.draw_scenes(10, 18):
        reading = world.read_video(world.render(replace(scene, travel=travel), 64, 64, 9))
        assert reading.motion == (scene.motion if moves else None)


@pytest.mark.parametrize(("travel", "moves"), [(0.1, False), (0.17, True)])
def test_a_tone_rises_or_falls_only_if_it_goes_far_enough(travel: float, moves: bool) -> None:
    for scene in world.draw_scenes(20, 19):
        reading = world.read_sound(world.sing(replace(scene, travel=travel), 16000, 16000), 16000)
        assert reading.pitch == (world.PITCH_OF_MOTION[scene.motion] if moves else "holds")


def test_a_zorp_is_told_by_its_look_and_its_sound_together() -> None:
    scene = world.draw_scenes(1, 20)[0]
    zorp = world.as_zorp(scene)
    looks = [world.read_video(world.render(each, 64, 64, 9)) for each in (scene, zorp)]
    sounds = [world.read_sound(world.sing(each, 16000, 16000), 16000) for each in (scene, zorp)]

    assert [[world.is_zorp(look, sound) for sound in sounds] for look in looks] == [[False, False], [False, True]]


def test_only_a_shape_that_stays_and_grows_blooms() -> None:
    for scene in world.draw_scenes(10, 20):
        bloom = world.as_blooming(scene)
        for shown, blooms in (
            (bloom, True),
            (replace(bloom, growth=1.1), False),
            (replace(bloom, travel=0.3), False),
            (replace(bloom, radius=0.0), False),
        ):
            assert world.is_blooming(world.read_video(world.render(shown, 64, 64, 17))) == blooms


def test_a_shape_that_stays_has_no_motion() -> None:
    for scene in world.draw_scenes(10, 16):
        assert world.read_video(world.render(replace(scene, travel=0.0), 64, 64, 9)).motion is None
