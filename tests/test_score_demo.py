"""What the demo's table says of previews, and of a folder that has none to read."""

import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import score_demo
from score_demo import Clip, Pair

from ltx_trainer import world
from ltx_trainer.config import load_settings, settings_as_yaml
from ltx_trainer.media import write_video
from ltx_trainer.world import Scene

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"
PROMPTS = "[{prompt: a zorp square moves up}, {prompt: a zorp circle}, {prompt: a blue circle moves up}]"
ITS_OWN = ("input.number_of_steps=7", f"input.validation={PROMPTS}")
SIDE = 64
RATE_HZ = 48000

Write = Callable[..., None]
Show = Callable[[], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write what a demo leaves whose LoRA makes zorps of the prompts with the word."""

    def previews(*, with_sound: bool = True) -> None:
        settings = load_settings(DEMO, overrides=ITS_OWN)
        request = settings.input
        num_frames, rate = request.validation_number_of_frames, Fraction(settings.preview_rate)
        (tmp_path / "config.yaml").write_text(settings_as_yaml(settings))
        scenes = world.draw_scenes(len(request.validation), seed=1)
        for step in (0, request.number_of_steps):
            folder = tmp_path / f"previews/step-{step:06d}"
            folder.mkdir(parents=True)
            for number, (item, drawn) in enumerate(zip(request.validation, scenes, strict=True), start=1):
                scene = world.as_zorp(drawn) if step and world.ZORP in item.prompt else drawn
                frames = world.render(scene, SIDE, SIDE, num_frames)
                sound = world.sing(scene, int(num_frames / rate * RATE_HZ), RATE_HZ)
                audio, rate_hz = (sound, RATE_HZ) if with_sound else (None, None)
                write_video(folder / f"item-{number}.mp4", frames, rate, audio=audio, audio_rate_hz=rate_hz)

    return previews


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """Run the script as a user does, and give what it prints."""

    def run() -> str:
        monkeypatch.setattr(sys, "argv", ["score_demo.py", str(tmp_path)])
        score_demo.main()
        return capsys.readouterr().out

    return run


def test_a_word_that_alone_makes_zorps_is_a_story_that_holds(write: Write, show: Show) -> None:
    write()

    told = show()

    assert "with the word 'zorp': zorps before 0 of 2, after 2 of 2" in told
    assert "without the word: zorps before 0 of 1, after 0 of 1; a pixel changed by 0.0 of 255" in told
    assert "no sound" not in told
    assert told.endswith("The story holds.\n")


def test_clips_without_sound_are_read_by_their_pictures(write: Write, show: Show) -> None:
    write(with_sound=False)

    told = show()

    assert told.count("no sound") == 6
    assert told.count("orange") == 2
    assert "with the word 'zorp': zorps before 0 of 2, after 2 of 2" in told
    assert told.endswith("The story holds.\n")


def clip(shown: Scene, sounded: Scene | None = None) -> Clip:
    """Give what is read of a scene, with its own sound or that of another."""
    frames, sound = world.render(shown, SIDE, SIDE, 9), world.sing(sounded or shown, 9 * RATE_HZ // 24, RATE_HZ)
    return Clip(frames, world.read_video(frames), world.read_sound(sound, RATE_HZ))


BLUE = replace(world.draw_scenes(1, seed=1)[0], colour="blue", motion="up", tint=(0.3, 0.3, 0.3))
KNOWN, NEW = clip(BLUE), clip(world.as_zorp(BLUE))
ORANGE = clip(replace(BLUE, colour="orange"))
MADE, KEPT = (KNOWN, NEW), (KNOWN, KNOWN)


@pytest.mark.parametrize(
    ("named", "others", "reason"),
    [
        ([], [KEPT], "no prompt has the word"),
        ([MADE], [], "no prompt is without the word"),
        ([(NEW, NEW)], [KEPT], "a zorp before training"),
        ([MADE, KEPT], [KEPT], "the word does not always make a zorp"),
        # Only the tone tells the two apart.
        ([MADE], [KEPT, (ORANGE, NEW)], "a zorp without the word"),
        (
            [MADE],
            [KEPT, (KNOWN, replace(KNOWN, video=replace(KNOWN.video, colour="cyan")))],
            "a clip without the word is read otherwise than before",
        ),
        (
            [MADE],
            [KEPT, (replace(KNOWN, video=replace(KNOWN.video, motion=None)), KNOWN)],
            "a clip without the word is read otherwise than before",
        ),
        (
            [MADE],
            [KEPT, (KNOWN, clip(BLUE, replace(BLUE, motion="down")))],
            "a clip without the word is read otherwise than before",
        ),
        (
            [MADE],
            [KEPT, (KNOWN, clip(replace(BLUE, tint=(0.4, 0.4, 0.4))))],
            "a clip without the word changes more than those with it",
        ),
    ],
)
def test_each_thing_that_speaks_against_the_story_is_said(named: list[Pair], others: list[Pair], reason: str) -> None:
    assert score_demo.verdict(named, others) == f"The story does not hold: {reason}."


def test_a_clip_without_the_word_may_change_a_little_and_lose_its_tone() -> None:
    lighter = clip(replace(BLUE, tint=(0.31, 0.31, 0.31)))
    toneless = replace(KNOWN, sound=world.read_sound(np.zeros((2, RATE_HZ)), RATE_HZ))

    others = [(KNOWN, lighter), (toneless, KNOWN), (KNOWN, replace(KNOWN, sound=None))]

    assert score_demo.verdict([MADE], others) == "The story holds."


def without_items(output: Path) -> None:
    settings = load_settings(DEMO, overrides=["input.validation=[]"])
    (output / "config.yaml").write_text(settings_as_yaml(settings))


def with_unfinished_settings(output: Path) -> None:
    (output / "config.yaml").write_text("endpoint: {\n")


def with_several_problems(output: Path) -> None:
    (output / "config.yaml").write_text("input: {rank: 7}\n")


def with_half_a_preview(output: Path) -> None:
    preview = output / "previews/step-000007/item-3.mp4"
    preview.write_bytes(preview.read_bytes()[:200])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_items, "config.yaml has no validation items"),
        (with_unfinished_settings, "config.yaml is not written correctly"),
        (with_several_problems, "endpoint is required"),
        (with_half_a_preview, "step-000007: item-3.mp4 "),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    write: Write,
    show: Show,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    message: str,
) -> None:
    write()
    damage(tmp_path)

    with pytest.raises(SystemExit, match=r"^1$"):
        show()

    told = capsys.readouterr().out
    assert message in told
    assert told.count("\n") == 1
