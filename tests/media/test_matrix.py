"""The matrix of what people have: codecs, containers, clocks, shapes. Each cell gives back what was put in."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from av.filter.graph import Graph
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from PIL import Image

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize, midpoint_times
from ltx_trainer.media import (
    Reel,
    Wish,
    decode_audio,
    decode_frames,
    decode_image,
    scan_audio,
    scan_image,
    scan_video,
)
from ltx_trainer.media.deinterlace import deinterlaced
from ltx_trainer.media.picture import cropped

if TYPE_CHECKING:
    from tests.media.conftest import Studio

RATE = Fraction(25)
COUNT = 12
SIZE = FrameSize(64, 48)
PATCH = (200, 100, 50)
QUIET_X265 = {"x265-params": "log-level=none", "crf": "4"}
QUIET_AV1 = {"crf": "1", "preset": "10"}
BEST_VP9 = {"crf": "4", "b": "0", "cpu-used": "8"}
PLAIN = {"crf": "4", "g": "12"}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # SVT-AV1 writes to the terminal otherwise.
    monkeypatch.setenv("SVT_LOG", "1")


def counted(count: int = COUNT, size: FrameSize = SIZE) -> np.ndarray:
    """Draw pictures with their index in bars above, and a patch of one colour below."""
    bits = (np.arange(count)[:, None] >> np.arange(8)) & 1
    columns = np.arange(size.width) * 8 // size.width
    pictures = np.empty((count, size.height, size.width, 3), np.uint8)
    pictures[:] = np.where(bits, 235, 20)[:, columns].astype(np.uint8)[:, None, :, None]
    pictures[:, size.height // 2 :] = PATCH
    return pictures


def numbers_in(frames: np.ndarray) -> list[int]:
    """Read the indices of `counted`, at any size."""
    columns = (np.arange(8) * 2 + 1) * frames.shape[2] // 16
    bits = frames[:, frames.shape[1] // 4, columns, 1] > 128
    return [int(number) for number in bits @ (1 << np.arange(8))]


def patch_error(frames: np.ndarray) -> int:
    """Give how far the patch is from its colour, at most."""
    rows = slice(frames.shape[1] * 5 // 8, frames.shape[1] * 7 // 8)
    columns = slice(frames.shape[2] // 8, frames.shape[2] * 7 // 8)
    return int(np.abs(frames[:, rows, columns].astype(int) - PATCH).max())


def read_all(path: Path, size: FrameSize = SIZE) -> np.ndarray:
    """Decode as many frames as were scanned, at the middles of their times; scanning gives the very same ones."""
    reel = Reel(path.with_suffix(".reel"), Wish(size), None)
    scan = scan_video(path, find_cuts=False, reel=reel)
    times = midpoint_times(scan.start_seconds, scan.duration_seconds, scan.num_frames)
    frames = decode_frames(path, times, size)
    kept = reel.cut(times)
    assert kept is not None
    assert np.array_equal(np.stack([cropped(kept[index], size) for index in range(len(kept))]), frames)
    return frames


def write_animation(path: Path, pictures: np.ndarray, milliseconds: int | Sequence[int] = 40) -> Path:
    """Write a GIF or a lossless WebP."""
    first, *others = (Image.fromarray(picture) for picture in pictures)
    shown = milliseconds if isinstance(milliseconds, int) else list(milliseconds)
    if path.suffix == ".webp":
        first.save(path, save_all=True, append_images=others, duration=shown, loop=0, lossless=True)
    else:
        first.save(path, save_all=True, append_images=others, duration=shown, loop=0, disposal=2)
    return path


CODECS = [
    *[("libx264", "yuv420p", PLAIN, extension) for extension in ("mp4", "mov", "mkv", "avi")],
    *[("libx265", "yuv420p", QUIET_X265, extension) for extension in ("mp4", "mov", "mkv")],
    *[("libsvtav1", "yuv420p", QUIET_AV1, extension) for extension in ("mp4", "mkv", "webm")],
    *[("libvpx-vp9", "yuv420p", BEST_VP9, extension) for extension in ("mp4", "mkv", "webm", "avi")],
    *[
        ("mpeg4", "yuv420p", {"b": "9000000", "qmin": "1", "qmax": "1"}, extension)
        for extension in ("mp4", "mov", "mkv", "avi")
    ],
    *[("prores_ks", "yuv422p10le", {"profile": "3"}, extension) for extension in ("mov", "mkv")],
    *[("mjpeg", "yuvj444p", {"b": "9000000", "qmin": "1"}, extension) for extension in ("mp4", "mov", "mkv", "avi")],
]


@pytest.mark.parametrize(
    ("codec", "layout", "options", "extension"), CODECS, ids=[f"{cell[0]}-{cell[3]}" for cell in CODECS]
)
def test_every_codec_in_every_container_gives_back_its_frames(
    studio: "Studio", codec: str, layout: str, options: dict[str, str], extension: str
) -> None:
    # What does not say its colours, and all JPEG, is BT.601.
    matrix = Colorspace.ITU601 if codec == "mjpeg" or (codec, extension) == ("mpeg4", "avi") else Colorspace.ITU709
    clip = studio.pictures(
        counted(),
        rate=RATE,
        codec=codec,
        pix_fmt=layout,
        options=options,
        full_range=codec == "mjpeg",
        matrix=matrix,
    )
    path = studio.write(f"clip.{extension}", clip)

    scan = scan_video(path, find_cuts=True)

    assert (scan.num_frames, scan.size, scan.cuts) == (COUNT, SIZE, ())
    assert abs(scan.duration_seconds - COUNT / RATE) < 1 / RATE
    frames = read_all(path)
    assert numbers_in(frames) == list(range(COUNT))
    assert patch_error(frames) <= 3


@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_an_animation_gives_back_its_frames(tmp_path: Path, extension: str) -> None:
    path = write_animation(tmp_path / f"clip.{extension}", counted())

    scan = scan_video(path, find_cuts=True)

    assert scan_audio(path, rate_hz=16000) is None

    assert (scan.num_frames, scan.size, scan.duration_seconds) == (COUNT, SIZE, COUNT / RATE)
    frames = read_all(path)
    assert numbers_in(frames) == list(range(COUNT))
    assert patch_error(frames) <= 3
    later = decode_frames(path, [Fraction(41, 100), Fraction(2)], SIZE)
    assert numbers_in(later) == [10, 11]


@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_pictures_of_an_animation_stay_as_long_as_they_say(tmp_path: Path, extension: str) -> None:
    path = write_animation(tmp_path / f"clip.{extension}", counted(4), [30, 200, 20, 50])

    assert scan_video(path, find_cuts=False).duration_seconds == Fraction(30, 100)
    times = [Fraction(ms, 1000) for ms in (0, 29, 30, 229, 230, 249, 250, 299)]
    assert numbers_in(decode_frames(path, times, SIZE)) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("milliseconds", [0, 10])
@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_pictures_of_an_animation_without_a_time_stay_as_in_browsers(
    tmp_path: Path, extension: str, milliseconds: int
) -> None:
    path = write_animation(tmp_path / f"clip.{extension}", counted(4), milliseconds)

    scan = scan_video(path, find_cuts=False)

    assert (scan.num_frames, scan.duration_seconds) == (4, Fraction(4, 10))
    assert numbers_in(read_all(path)) == [0, 1, 2, 3]


RATES = [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "avi", "webm"])
def test_rates_of_television_are_fractions(studio: "Studio", rate: Fraction, extension: str) -> None:
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(extension, "libx264")
    options = BEST_VP9 if extension == "webm" else PLAIN
    path = studio.write(f"clip.{extension}", studio.pictures(counted(48), rate=rate, codec=codec, options=options))

    scan = scan_video(path, find_cuts=False)

    assert scan.num_frames == 48
    assert abs(scan.duration_seconds - 48 / rate) < (Fraction(2, 1000) if extension in ("mkv", "webm") else 1e-9)
    assert numbers_in(read_all(path)) == list(range(48))


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "webm"])
def test_a_variable_rate_is_followed(studio: "Studio", extension: str) -> None:
    ticks = [0, 10, 20, 200, 210, 220, 500, 900]
    codec, options = ("libvpx-vp9", BEST_VP9) if extension == "webm" else ("libx264", PLAIN)
    clip = studio.pictures(
        counted(8), ticks=ticks, time_base=Fraction(1, 1000), rate=Fraction(30), codec=codec, options=options
    )
    path = studio.write(f"clip.{extension}", clip)

    times = [Fraction(ms, 1000) for ms in (0, 9, 11, 25, 199, 201, 219, 400, 501, 899, 901)]

    assert numbers_in(decode_frames(path, times, SIZE)) == [0, 0, 1, 2, 2, 3, 4, 5, 6, 6, 7]


def test_a_rate_that_is_not_told_is_counted(studio: "Studio") -> None:
    path = studio.write("clip.mkv", studio.pictures(counted(), rate=RATE, codec="mpeg4", options={"b": "4000000"}))
    content = path.read_bytes()
    # DefaultDuration becomes void.
    at = content.index(b"\x23\xe3\x83\x84")
    path.write_bytes(content[:at] + b"\xec\x86" + bytes(6) + content[at + 8 :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate is None

    scan = scan_video(path, find_cuts=False)

    assert scan.num_frames == COUNT
    assert abs(scan.duration_seconds - COUNT / RATE) < 1 / RATE
    assert numbers_in(read_all(path)) == list(range(COUNT))


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "avi"])
def test_one_frame_is_a_video(studio: "Studio", extension: str) -> None:
    path = studio.write(f"clip.{extension}", studio.pictures(counted(1), rate=RATE))

    scan = scan_video(path, find_cuts=True)

    assert scan.num_frames == 1
    assert scan.duration_seconds == pytest.approx(1 / RATE, abs=2e-3)
    assert patch_error(read_all(path)) <= 3


def shifted(source: Path, name: str, seconds: Fraction) -> Path:
    """Copy the packets of a video to other times; what comes to lie before 0 is cut off by an edit list."""
    path = source.with_name(name)
    with (
        av.open(str(source)) as read,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as written,
    ):
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            moved = round(seconds / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + moved, packet.dts + moved, copy
            written.mux(packet)
    return path


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_what_an_edit_list_cuts_off_is_not_seen(studio: "Studio", extension: str) -> None:
    source = studio.write(
        "whole.mp4", studio.pictures(counted(75), rate=RATE, options={"crf": "4", "g": "20", "bf": "0"})
    )
    path = shifted(source, f"cut.{extension}", -5 / RATE)
    assert b"elst" in path.read_bytes()

    scan = scan_video(path, find_cuts=False)

    assert (scan.num_frames, scan.start_seconds, scan.duration_seconds) == (70, 0, 70 / RATE)
    assert numbers_in(read_all(path)) == list(range(5, 75))
    # Far into the file, which is found by a seek.
    assert numbers_in(decode_frames(path, [Fraction(101, 50)], SIZE)) == [55]


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_a_late_start_is_kept(studio: "Studio", extension: str) -> None:
    source = studio.write("whole.mp4", studio.pictures(counted(), rate=RATE, options={"crf": "4", "bf": "0"}))
    path = shifted(source, f"late.{extension}", Fraction(2))

    assert scan_video(path, find_cuts=False).start_seconds == 2
    times = [Fraction(0), Fraction(2), 2 + Fraction(7, 50), Fraction(9)]
    assert numbers_in(decode_frames(path, times, SIZE)) == [0, 0, 3, 11]


SOUNDS = [("mp4", "aac"), ("mov", "pcm_s16le"), ("mkv", "flac"), ("avi", "pcm_s16le"), ("webm", "libopus")]


@pytest.mark.parametrize(("extension", "codec"), SOUNDS)
def test_a_flash_and_its_tone_stay_together(studio: "Studio", extension: str, codec: str) -> None:
    pixels = np.zeros((25, 48, 64, 3), np.uint8)
    pixels[10:] = 255
    tone = studio.tone(1000, 1, 48000)
    tone[:, : 48000 * 10 // 25] = 0
    video = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(extension, "libx264")
    options = BEST_VP9 if extension == "webm" else PLAIN
    clip = studio.pictures(pixels, rate=RATE, codec=video, options=options)
    path = studio.write(f"clip.{extension}", clip, studio.track(tone, 48000, codec=codec))
    begin = Fraction(3, 25)

    frames = decode_frames(path, [begin + Fraction(2 * index + 1, 50) for index in range(20)], SIZE)
    sound = decode_audio(path, start_seconds=begin, span_seconds=Fraction(20, 25), rate_hz=48000)

    flash = Fraction(int((frames[:, 24, 32, 1] > 128).argmax()), 25)
    heard = Fraction(int((np.abs(sound[0]) > 0.1).argmax()), 48000)
    assert flash == Fraction(7, 25)
    assert abs(heard - flash) < 1 / RATE
    assert studio.pitch_of(sound[0, 20000:], 48000) == pytest.approx(1000, rel=0.01)


def fielded(count: int, *, top_first: bool) -> np.ndarray:
    """Draw a bar that moves by 3 pixels a field, two fields to a picture."""
    pictures = np.full((count, 48, 64, 3), 30, np.uint8)
    for index in range(count):
        for field in (0, 1):
            left = 4 + 3 * (2 * index + field)
            pictures[index, (field if top_first else 1 - field) :: 2, left : left + 8] = 220
    return pictures


def marked(picture: np.ndarray, order: str, layout: str = "yuv444p") -> VideoFrame:
    """Give a frame that says how it was taken: only a filter can mark one."""
    graph = Graph()
    source = graph.add("buffer", video_size="64x48", pix_fmt=layout, time_base="1/25", pixel_aspect="1/1")
    sink = graph.add("buffersink")
    graph.link_nodes(source, graph.add("setfield", order), sink).configure()
    frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=layout)
    frame.pts = 0
    source.push(frame)
    found = sink.pull()
    assert isinstance(found, VideoFrame)
    return found


FIELDS = [
    ("libx264", "mp4", "yuv420p", {"crf": "1", "flags": "+ilme+ildct"}),
    ("mpeg2video", "mkv", "yuv420p", {"flags": "+ilme+ildct", "b": "9000000"}),
    ("prores_ks", "mov", "yuv422p10le", {"flags": "+ilme+ildct"}),
]


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize(("codec", "extension", "layout", "options"), FIELDS, ids=[cell[0] for cell in FIELDS])
def test_fields_become_whole_frames_at_the_same_times(
    tmp_path: Path, codec: str, extension: str, layout: str, options: dict[str, str], order: str
) -> None:
    pixels = fielded(8, top_first=order == "tff")
    path = tmp_path / f"clip.{extension}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, layout
        for index, picture in enumerate(pixels):
            frame = marked(picture, order, layout)
            frame.pts, frame.time_base = index, 1 / RATE
            output.mux(stream.encode(frame))
        output.mux(stream.encode())

    frames = read_all(path)

    assert scan_video(path, find_cuts=False).num_frames == len(frames) == 8
    for index, frame in enumerate(frames[1:-1], start=1):
        bar = np.flatnonzero(frame[8:40, :, 1].mean(axis=0) > 125)
        assert abs(int(bar[0]) - (4 + 6 * index)) <= 1
        assert abs(len(bar) - 8) <= 1
    # No comb: neighbouring lines are alike.
    assert np.abs(np.diff(frames[1:-1, 8:40].astype(int), axis=1)).mean() < 2
    assert np.abs(np.diff(pixels[1:-1, 8:40].astype(int), axis=1)).mean() > 8


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"crf": "1"}),
        # Marked as interlaced, but H.265 stores fields one by one.
        ("libx265", {"crf": "1", "x265-params": "log-level=none:interlace=tff"}),
    ],
    ids=["libx264", "libx265"],
)
def test_whole_frames_are_left_alone(studio: "Studio", codec: str, options: dict[str, str]) -> None:
    stripes = np.zeros((4, 48, 64, 3), np.uint8)
    stripes[::2, ::2] = stripes[1::2, 1::2] = 255
    clip = studio.pictures(stripes, rate=RATE, codec=codec, pix_fmt="yuv444p", options=options)
    path = studio.write("clip.mp4", clip)

    assert np.abs(read_all(path).astype(int) - stripes).mean() <= 4


def test_whole_frames_among_interlaced_ones_are_left_alone() -> None:
    stripes = np.zeros((6, 48, 64, 3), np.uint8)
    stripes[::2, ::2] = stripes[1::2, 1::2] = 255
    orders = ["prog", "tff", "prog", "prog", "tff", "prog"]
    given = [
        (index / RATE, marked(picture, order))
        for index, (picture, order) in enumerate(zip(stripes, orders, strict=True))
    ]

    found = list(deinterlaced(iter(given)))

    assert [time for time, _ in found] == [time for time, _ in given]
    changed = [
        not np.array_equal(one[1].to_ndarray(), other[1].to_ndarray()) for one, other in zip(given, found, strict=True)
    ]
    assert changed == [order == "tff" for order in orders]


ALPHAS = [
    ("prores_ks", "mov", "yuva444p10le", {"profile": "4", "alpha_bits": "16"}),
    ("libvpx-vp9", "webm", "yuva420p", BEST_VP9),
    ("libvpx-vp9", "mkv", "yuva420p", BEST_VP9),
    ("png", "mov", "rgba", {}),
    ("qtrle", "mov", "argb", {}),
    ("utvideo", "avi", "gbrap", {}),
    ("ffv1", "mkv", "yuva444p10le", {}),
    ("ffv1", "mkv", "ya8", {}),
]


def cutout() -> np.ndarray:
    """Draw a picture `[48, 96, 4]` of one colour: a third of it away, a third half there, a third there."""
    picture = np.empty((48, 96, 4), np.uint8)
    picture[..., :3] = PATCH
    picture[:, :32, 3], picture[:, 32:64, 3], picture[:, 64:, 3] = 0, 128, 255
    return picture


def thirds(frame: np.ndarray) -> np.ndarray:
    """Read the middles of the thirds."""
    return frame[24, [16, 48, 80]].astype(int)


@pytest.mark.parametrize(
    ("codec", "extension", "layout", "options"), ALPHAS, ids=[f"{cell[0]}-{cell[2]}-{cell[1]}" for cell in ALPHAS]
)
def test_transparent_video_lies_on_black(
    tmp_path: Path, codec: str, extension: str, layout: str, options: dict[str, str]
) -> None:
    path = tmp_path / f"cutout.{extension}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 48, layout
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        for index in range(3):
            frame = VideoFrame.from_ndarray(cutout(), format="rgba").reformat(format=layout, dst_color_range=1)
            frame.pts, frame.time_base = index, 1 / RATE
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    colour = (124, 124, 124) if layout == "ya8" else PATCH

    found = thirds(decode_frames(path, [Fraction(1, 25)], FrameSize(96, 48))[0])

    assert np.abs(found - np.outer([0, 128 / 255, 1], colour)).max() <= 3
    assert scan_video(path, find_cuts=True).num_frames == 3


@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_transparent_animations_and_stills_lie_on_black(tmp_path: Path, extension: str) -> None:
    picture = cutout()
    if extension == "gif":
        picture[:, 32:64, 3] = 255
    other = picture.copy()
    other[..., :3] = other[..., 2::-1]
    write_animation(tmp_path / f"moves.{extension}", np.stack([picture, other]))
    Image.fromarray(picture).save(tmp_path / f"still.{extension}", lossless=True)
    half = 1 if extension == "gif" else 128 / 255

    moving = decode_frames(tmp_path / f"moves.{extension}", [Fraction(0), Fraction(6, 100)], FrameSize(96, 48))
    still = decode_image(tmp_path / f"still.{extension}", FrameSize(96, 48))

    assert np.abs(thirds(moving[0]) - np.outer([0, half, 1], PATCH)).max() <= 3
    assert np.abs(thirds(moving[1]) - np.outer([0, half, 1], PATCH[::-1])).max() <= 3
    assert np.abs(thirds(still) - np.outer([0, half, 1], PATCH)).max() <= 3


ODD = [
    ("libx264", "mp4", "yuv444p", PLAIN),
    ("libvpx-vp9", "webm", "yuv420p", BEST_VP9),
    ("mpeg4", "mkv", "yuv420p", {"b": "9000000", "qmin": "1", "qmax": "1"}),
    ("ffv1", "mkv", "yuv422p10le", {}),
]


@pytest.mark.parametrize(("codec", "extension", "layout", "options"), ODD, ids=[cell[0] for cell in ODD])
@pytest.mark.parametrize("size", [FrameSize(63, 47), FrameSize(65, 34)], ids=str)
def test_odd_sizes_are_read_whole(
    studio: "Studio", codec: str, extension: str, layout: str, options: dict[str, str], size: FrameSize
) -> None:
    clip = studio.pictures(counted(3, size), rate=RATE, codec=codec, pix_fmt=layout, options=options)
    path = studio.write(f"odd.{extension}", clip)

    assert scan_video(path, find_cuts=True).size == size
    frames = read_all(path, size)
    assert numbers_in(frames) == [0, 1, 2]
    assert patch_error(frames) <= 3


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_anamorphic_and_turned_pictures_stand_upright(studio: "Studio", extension: str, rotation: int) -> None:
    clip = studio.pictures(
        np.rot90(counted(3), -rotation // 90, axes=(1, 2)).copy(),
        rate=RATE,
        rotation=rotation,
        pixel_aspect=Fraction(3, 4) if rotation % 180 else Fraction(4, 3),
    )
    path = studio.write(f"turned.{extension}", clip)

    scan = scan_video(path, find_cuts=True)

    upright = FrameSize(64, 36) if rotation % 180 else FrameSize(85, 48)
    assert scan.size == upright
    frames = read_all(path, upright)
    assert numbers_in(frames) == [0, 1, 2]
    assert patch_error(frames) <= 3


def test_of_several_tracks_the_best_is_taken_and_told(tmp_path: Path) -> None:
    path = tmp_path / "several.mp4"
    with av.open(str(path), "w") as output:
        streams = []
        for size in (FrameSize(32, 24), SIZE):
            stream = output.add_stream("libx264", rate=25, options=PLAIN)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
            stream.disposition = Disposition.default if size == SIZE else Disposition(0)
            streams.append((stream, size))
        for stream, size in streams:
            for index, picture in enumerate(counted(3, size)):
                frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = index, 1 / RATE
                output.mux(stream.encode(frame))
            output.mux(stream.encode())

    scan = scan_video(path, find_cuts=False)

    assert scan.size == SIZE
    assert scan.choice == "has 2 video tracks: track 1 (h264, 64x48) is taken, and not track 0 (h264, 32x24)"


def test_one_track_is_not_spoken_of(studio: "Studio") -> None:
    path = studio.write("clip.mp4", studio.pictures(counted(3)), studio.track(studio.tone(440, 0.1, 16000), 16000))
    sound = scan_audio(path, rate_hz=16000)

    assert sound is not None
    assert (scan_video(path, find_cuts=False).choice, sound.choice) == (None, None)


def test_pictures_alone_and_sound_alone_are_told_apart(studio: "Studio") -> None:
    silent = studio.write("silent.webm", studio.pictures(counted(3), codec="libvpx-vp9", options=BEST_VP9))
    sound = studio.write("sound.webm", track=studio.track(studio.tone(440, 0.2, 48000), 48000, codec="libopus"))

    assert scan_audio(silent, rate_hz=16000) is None
    with pytest.raises(MediaError, match=r"sound\.webm has no video track; it holds: audio"):
        scan_video(sound, find_cuts=False)


def test_a_codec_without_a_decoder_is_refused_by_name(studio: "Studio") -> None:
    path = studio.write("odd.mkv", studio.pictures(counted(3)))
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))

    with pytest.raises(MediaError, match=r"odd\.mkv has a video track in a codec that cannot be decoded"):
        scan_video(path, find_cuts=False)


@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_an_animation_that_was_cut_short_is_refused(tmp_path: Path, extension: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)
    path = write_animation(tmp_path / f"clip.{extension}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])

    with pytest.raises(MediaError, match=rf"clip\.{extension} (is cut short|cannot be decoded)"):
        scan_video(path, find_cuts=False)


def test_a_gif_that_lacks_its_last_pictures_is_refused(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "clip.gif", counted())
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\x21\xf9\x04")])

    with pytest.raises(MediaError, match=r"clip\.gif is cut short: it does not end as a GIF does"):
        scan_video(path, find_cuts=False)


@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_an_animation_is_no_still_and_a_still_no_animation(tmp_path: Path, extension: str) -> None:
    moves = write_animation(tmp_path / f"moves.{extension}", counted(3))

    with pytest.raises(MediaError, match=rf"moves\.{extension} is an animation, not a still"):
        scan_image(moves)
    Image.fromarray(counted(1)[0]).save(tmp_path / "still.webp")
    with pytest.raises(MediaError, match=r"still\.webp is a still image, not an animation"):
        scan_video(tmp_path / "still.webp", find_cuts=False)
