"""What is said of a file's sound, by what scanning it told."""

from dataclasses import replace
from fractions import Fraction

import pytest

from ltx_trainer.artifacts import Finding, FindingKind
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import AudioScan, VideoScan
from ltx_trainer.prepare.hearing import judge_sound, silent_seconds

TRACK = AudioScan(
    start_seconds=Fraction(0),
    duration_seconds=Fraction(10),
    rate_hz=48000,
    channels=2,
    peak=0.5,
    true_peak=0.52,
    loudness_lufs=-20.0,
    silences=(),
    clipped=0,
)
VIDEO = VideoScan(240, Fraction(0), Fraction(10), FrameSize(64, 32), ())
SPANS = {"x#scene-001": (Fraction(0), Fraction(4)), "x#scene-002": (Fraction(6), Fraction(10))}


def judge(track: AudioScan, **others: bool) -> tuple[Finding, ...]:
    return judge_sound("x.mp4", track, SPANS, video=VIDEO, **others)


def test_good_sound_has_no_findings() -> None:
    assert judge(TRACK, needs_loudness=True) == ()


def test_a_silent_track_is_named_once() -> None:
    everything = ((Fraction(0), Fraction(10)),)
    (finding,) = judge(replace(TRACK, peak=9e-4, silences=everything, loudness_lufs=None), needs_loudness=True)
    assert (finding.kind, finding.file, finding.ranges) == (FindingKind.SILENT_TRACK, "x.mp4", everything)
    assert finding.sentence == "x.mp4 has a silent audio track: all of its 10 s are under -60 dBFS."


@pytest.mark.parametrize(
    ("begin", "kind", "clips"),
    [("6.1", FindingKind.SILENT_CLIPS, ("x#scene-002",)), ("6.3", FindingKind.PAUSES, ())],
)
def test_a_clip_is_silent_where_nearly_all_of_its_span_is(begin: str, kind: FindingKind, clips: tuple[str]) -> None:
    silence = (Fraction(begin), Fraction(10))
    (finding,) = judge(replace(TRACK, silences=(silence,)))
    assert (finding.kind, finding.clips, finding.ranges) == (kind, clips, (silence,))
    assert f"Silence: {begin} to 10 s." in finding.sentence
    if clips:
        assert finding.sentence.startswith("x.mp4 is silent, under -60 dBFS, in 1 of its 2 clips (x#scene-002).")


def test_a_pause_that_no_clip_hears_is_not_told() -> None:
    assert judge(replace(TRACK, silences=((Fraction(4), Fraction(6)),))) == ()


def test_outside_the_track_there_is_silence() -> None:
    track = replace(
        TRACK, start_seconds=Fraction(1), duration_seconds=Fraction(4), silences=((Fraction(2), Fraction(3)),)
    )
    spans = {(0, 10): 7, (-2, 1): 3, (0, 2): 1, (5, 6): 1, (Fraction(5, 2), 4): Fraction(1, 2)}
    for (begin, end), seconds in spans.items():
        assert silent_seconds(track, (Fraction(begin), Fraction(end))) == seconds


@pytest.mark.parametrize(("clipped", "places"), [(1, "1 place"), (7, "7 places")])
def test_clipping_is_counted(clipped: int, places: str) -> None:
    (finding,) = judge(replace(TRACK, clipped=clipped))
    assert finding.numbers == {"clipped": clipped, "seconds": 10}
    assert finding.sentence == f"x.mp4 has clipped sound: it stays at full scale in {places} of its 10 s."


@pytest.mark.parametrize(
    ("start", "end", "sentence"),
    [
        ("0.2", "10", "begins 0.2 s after its pictures. Silence stands where there is no sound."),
        ("0", "9.5", "ends 0.5 s before its pictures. Silence stands where there is no sound."),
        ("0", "10.5", "ends 0.5 s after its pictures."),
        ("-0.2", "10", "begins 0.2 s before its pictures."),
        (
            "0.2",
            "10.1",
            "begins 0.2 s after its pictures and ends 0.1 s after them. Silence stands where there is no sound.",
        ),
        ("0.04", "9.96", None),
    ],
)
def test_sound_more_than_a_frame_away_from_its_pictures_is_told(start: str, end: str, sentence: str | None) -> None:
    begin = Fraction(start)
    track = replace(TRACK, start_seconds=begin, duration_seconds=Fraction(end) - begin)
    late = Fraction(5)
    shifted = replace(track, start_seconds=begin + late)
    for given, video in ((track, VIDEO), (shifted, replace(VIDEO, start_seconds=late))):
        found = judge_sound("x.mp4", given, {}, video=video)
        assert [finding.sentence for finding in found] == (
            [] if sentence is None else [f"The sound of x.mp4 {sentence}"]
        )
    assert judge_sound("x.wav", track, {}) == ()


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        ("0.3", "it lasts 0.3 s, and 0.4 s are needed; its true peak is brought to audio.true_peak_dbfs."),
        ("10", "no 0.4 s of it are above -70 LUFS; its level is left as it is."),
    ],
)
def test_sound_that_has_no_loudness_is_told_where_one_is_needed(seconds: str, why: str) -> None:
    track = replace(TRACK, loudness_lufs=None, duration_seconds=Fraction(seconds))
    (finding,) = judge_sound("x.wav", track, {}, needs_loudness=True)
    assert finding.kind is FindingKind.NO_LOUDNESS
    assert finding.sentence == f"The loudness of x.wav cannot be measured: {why}"
    assert judge_sound("x.wav", track, {}) == ()
