"""Which seconds of a sound become a clip in modes without video, and which of them are generated."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.artifacts import Clip, Clips, Example, LeftOut, Manifest, Role, Soundtrack
from ltx_trainer.config import DataSection
from ltx_trainer.errors import DatasetError
from ltx_trainer.media import read_sound
from ltx_trainer.prepare import check_loss
from ltx_trainer.prepare.ranges import ranges_within
from tests.prepare.conftest import RATE_HZ

Prepare = Callable[..., Clips]
Make = Callable[..., Path]
AsExample = Callable[..., Example]
Ranged = Callable[..., Example]


def heard(clips: Clips) -> dict[str, Soundtrack]:
    return {clip.name: clip.soundtrack[Role.TARGET] for clip in clips.clips}


def only(clips: Clips) -> Clip:
    (clip,) = clips.clips
    return clip


@pytest.fixture
def ranged(make_sound: Make, as_example: AsExample) -> Ranged:
    """Give a function that makes an example of a sound and of ranges in it."""

    def make(name: str, seconds: float, *ranges: tuple[float, float]) -> Example:
        exact = tuple((Fraction(str(begin)), Fraction(str(end))) for begin, end in ranges)
        return replace(as_example(make_sound(name, Fraction(str(seconds)))), ranges=exact)

    return make


def test_the_first_seconds_of_a_longer_sound_are_taken(prepare: Prepare, make_sound: Make) -> None:
    clips = prepare(make_sound("a", 3), mode="t2a", audio_duration_seconds=2)
    clip = only(clips)
    sound = clip.soundtrack[Role.TARGET]
    assert clips.with_audio
    assert (clip.footage, clip.shape, list(clip.soundtrack)) == ({}, None, [Role.TARGET])
    assert (sound.start_seconds, sound.span_seconds, sound.duration_seconds) == (0, 2, 2)
    assert sound.gain == pytest.approx(10 ** (-1 / 20) / 0.5, rel=1e-3)
    assert read_sound(sound, RATE_HZ).shape == (2, 2 * RATE_HZ)


@pytest.mark.parametrize(("seconds", "would_do"), [(1.97, "audio_duration_seconds 1.9 or "), (0.4, "")])
def test_a_shorter_sound_is_left_out_with_the_duration_that_would_do(
    prepare: Prepare, make_sound: Make, seconds: float, would_do: str
) -> None:
    sounds = make_sound("long", 2), make_sound("short", Fraction(str(seconds)))
    clips = prepare(*sounds, mode="t2a", audio_duration_seconds=2)
    assert list(heard(clips)) == ["long"]
    reason = f"lasts {seconds:g} s, 2 s are needed; {would_do}auto_scale_input would keep it"
    assert clips.left_out == (LeftOut("short", reason),)


def test_a_duration_that_leaves_nothing_to_extend_is_not_advised(prepare: Prepare, make_sound: Make) -> None:
    sounds = make_sound("long", 2), make_sound("short", 1)
    clips = prepare(*sounds, mode="audio-extend-prefix", audio_duration_seconds=2, conditioning_seconds=1)
    assert clips.left_out[0].reason == "lasts 1 s, 2 s are needed; auto_scale_input would keep it"


def test_auto_scale_stretches_the_whole_sound_to_the_duration(prepare: Prepare, make_sound: Make) -> None:
    clips = prepare(make_sound("a", 3), make_sound("b", 1), mode="t2a", audio_duration_seconds=2, auto_scale_input=True)
    assert {name: (sound.span_seconds, sound.is_stretched) for name, sound in heard(clips).items()} == {
        "a": (3, True),
        "b": (1, True),
    }


def test_a_long_sound_is_split_into_whole_parts_that_follow_each_other(prepare: Prepare, make_sound: Make) -> None:
    clips = prepare(make_sound("a", 3.5), mode="t2a", audio_duration_seconds=1, split_input_duration_threshold=2)
    found = {name: (sound.start_seconds, sound.span_seconds) for name, sound in heard(clips).items()}
    assert found == {"a#part-001": (0, 1), "a#part-002": (1, 1), "a#part-003": (2, 1)}
    whole = replace(clips.clips[0].soundtrack[Role.TARGET], span_seconds=Fraction(3), duration_seconds=Fraction(3))
    parts = [read_sound(sound, RATE_HZ) for sound in heard(clips).values()]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), read_sound(whole, RATE_HZ))


def test_windows_are_spread_over_a_sound_whether_it_is_split_or_not(prepare: Prepare, make_sound: Make) -> None:
    spread = DataSection(windows="spread")
    for threshold in (2, 30):
        fields = {"audio_duration_seconds": 1, "split_input_duration_threshold": threshold}
        found = heard(prepare(make_sound("a", 3.5), mode="t2a", data=spread, **fields))
        assert {name: sound.start_seconds for name, sound in found.items()} == {
            "a#window-001": 0,
            "a#window-002": Fraction(5, 4),
            "a#window-003": Fraction(5, 2),
        }


@pytest.mark.parametrize("fields", [{"split_input_into_scenes": False}, {"split_input_duration_threshold": 4}])
def test_a_sound_that_is_not_split_keeps_its_name(
    prepare: Prepare, make_sound: Make, fields: dict[str, object]
) -> None:
    fields = {"split_input_duration_threshold": 2, **fields}
    assert list(heard(prepare(make_sound("a", 3.5), mode="t2a", audio_duration_seconds=1, **fields))) == ["a"]


def test_a_pair_of_sounds_is_cut_alike(prepare: Prepare, make_sound: Make, as_example: AsExample) -> None:
    pair = as_example(make_sound("end", 2.5), reference_sound=make_sound("start", 3, peak=0.1))
    fields = {"split_input_into_scenes": True, "split_input_duration_threshold": 1}
    clips = prepare(pair, mode="a2a", audio_duration_seconds=1, **fields)
    for begin, clip in enumerate(clips.clips):
        reference = clip.soundtrack[Role.REFERENCE_SOUND]
        assert (reference.source.name, reference.start_seconds, reference.span_seconds) == ("start.wav", begin, 1)
        assert reference.gain == pytest.approx(10 ** (-1 / 20) / 0.1, rel=1e-3)
    assert len(clips.clips) == 2


def test_a_reference_sound_that_is_too_short_leaves_the_clip_out_with_both_lengths(
    prepare: Prepare, make_sound: Make, as_example: AsExample
) -> None:
    pair = as_example(make_sound("end", 2.5), reference_sound=make_sound("start", 1.5))
    fields = {"split_input_into_scenes": True, "split_input_duration_threshold": 1}
    clips = prepare(pair, mode="a2a", audio_duration_seconds=1, **fields)
    assert list(heard(clips)) == ["end#part-001"]
    reason = "needs 1 s of sound, and its reference sound start.wav has 0.5 s from 1 s on"
    assert clips.left_out == (LeftOut("end#part-002", reason),)


def test_a_file_without_sound_is_left_out(prepare: Prepare, make_sound: Make, make_video: Make) -> None:
    clips = prepare(make_sound("a", 1), make_video("b", 48), mode="t2a", audio_duration_seconds=1)
    assert clips.left_out == (LeftOut("b", "b.mp4 has no audio track."),)


def test_the_ranges_of_a_sound_are_cut_with_it(prepare: Prepare, ranged: Ranged) -> None:
    example = ranged("a", 4, (0.25, 0.5), (0.75, 1.25), (3.5, 3.75))
    fields = {"audio_duration_seconds": 1, "split_input_duration_threshold": 2}
    clips = prepare(example, mode="audio-inpaint", **fields)
    quarter = Fraction(1, 4)
    assert {clip.name: clip.ranges for clip in clips.clips} == {
        "a#part-001": ((quarter, 2 * quarter), (3 * quarter, Fraction(1))),
        "a#part-002": ((Fraction(0), quarter),),
        "a#part-004": ((2 * quarter, 3 * quarter),),
    }
    reason = "none of the ranges lies in what is taken, 2 to 3 s: nothing would be generated."
    assert clips.left_out == (LeftOut("a#part-003", reason),)


def test_a_part_of_which_nothing_is_kept_is_left_out(prepare: Prepare, ranged: Ranged) -> None:
    fields = {"audio_duration_seconds": 1, "split_input_duration_threshold": 1}
    # Of the second part 30 ms are kept, less than a token.
    clips = prepare(ranged("a", 3, (0.5, 1.5), (1.53, 2.5)), mode="audio-inpaint", **fields)
    assert list(heard(clips)) == ["a#part-001", "a#part-003"]
    (left_out,) = clips.left_out
    assert left_out.name == "a#part-002"
    assert left_out.reason.startswith("the ranges leave no token of 0.04 s of the sound's 1 s whole")


def test_ranges_must_leave_a_token_of_what_is_taken_of_a_sound(prepare: Prepare, ranged: Ranged) -> None:
    fields = {"mode": "audio-inpaint", "audio_duration_seconds": 2}
    # Hops 1 to 4 are token 1; hops 2 to 5 hold none whole.
    prepare(ranged("good", 3, (0, 0.01), (0.05, 2.5)), **fields)
    with pytest.raises(DatasetError, match=r"^bad: the ranges leave no token of 0\.04 s of the sound's 2 s whole"):
        prepare(ranged("bad", 3, (0, 0.02), (0.06, 2.5)), **fields)
    with pytest.raises(DatasetError, match=r"^late: none of the ranges lies in what is taken, 0 to 2 s"):
        prepare(ranged("late", 3, (2.1, 2.5)), **fields)


def test_tokens_are_counted_in_the_seconds_of_a_sound_that_is_stretched(prepare: Prepare, ranged: Ranged) -> None:
    fields = {"mode": "audio-inpaint", "auto_scale_input": True, "audio_duration_seconds": 1}
    # What is kept of 4 s is a quarter as long in the clip: hops 1 to 4, or 1 to 3.
    prepare(ranged("good", 4, (0, 0.04), (0.2, 4)), **fields)
    with pytest.raises(DatasetError, match=r"^bad: the ranges leave no token"):
        prepare(ranged("bad", 4, (0, 0.04), (0.16, 4)), **fields)


@pytest.mark.parametrize("preserve_pitch", [True, False])
def test_ranges_are_stretched_with_their_sound(prepare: Prepare, ranged: Ranged, *, preserve_pitch: bool) -> None:
    fields = {"auto_scale_input": True, "audio_preserve_pitch": preserve_pitch, "audio_duration_seconds": 2}
    clip = only(prepare(ranged("a", 4, (1, 3)), mode="audio-inpaint", **fields))
    expected = (Fraction(1, 2), Fraction(3, 2)) if preserve_pitch else (Fraction(1), Fraction(2))
    assert clip.ranges == (expected,)


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        ((1.5, 2.5), r"a: the range \[1\.5, 2\.5\] is not inside the sound, which goes from 0 to 2 s"),
        ((3, 4), r"a: the range \[3, 4\] is not inside the sound, which goes from 0 to 2 s"),
        ((0, 2), r"a: the ranges cover all 2 s of the sound, which leaves nothing kept"),
    ],
)
def test_ranges_that_do_not_fit_their_sound_are_refused_by_the_examples_name(
    prepare: Prepare, ranged: Ranged, span: tuple[float, float], problem: str
) -> None:
    with pytest.raises(DatasetError, match=problem):
        prepare(ranged("a", 2, span), mode="audio-inpaint", audio_duration_seconds=1)


def test_the_end_of_a_range_may_be_rounded(prepare: Prepare, ranged: Ranged) -> None:
    clip = only(prepare(ranged("a", 1.996, (1.5, 2)), mode="audio-inpaint", audio_duration_seconds=1.99))
    assert clip.ranges == ((Fraction(3, 2), Fraction("1.99")),)


def test_ranges_that_meet_are_one() -> None:
    one, two, three = Fraction(1), Fraction(2), Fraction(3)
    assert ranges_within([(one, two), (two, three)], one / 2, three) == ((one / 2, two + one / 2),)


def test_files_of_a_split_sound_are_counted_once(prepare: Prepare, make_sound: Make, as_example: AsExample) -> None:
    short = as_example(make_sound("end", 2.5), reference_sound=make_sound("start", Fraction(1, 2)))
    good = as_example(make_sound("good", 1), reference_sound=make_sound("ref", 1))
    fields = {"split_input_into_scenes": True, "split_input_duration_threshold": 1, "audio_duration_seconds": 1}
    clips = prepare(short, good, mode="a2a", **fields)
    manifest = Manifest((short, good), ())
    check_loss(manifest, clips, DataSection(max_left_out=0.5))
    with pytest.raises(
        DatasetError, match=r"2 of 4 media files .*\n  end#part-001: needs .* \(and so on for 2 parts\)\n"
    ):
        check_loss(manifest, clips, DataSection(max_left_out=0))
