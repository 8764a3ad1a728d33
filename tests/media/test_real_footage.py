"""Real footage, in the folder that LTX_TRAINER_FOOTAGE names: the test resources of pytorch/torchcodec."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import Cut, decode_frames, scan_audio, scan_video


@pytest.fixture
def footage() -> Path:
    folder = os.environ.get("LTX_TRAINER_FOOTAGE")
    if folder is None:
        pytest.skip("LTX_TRAINER_FOOTAGE does not name a folder of footage")
    return Path(folder)


def test_the_best_of_several_streams_is_taken(footage: Path) -> None:
    video = scan_video(footage / "nasa_13013.mp4", find_cuts=True)
    sound = scan_audio(footage / "nasa_13013.mp4", rate_hz=16000)

    assert (video.num_frames, video.size) == (390, FrameSize(480, 270))
    assert video.duration_seconds == Fraction(390 * 1001, 30000)
    # From frame 150 to 179 one scene dissolves into another, and at frame 240 is a cut.
    dissolve, cut = video.cuts
    assert 140 <= dissolve.end_seconds * Fraction(30000, 1001) <= 150
    assert 180 <= dissolve.start_seconds * Fraction(30000, 1001) <= 190
    assert cut == Cut(240 * Fraction(1001, 30000), 240 * Fraction(1001, 30000))
    assert sound is not None
    assert (sound.rate_hz, sound.channels) == (16000, 2)


def test_ten_bits_look_the_same_in_both_codecs(footage: Path) -> None:
    one, other = (
        decode_frames(footage / f"{codec}_10bits.mp4", [Fraction(1, 2)], FrameSize(200, 200))[0].astype(int)
        for codec in ("h264", "h265")
    )

    assert np.abs(one - other).mean() < 2
    # The first bar of the test chart is pure red.
    assert np.abs(one[120, 10] - (255, 0, 0)).max() < 12


def test_a_length_that_the_header_does_not_give_is_counted(footage: Path) -> None:
    scan = scan_video(footage / "av1_video.mkv", find_cuts=False)

    assert (scan.num_frames, scan.duration_seconds) == (125, 5)


def test_full_range_is_read_as_tagged(footage: Path) -> None:
    frame = decode_frames(footage / "bt709_full_range.mp4", [Fraction(0)], FrameSize(1280, 720))[0]

    # Stored as Y 81, Cb 90, Cr 240: by full-range BT.709 that is 81 + 1.5748 * 112 and so on.
    assert np.abs(frame[600, 100].astype(int) - (255, 36, 10)).max() <= 2
