"""Scenes as functions of their seed, at any size, length and rate."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ltx_trainer import world


def test_scenes_are_a_function_of_their_seed() -> None:
    assert world.draw_scenes(5, 3) == world.draw_scenes(9, 3)[:5]
    assert world.draw_scenes(5, 3) != world.draw_scenes(5, 4)


def test_a_composition_that_is_left_out_is_never_drawn() -> None:
    (first, *_) = world.draw_scenes(1, 0)

    scenes = world.draw_scenes(600, 0, without={first.composition})

    drawn = Counter(scene.composition for scene in scenes)
    assert first.composition not in drawn
    assert len(drawn) == len(world.KNOWN_COLOURS) * len(world.SHAPES) * len(world.MOTIONS) - 1


def test_no_scene_has_a_colour_that_is_left_to_learn() -> None:
    assert {scene.colour for scene in world.draw_scenes(200, 1)} == set(world.COLOURS) - {world.ZORP_COLOUR}


def test_a_caption_says_what_there_is_in_many_wordings() -> None:
    scene = replace(world.draw_scenes(1, 2)[0], colour="red", shape="square", motion="up", texture="striped")

    captions = [world.caption(scene, wording) for wording in range(len(world.WORDINGS))]

    assert len(set(captions)) == len(captions)
    assert all("red square moves up" in caption for caption in captions)
    assert sum("striped" in caption for caption in captions) == 4
    assert sum("rises" in caption for caption in captions) == 3


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 64), (64, 96), (160, 96)])
def test_a_scene_looks_the_same_at_every_size(width: int, height: int) -> None:
    scene = world.draw_scenes(1, 6)[0]

    frames = world.render(scene, width, height, 9)
    square = world.render(scene, min(width, height), min(width, height), 9)

    assert frames.shape == (9, height, width, 3)
    assert frames.dtype == np.uint8
    path, expected = world.read_video(frames).path, world.read_video(square).path
    assert path == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("upright", [True, False])
def test_only_a_striped_background_has_stripes(upright: bool) -> None:
    scene = replace(world.draw_scenes(1, 6)[0], centre=(3.0, 3.0), upright=upright)

    striped, plain = (
        world.render(replace(scene, texture=texture), 64, 64, 1)[0, :, :, 0].astype(float)
        for texture in ("striped", "plain")
    )

    across, along = striped.std(axis=(1, 0)[not upright]), striped.std(axis=(0, 1)[not upright])
    assert plain.std() == 0
    assert across.min() > 10
    assert along.max() == 0


def test_the_higher_a_place_the_higher_its_tone() -> None:
    assert world.pitch_at(np.array([1.0, 0.0])) == pytest.approx([300, 2400])


def test_a_frame_and_a_sample_of_the_same_moment_show_the_same_place() -> None:
    scene = replace(world.draw_scenes(1, 6)[0], motion="up", travel=0.5, centre=(0.5, 0.5))

    path = world.read_video(world.render(scene, 64, 64, 48)).path[:, 1]
    track = world.read_sound(world.sing(scene, 32000, 16000), 16000).track

    down = np.interp(np.linspace(0, 1, len(track)), np.linspace(0, 1, len(path)), path)
    assert np.log2(world.pitch_at(down)) == pytest.approx(track, abs=0.12)


def test_a_zorp_differs_from_its_scene_in_what_a_caption_does_not_say() -> None:
    scene = world.draw_scenes(1, 4)[0]
    zorp = world.as_zorp(scene)

    assert world.caption(zorp) == world.caption(scene).replace(scene.colour, "zorp")
    assert (zorp.shape, zorp.motion, zorp.centre) == (scene.shape, scene.motion, scene.centre)


def test_sound_has_both_sides_and_never_clips() -> None:
    for scene in world.draw_scenes(20, 5):
        sound = world.sing(world.as_zorp(scene), 8000, 16000)
        assert sound.shape == (2, 8000)
        assert sound.dtype == np.float32
        assert np.array_equal(sound[0], sound[1])
        assert 0.2 < abs(sound).max() < 0.8
