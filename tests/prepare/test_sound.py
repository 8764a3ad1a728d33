"""Whether a run has sound, and what of each track is heard."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from ltx_trainer import media
from ltx_trainer.artifacts import Clips, Example, Finding, FindingKind, Role
from ltx_trainer.config import AudioSection
from ltx_trainer.errors import ConfigError, DatasetError
from ltx_trainer.media import decode_audio, read_sound
from ltx_trainer.media.loudness import LoudnessMeter
from ltx_trainer.prepare.sound import tell_findings

Prepare = Callable[..., Clips]
Make = Callable[..., Path]
AsExample = Callable[..., Example]


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


def levels_of(clips: Clips, rate_hz: int = 16000) -> tuple[float | None, float]:
    """Measure the sound of the only clip as the model hears it: in LUFS, and its true peak in dBFS."""
    (clip,) = clips.clips
    meter = LoudnessMeter(rate_hz)
    meter.add(read_sound(clip.soundtrack[Role.TARGET], rate_hz))
    loudness_lufs, true_peak = meter.finish()
    return loudness_lufs, 20 * math.log10(true_peak)


@pytest.mark.parametrize("peak", [0.02, 0.5])
@pytest.mark.parametrize(("asked", "limit", "heard"), [(-16, -1, -16), (-23, -1, -23), (-10, -14, -14)])
def test_a_file_is_brought_to_a_loudness_but_not_over_the_true_peak(
    prepare: Prepare, make_sound: Make, peak: float, asked: float, limit: float, heard: float
) -> None:
    audio = AudioSection(normalize="loudness", loudness_lufs=asked, true_peak_dbfs=limit)
    clips = prepare(make_sound("a", 2, peak), mode="t2a", audio=audio, audio_duration_seconds=2)
    loudness_lufs, true_peak_dbfs = levels_of(clips)
    # A sine on both sides is as loud as its peak.
    assert loudness_lufs == pytest.approx(heard, abs=0.1)
    assert true_peak_dbfs < limit + 0.05
    assert clips.findings == ()


def test_a_loudness_is_of_no_account_if_levels_are_left(prepare: Prepare, make_video: Make) -> None:
    audio = AudioSection(normalize="loudness")
    clips = prepare(make_video("a", 9, peak=0.1), audio=audio, audio_normalize=False)
    assert clips.clips[0].soundtrack[Role.TARGET].gain == 1.0
    assert clips.findings == ()


@pytest.mark.parametrize(("frames", "peak", "gain"), [(9, 0.1, 10 ** (-1 / 20) / 0.1), (24, 1e-4, 1.0)])
def test_what_has_no_loudness_is_brought_to_the_peak_if_short_and_left_if_soft(
    prepare: Prepare, make_video: Make, frames: int, peak: float, gain: float, caplog: pytest.LogCaptureFixture
) -> None:
    clips = prepare(make_video("a", frames, peak=peak), audio=AudioSection(normalize="loudness"))
    assert clips.clips[0].soundtrack[Role.TARGET].gain == pytest.approx(gain, rel=0.05)
    assert ("The loudness of a.mp4 cannot be measured" in caplog.text) == (peak > 1e-3)


def test_flaws_of_sound_are_told_once_a_file_and_kept(
    prepare: Prepare, make_video: Make, caplog: pytest.LogCaptureFixture
) -> None:
    silent, loud = make_video("silent", 24, 24, 24, peak=0.0), make_video("loud", 24, peak=1.5)
    with caplog.at_level(logging.WARNING):
        clips = prepare(silent, loud, make_video("good", 24, peak=0.5), split_input_duration_threshold=1)
    assert [(finding.kind, finding.file) for finding in clips.findings] == [
        (FindingKind.CLIPPED, "loud.mp4"),
        (FindingKind.SILENT_TRACK, "silent.mp4"),
    ]
    assert clips.findings[1].clips == ("silent#scene-001", "silent#scene-002", "silent#scene-003")
    told = [record.getMessage() for record in caplog.records]
    assert sorted(told) == sorted(finding.sentence for finding in clips.findings)


def test_sound_away_from_its_pictures_is_told(
    prepare: Prepare, make_video: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scan = media.scan_audio

    def late(path: Path, *, rate_hz: int) -> media.AudioScan | None:
        found = scan(path, rate_hz=rate_hz)
        assert found is not None
        return replace(found, start_seconds=Fraction(1, 5), duration_seconds=Fraction(4, 5))

    monkeypatch.setattr(media, "scan_audio", late)
    (finding,) = prepare(make_video("a", 24, peak=0.5)).findings
    assert finding.kind is FindingKind.OFFSET
    assert "The sound of a.mp4 begins 0.2 s after its pictures." in caplog.text


def test_many_findings_are_told_in_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    tell_findings([Finding(FindingKind.CLIPPED, f"{n}.mp4", f"sentence {n}", {}) for n in range(25)])
    assert len(caplog.records) == 21
    assert caplog.records[-1].getMessage() == "Clipped: likewise 5 more files."


@pytest.mark.parametrize("mode", ["v2a", "av2av", "a2v"])
def test_a_mode_that_cannot_do_without_sound_refuses_every_silent_example_by_name(
    prepare: Prepare, make_video: Make, as_example: AsExample, mode: str
) -> None:
    role = {"v2a": None, "av2av": "reference", "a2v": "start"}[mode]
    loud, quiet = make_video("loud", 9, peak=0.5), make_video("quiet", 9)
    good = as_example(loud) if role is None else as_example(loud, **{role: loud})
    bad = as_example(make_video("bad", 9, peak=0.5), **{role: quiet}) if role else as_example(quiet)
    assert prepare(good, mode=mode).with_audio
    with pytest.raises(
        DatasetError, match=rf"{mode} needs sound, and 1 files have no audio track: \w+ \(quiet\.mp4\)\. Give them one"
    ):
        prepare(good, bad, mode=mode)


def test_a_pair_needs_sound_in_both_of_its_videos(prepare: Prepare, make_video: Make, as_example: AsExample) -> None:
    pair = as_example(make_video("end", 9), reference=make_video("start", 9))
    with pytest.raises(DatasetError, match=r"2 files .*: end \(end\.mp4\), end \(start\.mp4\)"):
        prepare(pair, mode="av2av")


def test_a_start_image_without_a_sound_is_refused_with_what_to_add(
    prepare: Prepare, make_video: Make, make_image: Make, as_example: AsExample
) -> None:
    example = as_example(make_video("end", 9, peak=0.5), start=make_image("still"))
    with pytest.raises(DatasetError, match=r"end \(still\.png\)\. Give them one, add a sound named x_audio, or take"):
        prepare(example, mode="a2v")


@pytest.mark.parametrize("mode", ["v2a", "t2a"])
def test_a_mode_that_needs_sound_refuses_a_model_without(prepare: Prepare, make_video: Make, mode: str) -> None:
    with pytest.raises(ConfigError, match=f"{mode} needs sound, and the base model has none"):
        prepare(make_video("a", 9, peak=0.5), mode=mode, audio_rate_hz=None)


def test_a_mode_without_sound_looks_at_none(
    prepare: Prepare, make_video: Make, as_example: AsExample, scans: Path
) -> None:
    loud = make_video("a", 9, peak=0.5)
    clips = prepare(as_example(loud, reference=loud), mode="v2v")
    assert not clips.with_audio
    assert not list(scans.rglob("*audio*"))


@pytest.mark.parametrize("audio_rate_hz", [None, 16000])
@pytest.mark.parametrize("mode", ["ltx-video-trainer", "v2v"])
def test_tracks_of_videos_are_left_alone_by_a_mode_without_sound_and_that_is_said_once(
    prepare: Prepare,
    make_video: Make,
    as_example: AsExample,
    with_damaged_sound: Make,
    scans: Path,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    audio_rate_hz: int | None,
) -> None:
    loud = make_video("a", 9, peak=0.5)
    others = {"reference": loud} if mode == "v2v" else {}
    examples = [as_example(path, **others) for path in (loud, with_damaged_sound(make_video("b", 9, peak=0.5)))]
    with caplog.at_level(logging.INFO):
        clips = prepare(*examples, mode=mode, audio_rate_hz=audio_rate_hz)

    assert [clip.soundtrack for clip in clips.clips] == [{}, {}]
    assert not clips.with_audio
    assert not list(scans.rglob("*audio*"))
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"The run is silent: {mode} trains no sound. Tracks that videos have are left alone."]


def test_images_of_a_mode_without_sound_are_silent_without_a_word(
    prepare: Prepare, make_image: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert not prepare(make_image("a"), mode="ltx-video-trainer", audio_rate_hz=None).with_audio
    assert not caplog.records


def test_a_reference_is_heard_over_the_same_span_as_it_is_seen(
    prepare: Prepare, make_video: Make, as_example: AsExample
) -> None:
    pair = as_example(make_video("end", 24, 24, peak=0.5), reference=make_video("start", 48, peak=0.1))
    fields = {"split_input_into_scenes": True, "split_input_duration_threshold": 1, "auto_scale_input": True}
    clips = prepare(pair, mode="av2av", **fields)
    assert [clip.name for clip in clips.clips] == ["end#scene-001", "end#scene-002"]
    for begin, clip in enumerate(clips.clips):
        target, reference = clip.soundtrack[Role.TARGET], clip.soundtrack[Role.REFERENCE_SOUND]
        assert (target.source.name, reference.source.name) == ("end.mp4", "start.mp4")
        for sound in (target, reference):
            assert (sound.start_seconds, sound.span_seconds, sound.duration_seconds) == (begin, 1, Fraction(9, 24))
        assert reference.gain == pytest.approx(10 ** (-1 / 20) / 0.1, rel=0.02)
        assert target.gain == pytest.approx(10 ** (-1 / 20) / 0.5, rel=0.02)


def test_a_sound_of_its_own_is_laid_over_the_target_from_its_first_sample(
    prepare: Prepare, make_video: Make, make_sound: Make, as_example: AsExample
) -> None:
    start, sound = make_video("start", 48, peak=0.1), make_sound("sound", 2)
    example = as_example(make_video("end", 24, 24, peak=0.5), start=start, sound=sound)
    fields = {"split_input_into_scenes": True, "split_input_duration_threshold": 1}
    clips = prepare(example, mode="a2v", **fields)
    heard = [clip.soundtrack[Role.TARGET] for clip in clips.clips]
    assert [(item.source.name, item.start_seconds) for item in heard] == [("sound.wav", 0), ("sound.wav", 1)]
    assert {item.span_seconds for item in heard} == {Fraction(9, 24)}


def test_a_start_video_is_heard_where_there_is_no_sound_of_its_own(
    prepare: Prepare, make_video: Make, as_example: AsExample
) -> None:
    example = as_example(make_video("end", 12, peak=0.5), start=make_video("start", 10, peak=0.1))
    (clip,) = prepare(example, mode="a2v").clips
    assert list(clip.soundtrack) == [Role.TARGET]
    assert clip.soundtrack[Role.TARGET].source.name == "start.mp4"


@pytest.mark.parametrize("part", ["sound", "start"])
def test_a_sound_that_is_shorter_than_its_video_leaves_the_clip_out_with_both_lengths(
    prepare: Prepare, make_video: Make, make_sound: Make, as_example: AsExample, part: str
) -> None:
    target = make_video("end", 9, peak=0.5)
    short = {"start": make_video("short", 6, peak=0.5)}
    if part == "sound":
        short["sound"] = make_sound("short", Fraction(6, 24))
    good = as_example(make_video("good", 9), start=make_video("start", 1), sound=make_sound("long", Fraction(17, 48)))
    clips = prepare(as_example(target, **short), good, mode="a2v")
    assert [clip.name for clip in clips.clips] == ["good"]
    (left_out,) = clips.left_out
    name = {"sound": "short.wav", "start": "short.mp4"}[part]
    assert left_out.reason == f"needs 0.375 s of sound, and its {part} {name} has 0.25 s from 0 s on"


@pytest.mark.parametrize(("seconds", "is_taken"), [(Fraction(34, 100), True), (Fraction(33, 100), False)])
def test_a_video_whose_track_ends_long_before_its_pictures_is_left_out(
    prepare: Prepare, make_video: Make, monkeypatch: pytest.MonkeyPatch, seconds: Fraction, is_taken: bool
) -> None:
    # 9 frames at 24 fps are 0.375 s, of which a tenth may lack.
    short, whole = make_video("short", 9, peak=0.5), make_video("whole", 9, peak=0.4)
    scan = media.scan_audio

    def ends_early(path: Path, *, rate_hz: int) -> media.AudioScan | None:
        found = scan(path, rate_hz=rate_hz)
        assert found is not None
        return replace(found, duration_seconds=seconds) if path.stem == "short" else found

    monkeypatch.setattr(media, "scan_audio", ends_early)
    clips = prepare(short, whole, mode="v2a")
    assert [clip.name for clip in clips.clips] == (["short", "whole"] if is_taken else ["whole"])
    reasons = [item.reason for item in clips.left_out]
    assert reasons == ([] if is_taken else ["needs 0.375 s of sound, and short.mp4 has 0.33 s from 0 s on"])


def test_a_damaged_reference_track_leaves_its_clip_out(
    prepare: Prepare, make_video: Make, with_damaged_sound: Make, as_example: AsExample
) -> None:
    good = make_video("a", 9, peak=0.5)
    damaged = as_example(make_video("b", 9, peak=0.5), reference=with_damaged_sound(good))
    clips = prepare(as_example(good, reference=good), damaged, mode="av2av")
    assert [clip.name for clip in clips.clips] == ["a"]
    assert "a-damaged.mkv" in clips.left_out[0].reason
