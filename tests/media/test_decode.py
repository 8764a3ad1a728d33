"""Which frame is given for a time."""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize, midpoint_times
from ltx_trainer.media import decode_frames, scan_video

if TYPE_CHECKING:
    from tests.media.conftest import Studio

SIZE = FrameSize(64, 32)
NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(24000, 1001), NTSC, Fraction(60)], ids=str)
@pytest.mark.parametrize("container", ["mp4", "mkv", "mov"])
def test_sampling_at_the_source_rate_gives_every_frame_once(studio: "Studio", rate: Fraction, container: str) -> None:
    path = studio.write(f"clip.{container}", studio.pictures(studio.numbered(40), rate=rate))

    frames = decode_frames(path, midpoint_times(Fraction(0), 40 / rate, 40), SIZE)

    assert studio.read_numbers(frames) == list(range(40))


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_avi_frames_keep_their_times_although_the_format_stores_decode_times(studio: "Studio", codec: str) -> None:
    options = {"bf": "2", "g": "12", "b": "4000000"}
    path = studio.write("clip.avi", studio.pictures(studio.numbered(40), codec=codec, options=options))

    frames = decode_frames(path, midpoint_times(Fraction(0), Fraction(40, 24), 40), SIZE)

    assert studio.read_numbers(frames) == list(range(40))
    assert scan_video(path, find_cuts=False).duration_seconds == Fraction(40, 24)


def test_a_faster_source_loses_every_fifth_frame_from_30_to_24(studio: "Studio") -> None:
    path = studio.write("clip.mp4", studio.pictures(studio.numbered(60), rate=Fraction(30)))

    numbers = studio.read_numbers(decode_frames(path, midpoint_times(Fraction(0), Fraction(2), 48), SIZE))

    assert np.diff(numbers).tolist().count(2) == 12
    assert set(np.diff(numbers)) == {1, 2}
    # The middle of output frame k lies at (k + 1/2) / 24 s, in source frame floor of that times 30.
    assert numbers == [(2 * index + 1) * 30 // 48 for index in range(48)]


def test_a_variable_rate_is_followed_by_timestamps(studio: "Studio") -> None:
    ticks = [0, 10, 20, 200, 210, 220, 500, 900]
    clip = studio.pictures(studio.numbered(8), ticks=ticks, time_base=Fraction(1, 1000), rate=Fraction(30))
    path = studio.write("clip.mkv", clip)
    times = [Fraction(ms, 1000) for ms in (0, 9, 10, 25, 199, 200, 219, 400, 500, 899, 900)]

    assert studio.read_numbers(decode_frames(path, times, SIZE)) == [0, 0, 1, 2, 2, 3, 4, 5, 6, 6, 7]


def test_the_ends_are_held_outside_the_video(studio: "Studio") -> None:
    path = studio.write("clip.mp4", studio.pictures(studio.numbered(5)))

    frames = decode_frames(path, [Fraction(-3), Fraction(0), Fraction(4, 24), Fraction(60)], SIZE)

    assert studio.read_numbers(frames) == [0, 0, 4, 4]


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "avi"])
def test_a_span_far_into_the_file_is_found_by_seeking(studio: "Studio", container: str) -> None:
    clip = studio.pictures(studio.numbered(240), options={"g": "30", "crf": "20", "bf": "3"})
    path = studio.write(f"clip.{container}", clip)

    for first in (29, 30, 31, 100, 119, 200):
        times = [Fraction(2 * index + 1, 48) for index in range(first, first + 4)]
        assert studio.read_numbers(decode_frames(path, times, SIZE)) == list(range(first, first + 4))


def test_a_clock_that_does_not_begin_at_zero_is_kept(studio: "Studio") -> None:
    clip = studio.pictures(studio.numbered(10), ticks=range(48, 58))
    path = studio.write("clip.mkv", clip)

    assert scan_video(path, find_cuts=False).start_seconds == 2
    assert studio.read_numbers(decode_frames(path, [Fraction(0), Fraction(2), Fraction(101, 48)], SIZE)) == [0, 0, 2]


def test_no_times_give_no_frames(studio: "Studio") -> None:
    path = studio.write("clip.mp4", studio.pictures(studio.numbered(2)))

    assert decode_frames(path, [], SIZE).shape == (0, 32, 64, 3)


def test_a_file_without_pictures_is_refused(studio: "Studio") -> None:
    path = studio.write("sound.mp4", track=studio.track(studio.tone(440, 0.2, 16000), 16000))

    with pytest.raises(MediaError, match=r"sound\.mp4 has no video track; it holds: audio"):
        decode_frames(path, [Fraction(0)], SIZE)
