"""Scans are remembered by content, so that nothing is decoded twice."""

import logging
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from ltx_trainer.artifacts import Clips, Example, Role
from ltx_trainer.errors import MediaError
from ltx_trainer.media import cut_rule, scan_audio, scan_video
from ltx_trainer.prepare.scans import Scans

Prepare = Callable[..., Clips]
Make = Callable[..., Path]
AsExample = Callable[..., Example]


def test_a_recalled_scan_equals_a_fresh_one(make_video: Make, as_example: AsExample, scans: Path) -> None:
    path = make_video("a", 24, 30, rate=Fraction(30000, 1001), peak=0.3)
    source = as_example(path).files[Role.TARGET]
    for _ in range(2):
        memory = Scans(scans)
        assert memory.video(source, find_cuts=True) == scan_video(path, find_cuts=True)
        assert memory.video(source, find_cuts=False) == scan_video(path, find_cuts=False)
        assert memory.audio(source, rate_hz=16000) == scan_audio(path, rate_hz=16000)
    assert len(list(scans.rglob("*.json"))) == 3
    silent = make_video("b", 48, peak=0.0)
    for _ in range(2):
        scan = Scans(scans).audio(as_example(silent).files[Role.TARGET], rate_hz=16000)
        assert scan == scan_audio(silent, rate_hz=16000)
        assert scan is not None
        assert scan.silences


def test_a_scan_is_remembered_by_how_cuts_are_found_where_they_are(
    make_video: Make, as_example: AsExample, scans: Path
) -> None:
    source = as_example(make_video("a", 24, 30)).files[Role.TARGET]
    rules = [cut_rule(), cut_rule("adaptive"), cut_rule("transitions", 256.0), cut_rule("transitions", 3.0)]
    found = [[len(Scans(scans, rule).video(source, find_cuts=flag).cuts) for flag in (True, False)] for rule in rules]
    assert found == [[1, 0], [1, 0], [0, 0], [1, 0]]
    # The last rule is the first, and without cuts none matters.
    assert len(list(scans.rglob("*.json"))) == 4


def test_the_absence_of_a_track_is_remembered(make_video: Make, as_example: AsExample, scans: Path) -> None:
    source = as_example(make_video("a", 9)).files[Role.TARGET]
    assert Scans(scans).audio(source, rate_hz=16000) is None
    source.path.unlink()
    assert Scans(scans).audio(source, rate_hz=16000) is None


def test_the_track_that_is_taken_of_several_is_told_once_a_run_recalled_or_not(
    as_example: AsExample, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "several.mkv"
    with av.open(str(path), "w") as output:
        tracks = [output.add_stream("pcm_s16le", rate=rate, layout="mono") for rate in (16000, 8000)]
        for track in tracks:
            frame = AudioFrame.from_ndarray(np.full((1, 8000), 9, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = track.rate, 0
            output.mux(track.encode(frame))
    target = as_example(path).files[Role.TARGET]

    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="ltx_trainer"):
            memory = Scans(scans)
            for _ in range(2):
                assert memory.audio(target, rate_hz=16000) == scan_audio(path, rate_hz=16000)
        (told,) = (record.getMessage() for record in caplog.records)
        taken, other = "track 0 (pcm_s16le, 16000 Hz, 1 channels)", "track 1 (pcm_s16le, 8000 Hz, 1 channels)"
        assert told == f"several.mkv has 2 audio tracks: {taken} is taken, and not {other}."


def test_a_second_run_decodes_nothing(
    prepare: Prepare, make_video: Make, make_image: Make, as_example: AsExample
) -> None:
    examples = [as_example(path) for path in (make_video("a", 9), make_video("b", 24, 24, peak=0.5), make_image("c"))]
    first = prepare(*examples, split_input_duration_threshold=1)
    for example in examples:
        example.files[Role.TARGET].path.unlink()
    assert prepare(*examples, split_input_duration_threshold=1) == first


def test_another_content_is_scanned_anew(prepare: Prepare, make_video: Make) -> None:
    assert prepare(make_video("a", 24, 24), split_input_duration_threshold=1) != prepare(
        make_video("a", 30, 24), split_input_duration_threshold=1
    )


def test_a_file_that_cannot_be_read_is_tried_again(make_video: Make, as_example: AsExample, scans: Path) -> None:
    path = make_video("a", 9)
    source, content = as_example(path).files[Role.TARGET], path.read_bytes()
    path.write_bytes(b"half")
    with pytest.raises(MediaError, match=r"a\.mp4"):
        Scans(scans).video(source, find_cuts=False)
    path.write_bytes(content)
    assert Scans(scans).video(source, find_cuts=False).num_frames == 9
