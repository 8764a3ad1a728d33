"""Where the data will disappoint, at both sides of every threshold."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from ltx_trainer.artifacts import Finding, FindingKind, Role
from ltx_trainer.geometry import FrameSize
from ltx_trainer.survey import Advice, LookAlikes, Overlap, SurveyedClip
from ltx_trainer.survey.advice import (
    alike_captions,
    clipping,
    cuts_in_clips,
    empty_captions,
    enlarged,
    few_clips,
    hardly_moves,
    little_speech,
    lost_motion,
    lost_sound,
    much_silence,
    near_duplicates,
    repeated_captions,
    validation_in_training,
)

Make = Callable[..., SurveyedClip]
Many = Callable[..., list[SurveyedClip]]


def said(advice: Advice | None) -> str:
    assert advice is not None
    assert advice.sentence.endswith(".")
    return advice.sentence


@pytest.mark.parametrize(("num_frames", "enough"), [(96, 15), (1, 20)])
def test_fewer_clips_than_are_learnt_from_are_told(many: Many, num_frames: int, enough: int) -> None:
    assert f"are {enough - 1} " in said(few_clips(many(enough - 1, num_frames=num_frames)))
    assert few_clips(many(enough, num_frames=num_frames)) is None


def test_clips_that_are_only_measured_on_do_not_count(many: Many, make: Make) -> None:
    assert few_clips([*many(14), make("x", held_out=True)]) is not None


@pytest.fixture
def make(surveyed: Make) -> Make:
    return surveyed


@pytest.mark.parametrize(("peak", "gain"), [(100, 1.0), (50, 2.0)])
def test_too_little_speech_for_a_voice_is_told(many: Many, peak: int, gain: float) -> None:
    loud = {"caption": 'a woman says "good morning"', "peaks": [peak] * 10, "gain": gain}

    assert "2.9 minutes" in said(little_speech(many(44, **loud)))
    assert little_speech(many(45, **loud)) is None


def test_what_is_not_heard_is_no_speech(many: Many) -> None:
    spoken = {"caption": "a man is talking", "gain": 1.0}

    assert little_speech(many(60, **spoken, peaks=[100, 100, 100, 100])) is None
    assert "2.0 minutes" in said(little_speech(many(60, **spoken, peaks=[100, 99, 100, 99])))


def test_no_voice_is_asked_for_where_captions_speak_of_none(many: Many, make: Make) -> None:
    tone = [make(f"tone {index}", "a ball rolls", peaks=[100]) for index in range(3)]

    assert little_speech(many(4, caption="a ball rolls", peaks=[100])) is None
    assert little_speech([*tone, *many(2, caption="she sings", peaks=[100])]) is None
    assert little_speech([*tone, *many(3, caption="she sings", peaks=[100])]) is not None
    assert little_speech(many(4, caption="she sings")) is None


def test_empty_captions_are_told(many: Many, make: Make) -> None:
    one = empty_captions([*many(3), make("x", " ")])

    assert (said(one).startswith("1 clip has no caption"), one.clips if one else None) == (True, ("x",))
    assert said(empty_captions(many(3, caption=""))).startswith("No clip has a caption")
    assert empty_captions(many(3)) is None


def test_captions_that_a_model_is_to_write_are_not_judged(many: Many) -> None:
    waiting = many(3, caption="", lacks_caption=True)

    assert [rule(waiting) for rule in (empty_captions, alike_captions, repeated_captions)] == [None] * 3
    assert empty_captions([*waiting, *many(1, caption="")]) is not None


def test_captions_that_are_all_one_are_told_once(many: Many, make: Make) -> None:
    same = many(3, caption="a ball")

    assert "the same caption" in said(alike_captions(same))
    assert repeated_captions(same) is None
    assert alike_captions([make("x", "a ball")]) is None


def test_captions_that_differ_in_a_word_of_five_are_all_alike(make: Make) -> None:
    four = [make("x", "a ball rolls fast"), make("y", "a ball rolls fast sideways")]
    three = [make("x", "a ball rolls fast"), make("y", "a ball sits there quietly")]

    assert "89 %" in said(alike_captions(four))
    assert alike_captions(three) is None
    assert alike_captions([*four, make("z", "")]) is None


def test_captions_of_a_fifth_of_the_clips_that_repeat_are_told(many: Many, make: Make) -> None:
    pair = [make("x", "a ball"), make("y", "a ball")]
    repeated = repeated_captions([*many(8), *pair])

    assert '"a ball" is that of 2' in said(repeated)
    assert repeated is not None
    assert repeated.clips == ("x", "y")
    assert repeated_captions([*many(9), *pair]) is None


def test_scenes_of_one_file_share_their_caption_unblamed(make: Make) -> None:
    scenes = [make(f"x#scene-{number:03d}", "a ball", file="x.mp4") for number in range(4)]

    assert repeated_captions([*scenes, make("y", "a wall")]) is None


@pytest.mark.parametrize(
    ("cut", "told"),
    [((0, 0), False), ((0, 1), True), ((1, 1), True), ((95, 95), True), ((95, 99), True), ((96, 96), False)],
)
def test_clips_that_show_more_than_one_scene_are_told(make: Make, cut: tuple[int, int], told: bool) -> None:
    # Of frames 48 to 143 of its file, at 24 a second.
    end, begin = (2 + Fraction(frame, 24) for frame in cut)
    advice = cuts_in_clips([make("x", begin=2, cuts=[(end, begin)]), make("y")])

    assert (advice is not None) == told
    if advice is not None:
        assert "1 clip shows more than one scene" in said(advice)
        assert "; with 1, their scenes become clips" in said(advice)
        assert advice.clips == ("x",)


def test_what_is_too_short_to_be_split_is_to_be_cut_by_hand(make: Make) -> None:
    cut = (Fraction(1, 2), Fraction(1, 2))

    assert "not split; cut them out yourself." in said(cuts_in_clips([make("x", cuts=[cut], seconds=Fraction(1))]))


@pytest.mark.parametrize(
    ("lost", "cut_off", "blamed"),
    [(0.5, 0.3, True), (0.49, 0.3, False), (0.69, 0.6, False), (0.7, 0.6, True), (None, 0.6, False)],
)
def test_motion_that_the_crop_takes_away_is_told(make: Make, lost: float, cut_off: float, blamed: bool) -> None:
    advice = lost_motion([make("x", lost=lost, cut_off=cut_off), make("y")])

    assert (advice is not None and advice.clips == ("x",)) == blamed


def test_videos_that_hardly_move_are_told(many: Many, make: Make) -> None:
    assert said(hardly_moves([*many(9), make("x", moving=0.0099)])).startswith("1 clip hardly moves")
    assert hardly_moves([*many(9), make("x", moving=0.01)]) is None
    assert hardly_moves([*many(10), make("x", moving=0.0)]) is None


def test_images_are_not_blamed_for_standing_still(make: Make) -> None:
    assert hardly_moves([make("x", num_frames=1, moving=None, lost=None)]) is None


def test_what_the_crop_keeps_from_moving_is_told_once(make: Make) -> None:
    clips = [make("x", moving=0.0, lost=1.0, cut_off=0.4)]

    assert hardly_moves(clips) is None
    assert lost_motion(clips) is not None


def test_files_that_are_smaller_than_their_clips_are_told(make: Make) -> None:
    small, near = make("x", own=FrameSize(58, 580)), make("y", own=FrameSize(59, 590))
    advice = enlarged([small, near])

    assert "x.mp4 1.1 times (from 58x580 to 64x64)" in said(advice)
    assert advice is not None
    assert advice.clips == ("x",)
    assert enlarged([near]) is None


def test_a_quarter_of_silence_is_told(many: Many) -> None:
    assert said(much_silence(many(2, peaks=[9, 10, 10, 10]))).startswith("25 % of the sound")
    assert much_silence(many(2, peaks=[9, 10, 10, 10, 10])) is None
    assert much_silence(many(2)) is None


def test_sound_that_is_left_out_is_told_with_the_files_that_have_none(make: Make) -> None:
    clips = [make("x"), make("y"), make("z")]
    mute = replace(clips[2], sources={"digest of z": replace(clips[2].source, sound=None)})

    advice = lost_sound([*clips[:2], mute])

    assert said(advice).startswith(
        "2 clips have sound and nothing of it is trained on, because z.mp4 has none: take it"
    )
    assert advice is not None
    assert advice.clips == ("x", "y")
    assert lost_sound(clips) is None
    assert lost_sound([make("x", peaks=[1]), mute]) is None


def test_clipped_files_are_told_with_their_clips(make: Make) -> None:
    clips = [make("x", peaks=[1]), make("y", peaks=[1])]
    found = Finding(FindingKind.CLIPPED, "x.mp4", "x.mp4 has clipped sound.", {"clipped": 3})
    pause = Finding(FindingKind.PAUSES, "y.mp4", "y.mp4 has pauses.", {})
    advice = clipping(clips, [found, pause])

    assert said(advice).startswith("1 file has clipped sound")
    assert advice is not None
    assert advice.clips == ("x",)
    assert clipping(clips, [pause]) is None


def test_near_duplicates_are_told_by_groups() -> None:
    pairs = [LookAlikes(("a", "b"), 0, same_bytes=False), LookAlikes(("b", "c"), 3, same_bytes=False)]
    other = LookAlikes(("x", "y"), 1, same_bytes=False)

    assert said(near_duplicates(pairs)).startswith("3 clips in one group")
    assert said(near_duplicates([*pairs, other])).startswith("5 clips in 2 groups")
    assert said(near_duplicates([other])).startswith("2 clips show")
    assert near_duplicates([]) is None


def test_validation_items_in_the_training_data_are_told_by_their_numbers() -> None:
    overlaps = [
        Overlap(item, Role.START, "x.png", (name,), same_bytes=True) for item, name in ((0, "a"), (2, "b"), (2, "a"))
    ]
    advice = validation_in_training(overlaps)

    assert "items 1, 3" in said(advice)
    assert advice is not None
    assert advice.clips == ("a", "b")
    assert validation_in_training([]) is None
