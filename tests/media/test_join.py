"""Videos that are joined: what is seen where, what is heard, and what is refused."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.errors import GeometryError, MediaError
from ltx_trainer.geometry import FrameSize, midpoint_times
from ltx_trainer.media import (
    decode_audio,
    decode_frames,
    join_sounds,
    join_videos,
    read_audio,
    scan_audio,
    scan_video,
    write_audio,
    write_video,
)

if TYPE_CHECKING:
    from tests.media.conftest import Studio

RATE = Fraction(24)


def frames_of(path: Path, num_frames: int, size: FrameSize, rate: Fraction = RATE) -> np.ndarray:
    return decode_frames(path, midpoint_times(Fraction(0), num_frames / rate, num_frames), size)


def test_joined_videos_follow_each_other_with_their_sound(studio: "Studio", tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    paths = [tmp_path / f"{index}.mp4" for index in range(3)]
    numbers = studio.numbered(75)
    for index, path in enumerate(paths):
        sound = None if index == 1 else studio.tone(500 * (index + 1), 25 / rate, 24000)
        write_video(path, numbers[25 * index :][:25], rate, audio=sound, audio_rate_hz=24000)

    join_videos([[path] for path in paths], tmp_path / "joined.mp4")

    joined = tmp_path / "joined.mp4"
    scan = scan_video(joined, find_cuts=False)
    assert (scan.num_frames, scan.duration_seconds) == (75, 75 / rate)
    assert studio.read_numbers(frames_of(joined, 75, FrameSize(64, 32), rate)) == list(range(75))
    sound = scan_audio(joined, rate_hz=24000)
    assert sound is not None
    assert abs(sound.duration_seconds - 75 / rate) <= Fraction(1, 24000)
    first, second, third = (
        decode_audio(joined, start_seconds=25 * index / rate, span_seconds=25 / rate, rate_hz=24000)[0, 1000:-1000]
        for index in range(3)
    )
    assert studio.pitch_of(first, 24000) == pytest.approx(500, rel=0.01)
    assert np.abs(second).max() < 0.01
    assert studio.pitch_of(third, 24000) == pytest.approx(1500, rel=0.01)


def test_joined_sounds_follow_each_other_sample_for_sample_with_half_a_second_between(
    studio: "Studio", tmp_path: Path
) -> None:
    paths = [tmp_path / f"{index}.wav" for index in range(3)]
    for index, path in enumerate(paths):
        write_audio(path, 1.5 * studio.tone(500 * (index + 1), Fraction(index + 1, 10), 24000), 24000)

    join_sounds(paths, tmp_path / "joined.wav")

    pause = np.zeros((2, 12000), np.float32)
    first, second, third = (read_audio(path)[0] for path in paths)
    joined, rate_hz = read_audio(tmp_path / "joined.wav")
    assert rate_hz == 24000
    assert np.array_equal(joined, np.concatenate([first, pause, second, pause, third], axis=1))
    join_sounds(paths[:1], tmp_path / "joined.wav")
    assert (tmp_path / "joined.wav").read_bytes() == paths[0].read_bytes()


def test_sounds_of_two_rates_are_not_joined(studio: "Studio", tmp_path: Path) -> None:
    for rate_hz in (24000, 48000):
        write_audio(tmp_path / f"{rate_hz}.wav", studio.tone(500, Fraction(1, 10), rate_hz), rate_hz)

    with pytest.raises(MediaError, match=r"48000\.wav .* cannot follow 24000\.wav"):
        join_sounds([tmp_path / "24000.wav", tmp_path / "48000.wav"], tmp_path / "joined.wav")


def test_silent_videos_join_to_a_silent_one(studio: "Studio", tmp_path: Path) -> None:
    path = tmp_path / "part.mp4"
    write_video(path, studio.numbered(9), RATE)

    join_videos([[path], [path]], tmp_path / "joined.mp4")

    assert scan_video(tmp_path / "joined.mp4", find_cuts=False).num_frames == 18
    assert scan_audio(tmp_path / "joined.mp4", rate_hz=24000) is None


def test_in_a_row_each_picture_stands_beside_the_one_of_its_time_and_the_last_is_heard(
    studio: "Studio", tmp_path: Path
) -> None:
    numbers = studio.numbered(100)
    for index, name in enumerate(("a", "b", "c", "d")):
        sound = studio.tone(500 * (index + 1), 25 / RATE, 24000)
        write_video(tmp_path / f"{name}.mp4", numbers[25 * index :][:25], RATE, audio=sound, audio_rate_hz=24000)
    joined = tmp_path / "joined.mp4"

    join_videos([[tmp_path / f"{name}.mp4" for name in row] for row in ("ab", "cd")], joined)

    frames = frames_of(joined, 50, FrameSize(128, 32))
    assert studio.read_numbers(frames[:, :, :64]) == [*range(25), *range(50, 75)]
    assert studio.read_numbers(frames[:, :, 64:]) == [*range(25, 50), *range(75, 100)]
    for index, hertz in enumerate((1000, 2000)):
        heard = decode_audio(joined, start_seconds=25 * index / RATE, span_seconds=25 / RATE, rate_hz=24000)
        spectrum = np.abs(np.fft.rfft(heard[0, 1000:-1000]))
        level = [spectrum[round(each * 23000 / 24000) - 5 :][:11].max() for each in (hertz - 500, hertz)]
        assert level[0] < 0.01 * level[1]


def test_the_last_of_a_row_is_heard_where_it_is_silent(studio: "Studio", tmp_path: Path) -> None:
    tone = studio.tone(500, 9 / RATE, 24000)
    write_video(tmp_path / "loud.mp4", studio.numbered(9), RATE, audio=tone, audio_rate_hz=24000)
    write_video(tmp_path / "silent.mp4", studio.numbered(9), RATE)

    join_videos([[tmp_path / "loud.mp4", tmp_path / "silent.mp4"]], tmp_path / "joined.mp4")

    assert scan_audio(tmp_path / "joined.mp4", rate_hz=24000) is None


def test_a_picture_keeps_its_colours_and_its_place_in_a_row(tmp_path: Path) -> None:
    """Of widths and a height that no 4 divides, so that the planes of colour do not end where lines do."""
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    paths = [tmp_path / f"{index}.mp4" for index in range(3)]
    for path, width, colour in zip(paths, (38, 26, 30), colours, strict=True):
        write_video(path, np.broadcast_to(np.array(colour, np.uint8), (3, 34, width, 3)), RATE)

    join_videos([paths], tmp_path / "joined.mp4")

    frame = frames_of(tmp_path / "joined.mp4", 3, FrameSize(94, 34))[1].astype(int)
    for colour, begin, end in zip(colours, (0, 38, 64), (38, 64, 94), strict=True):
        assert np.abs(frame[:, begin + 3 : end - 3] - colour).max() <= 12


@pytest.mark.parametrize(
    ("num_frames", "height", "rate"), [(9, 32, Fraction(25)), (10, 32, RATE), (9, 34, RATE)], ids=str
)
def test_videos_of_another_rate_length_or_height_do_not_stand_side_by_side(
    tmp_path: Path, num_frames: int, height: int, rate: Fraction
) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((num_frames, height, 64, 3), np.uint8), rate)
    write_video(tmp_path / "b.mp4", np.zeros((9, 32, 64, 3), np.uint8), RATE)

    with pytest.raises(
        MediaError,
        match=rf"a\.mp4 \(64x{height} at {rate} .* {num_frames} frames\) cannot stand beside b\.mp4 \(64x32 at 24 ",
    ):
        join_videos([[tmp_path / "a.mp4", tmp_path / "b.mp4"]], tmp_path / "joined.mp4")
    assert not (tmp_path / "joined.mp4").exists()


def test_rows_that_do_not_match_are_not_joined(studio: "Studio", tmp_path: Path) -> None:
    a, b, joined = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "joined.mp4"
    write_video(a, studio.numbered(9), RATE)
    write_video(b, studio.numbered(9), Fraction(25))

    with pytest.raises(MediaError, match=r"b\.mp4 \(64x32 at 25 .*cannot follow a\.mp4 \(64x32 at 24 "):
        join_videos([[a], [b]], joined)
    with pytest.raises(MediaError, match=r"a\.mp4 \(64x32 .*cannot follow a\.mp4 beside a\.mp4 \(128x32 "):
        join_videos([[a, a], [a]], joined)
    for nothing in ([], [[a], []]):
        with pytest.raises(MediaError, match=r"joined\.mp4 cannot be joined from 0 videos"):
            join_videos(nothing, joined)


def test_a_video_with_an_odd_side_is_not_joined(studio: "Studio", tmp_path: Path) -> None:
    odd = studio.write("odd.mkv", studio.pictures(np.zeros((9, 32, 63, 3), np.uint8), codec="ffv1", options={}))

    with pytest.raises(GeometryError, match=r"63x32 cannot be stored as yuv420p"):
        join_videos([[odd, odd]], tmp_path / "joined.mp4")
