"""What a scan finds out, and which files it refuses."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import Cut, scan_audio, scan_video

if TYPE_CHECKING:
    from tests.media.conftest import Studio


def noise(count: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Draw pictures that do not compress, so that a cut file loses some of them."""
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.fixture
def scenes() -> np.ndarray:
    """Draw 24, 30 and 20 frames of three patterns, each of which moves by a pixel a frame."""
    colours = np.array([(220, 60, 40), (40, 200, 90), (60, 70, 230)])
    checks = (np.indices((32, 64)).sum(axis=0) // 16 % 2 + 1)[:, :, None] / 2
    lengths = (24, 30, 20)
    return np.stack(
        [
            np.roll(checks * colour, shift, axis=1).astype(np.uint8)
            for colour, length in zip(colours, lengths, strict=True)
            for shift in range(length)
        ]
    )


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(25)], ids=str)
def test_frames_are_counted_and_timed_exactly(studio: "Studio", rate: Fraction) -> None:
    scan = scan_video(studio.write("clip.mp4", studio.pictures(studio.numbered(49), rate=rate)), find_cuts=False)

    assert (scan.num_frames, scan.start_seconds, scan.size) == (49, 0, FrameSize(64, 32))
    assert scan.duration_seconds == 49 / rate
    assert scan.cuts == ()


def test_a_last_frame_without_a_length_lasts_as_long_as_the_others(studio: "Studio") -> None:
    ticks = [0, 40, 80, 120, 600]
    clip = studio.pictures(studio.numbered(5), ticks=ticks, time_base=Fraction(1, 1000), rate=Fraction(25))
    scan = scan_video(studio.write("clip.mkv", clip), find_cuts=False)

    assert scan.duration_seconds == Fraction(640, 1000)


def test_cuts_are_found_at_the_first_frame_of_a_scene(studio: "Studio", scenes: np.ndarray) -> None:
    rate = Fraction(30000, 1001)
    scan = scan_video(studio.write("clip.mp4", studio.pictures(scenes, rate=rate)), find_cuts=True)

    assert scan.cuts == (Cut(24 / rate, 24 / rate), Cut(54 / rate, 54 / rate))


def test_cuts_are_found_by_time_at_a_variable_rate(studio: "Studio", scenes: np.ndarray) -> None:
    steps = np.random.default_rng(2).integers(20, 90, len(scenes))
    ticks = [500 + int(tick) for tick in np.concatenate(([0], steps.cumsum()[:-1]))]
    clip = studio.pictures(scenes, ticks=ticks, time_base=Fraction(1, 1000), rate=Fraction(25))
    scan = scan_video(studio.write("clip.mkv", clip), find_cuts=True)

    assert scan.start_seconds == Fraction(1, 2)
    first, second = Fraction(ticks[24], 1000), Fraction(ticks[54], 1000)
    assert scan.cuts == (Cut(first, first), Cut(second, second))


def test_one_scene_has_no_cuts(studio: "Studio", scenes: np.ndarray) -> None:
    assert scan_video(studio.write("clip.mp4", studio.pictures(scenes[:24])), find_cuts=True).cuts == ()


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_a_file_that_was_cut_short_is_refused(studio: "Studio", container: str) -> None:
    path = studio.write(f"clip.{container}", studio.pictures(noise(48), options={"crf": "20", "g": "8"}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])

    with pytest.raises(MediaError, match=rf"clip\.{container} (cannot be opened|is damaged|is cut short)"):
        scan_video(path, find_cuts=False)


def test_a_streamable_file_that_was_cut_short_is_refused_for_pictures_and_sound(studio: "Studio") -> None:
    clip = studio.pictures(noise(48), options={"crf": "20", "g": "8"})
    path = studio.write("clip.mp4", clip, studio.track(studio.tone(440, 2, 48000), 48000), movflags="+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(MediaError, match=r"clip\.mp4 is (damaged|cut short)"):
        scan_video(path, find_cuts=False)
    with pytest.raises(MediaError, match=r"clip\.mp4 is (damaged|cut short)"):
        scan_audio(path, rate_hz=16000)


def test_a_file_with_a_hole_is_refused(studio: "Studio") -> None:
    path = studio.write("clip.mp4", studio.pictures(noise(48), options={"crf": "20", "g": "8"}))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)

    with pytest.raises(MediaError, match=r"clip\.mp4 is damaged"):
        scan_video(path, find_cuts=False)


@pytest.mark.parametrize(
    "scan", [lambda path: scan_video(path, find_cuts=True), lambda path: scan_audio(path, rate_hz=8000)]
)
def test_what_is_no_media_is_refused_by_name(tmp_path: Path, scan: Callable[[Path], object]) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 50, encoding="utf-8")
    empty = tmp_path / "empty.mp4"
    empty.touch()

    with pytest.raises(MediaError, match=r"text\.mp4 cannot be opened as media, whatever its extension says"):
        scan(text)
    with pytest.raises(MediaError, match=r"empty\.mp4 is empty: 0 bytes"):
        scan(empty)
    with pytest.raises(MediaError, match=r"absent\.mp4 does not exist"):
        scan(tmp_path / "absent.mp4")


def test_a_playlist_does_not_open_the_file_that_it_names(studio: "Studio") -> None:
    segment = studio.write("segment.ts", studio.pictures(studio.numbered(24)))
    playlist = segment.with_name("list.m3u8")
    playlist.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment.name}\n#EXT-X-ENDLIST\n", encoding="utf-8"
    )

    with pytest.raises(MediaError, match=r"list\.m3u8 cannot be opened as media"):
        scan_video(playlist, find_cuts=False)


def test_titles_in_another_encoding_do_not_matter(studio: "Studio") -> None:
    path = studio.write("clip.mkv", studio.pictures(studio.numbered(5), title="Cafe noir"))
    path.write_bytes(path.read_bytes().replace(b"Cafe noir", b"Caf\xe9 noir"))

    assert scan_video(path, find_cuts=False).num_frames == 5


def test_sound_is_measured_as_it_will_be_heard(studio: "Studio") -> None:
    path = studio.write(
        "clip.mp4", studio.pictures(studio.numbered(48)), studio.track(studio.tone(1000, 2, 48000), 48000)
    )

    scan = scan_audio(path, rate_hz=16000)

    assert scan is not None
    assert (scan.start_seconds, scan.duration_seconds) == (0, 2)
    assert (scan.rate_hz, scan.channels) == (48000, 2)
    assert scan.peak == pytest.approx(0.5, abs=0.03)


def test_only_a_file_without_an_audio_track_has_no_sound(studio: "Studio") -> None:
    silent = studio.write("silent.mp4", studio.pictures(studio.numbered(3)))
    quiet = studio.write(
        "quiet.mp4", studio.pictures(studio.numbered(3)), studio.track(np.zeros((2, 8000), np.float32), 16000)
    )

    assert scan_audio(silent, rate_hz=16000) is None
    scan = scan_audio(quiet, rate_hz=16000)
    assert scan is not None
    assert scan.peak == 0


def test_sound_that_starts_late_says_so(studio: "Studio") -> None:
    late = studio.track(studio.tone(440, 1, 48000), 48000, codec="pcm_s16le", start_samples=9600)
    scan = scan_audio(studio.write("clip.mkv", studio.pictures(studio.numbered(48)), late), rate_hz=48000)

    assert scan is not None
    assert scan.start_seconds == Fraction(1, 5)
    # Matroska rounds the time of the last frame to milliseconds.
    assert scan.duration_seconds == pytest.approx(1, abs=1e-3)
