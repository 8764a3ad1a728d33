"""Whether a run has sound, and what of each track is heard."""

import logging
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Clips, Role
from ltx_trainer.errors import ConfigError, DatasetError
from ltx_trainer.media import decode_audio

Prepare = Callable[..., Clips]
Make = Callable[..., Path]


def test_sound_is_on_by_itself_if_every_video_has_a_track(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 9, peak=0.5), make_video("b", 9, peak=0.1))
    assert clips.with_audio
    assert all(clip.soundtrack for clip in clips.clips)


def test_one_silent_video_turns_sound_off_and_is_named(
    prepare: Prepare, make_video: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clips = prepare(make_video("a", 9, peak=0.5), make_video("quiet", 9))
    assert not clips.with_audio
    assert [clip.soundtrack for clip in clips.clips] == [{}, {}]
    assert "1 videos have no audio track, the first is quiet.mp4" in caplog.text


def test_a_silent_video_that_is_not_trained_on_does_not_turn_sound_off(prepare: Prepare, make_video: Make) -> None:
    assert prepare(make_video("a", 9, peak=0.5), make_video("too short", 5)).with_audio


def test_required_sound_refuses_every_silent_video_by_name(prepare: Prepare, make_video: Make) -> None:
    paths = make_video("a", 9), make_video("b", 9, peak=0.5), make_video("c", 9)
    with pytest.raises(DatasetError, match=r"2 videos have no audio track: a\.mp4, c\.mp4\. Take them out"):
        prepare(*paths, with_audio=True)


def test_required_sound_is_there(prepare: Prepare, make_video: Make) -> None:
    assert prepare(make_video("a", 9, peak=0.5), with_audio=True).with_audio


def test_sound_that_is_off_is_not_looked_at(prepare: Prepare, make_video: Make, scans: Path) -> None:
    clips = prepare(make_video("a", 9, peak=0.5), with_audio=False)
    assert not clips.with_audio
    assert clips.clips[0].soundtrack == {}
    assert not list(scans.rglob("*audio*"))


def test_images_are_silent_without_a_word(prepare: Prepare, make_image: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not prepare(make_image("a")).with_audio
    assert not caplog.records


def test_images_among_videos_make_the_run_silent_and_that_is_said_once(
    prepare: Prepare, make_video: Make, make_image: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        clips = prepare(make_video("a", 12, peak=0.5), make_image("b"), make_image("ccc"))
    assert not clips.with_audio
    assert [record.getMessage() for record in caplog.records] == [
        "The run is silent: 2 images have no sound, the first is b.png."
    ]


def test_images_among_videos_refuse_required_sound_by_name(
    prepare: Prepare, make_video: Make, make_image: Make
) -> None:
    with pytest.raises(DatasetError, match=r"images such as 'b\.png' have no sound"):
        prepare(make_video("a", 12, peak=0.5), make_image("b"), with_audio=True)


def test_images_refuse_required_sound(prepare: Prepare, make_image: Make) -> None:
    with pytest.raises(DatasetError, match=r"with_audio is true, and images such as 'a\.png' have no sound"):
        prepare(make_image("a"), with_audio=True)


def test_a_model_without_sound_is_silent(prepare: Prepare, make_video: Make) -> None:
    assert not prepare(make_video("a", 9, peak=0.5), audio_rate_hz=None).with_audio


def test_a_model_without_sound_refuses_required_sound(prepare: Prepare, make_video: Make) -> None:
    with pytest.raises(ConfigError, match="with_audio is true, and the base model has no sound"):
        prepare(make_video("a", 9, peak=0.5), audio_rate_hz=None, with_audio=True)


def test_a_damaged_track_leaves_its_video_out_and_is_never_taken_for_none(
    prepare: Prepare, make_video: Make, with_damaged_sound: Make
) -> None:
    damaged = with_damaged_sound(make_video("b", 9, peak=0.5))
    clips = prepare(make_video("a", 9, peak=0.5), damaged)
    assert clips.with_audio
    assert [clip.name for clip in clips.clips] == ["a"]
    assert [item.name for item in clips.left_out] == ["b-damaged"]


def test_what_is_left_out_is_in_the_order_of_names_whatever_the_reason(
    prepare: Prepare, make_video: Make, with_damaged_sound: Make
) -> None:
    damaged = with_damaged_sound(make_video("a", 9, peak=0.5))
    clips = prepare(make_video("b", 5), damaged, make_video("c", 9, peak=0.5))
    assert [item.name for item in clips.left_out] == ["a-damaged", "b"]


def test_a_damaged_track_does_not_matter_to_a_silent_run(
    prepare: Prepare, make_video: Make, with_damaged_sound: Make
) -> None:
    damaged = with_damaged_sound(make_video("b", 9, peak=0.5))
    clips = prepare(make_video("a", 9), damaged)
    assert [clip.name for clip in clips.clips] == ["a", "b-damaged"]


@pytest.mark.parametrize("auto_scale", [False, True])
def test_the_sound_covers_the_same_span_as_the_pictures(
    prepare: Prepare, make_video: Make, *, auto_scale: bool
) -> None:
    path = make_video("a", 24, 30, peak=0.5)
    clips = prepare(path, auto_scale_input=auto_scale, split_input_duration_threshold=1)
    assert len(clips.clips) == 2
    for clip in clips.clips:
        footage, sound = clip.footage[Role.TARGET], clip.soundtrack[Role.TARGET]
        assert (sound.start_seconds, sound.span_seconds) == (footage.start_seconds, footage.span_seconds)
        assert sound.duration_seconds == Fraction(9, 24)
        assert sound.preserve_pitch


def test_pitch_is_kept_only_if_asked_for(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 9, peak=0.5), audio_preserve_pitch=False)
    assert not clips.clips[0].soundtrack[Role.TARGET].preserve_pitch


@pytest.mark.parametrize("peak", [0.02, 0.5])
def test_the_gain_brings_the_loudest_sample_of_the_file_to_minus_one_decibel(
    prepare: Prepare, make_video: Make, peak: float
) -> None:
    sound = prepare(make_video("a", 24, peak=peak)).clips[0].soundtrack[Role.TARGET]
    whole = decode_audio(sound.source.path, start_seconds=Fraction(0), span_seconds=Fraction(1), rate_hz=16000)
    assert abs(whole).max() * sound.gain == pytest.approx(10 ** (-1 / 20), rel=1e-3)


def test_silence_is_not_made_louder(prepare: Prepare, make_video: Make) -> None:
    clips = prepare(make_video("a", 9, peak=0.0))
    assert clips.with_audio
    assert clips.clips[0].soundtrack[Role.TARGET].gain == 1.0


def test_levels_stay_as_they_are_if_not_normalised(prepare: Prepare, make_video: Make) -> None:
    assert prepare(make_video("a", 9, peak=0.1), audio_normalize=False).clips[0].soundtrack[Role.TARGET].gain == 1.0
