"""Colours, orientation and shape of decoded pictures."""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from av.video.reformatter import Colorspace

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import decode_frames, scan_video

if TYPE_CHECKING:
    from tests.media.conftest import Studio

COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 100, 50)])
RED, GREEN, BLUE, WHITE = COLOURS[:4]


def patches() -> np.ndarray:
    """Draw one picture of 16-pixel columns in `COLOURS`."""
    return np.broadcast_to(COLOURS.astype(np.uint8).repeat(16, axis=0), (2, 32, 112, 3)).copy()


def corners(width: int = 64, height: int = 32) -> np.ndarray:
    """Draw one picture with red, green, blue and white quarters: top left, top right, bottom left, bottom right."""
    picture = np.empty((2, height, width, 3), np.uint8)
    for index, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        rows = slice(0, height // 2) if index < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if index % 2 == 0 else slice(width // 2, width)
        picture[:, rows, columns] = colour
    return picture


def read_corners(frame: np.ndarray) -> list[str]:
    """Name the colours of the quarters, in the same order."""
    rows, columns = frame.shape[0] // 4, frame.shape[1] // 4
    found = [frame[row, column] for row in (rows, 3 * rows) for column in (columns, 3 * columns)]
    names = ("red", "green", "blue", "white")
    return [names[int(np.abs(COLOURS[:4] - pixel).sum(axis=1).argmin())] for pixel in found]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601], ids=["bt709", "bt601"])
def test_colours_survive_every_matrix_range_and_depth(
    studio: "Studio", matrix: Colorspace, full_range: bool, pix_fmt: str
) -> None:
    clip = studio.pictures(patches(), matrix=matrix, full_range=full_range, pix_fmt=pix_fmt, options={"crf": "1"})
    path = studio.write("patches.mp4", clip)

    frame = decode_frames(path, [Fraction(0)], FrameSize(112, 32))[0]

    centres = frame[16, np.arange(7) * 16 + 8].astype(int)
    assert np.abs(centres - COLOURS).max() <= 3


def test_small_video_without_tags_is_taken_as_bt601(studio: "Studio") -> None:
    clip = studio.pictures(patches(), matrix=Colorspace.ITU601, tagged=False, options={"crf": "1"})
    path = studio.write("patches.mp4", clip)

    frame = decode_frames(path, [Fraction(0)], FrameSize(112, 32))[0]

    assert np.abs(frame[16, np.arange(7) * 16 + 8].astype(int) - COLOURS).max() <= 3


def test_large_video_without_tags_is_taken_as_bt709(studio: "Studio") -> None:
    pixels = np.broadcast_to(patches()[:1].repeat(23, axis=1), (1, 736, 112, 3))
    path = studio.write("patches.mp4", studio.pictures(pixels.copy(), tagged=False, options={"crf": "1"}))

    frame = decode_frames(path, [Fraction(0)], FrameSize(112, 736))[0]

    assert np.abs(frame[300, np.arange(7) * 16 + 8].astype(int) - COLOURS).max() <= 3


@pytest.mark.parametrize(
    ("rotation", "mirrored", "expected"),
    [
        (0, False, ["red", "green", "blue", "white"]),
        (90, False, ["green", "white", "red", "blue"]),
        (180, False, ["white", "blue", "green", "red"]),
        (-90, False, ["blue", "red", "white", "green"]),
        (0, True, ["green", "red", "white", "blue"]),
        (90, True, ["white", "green", "blue", "red"]),
    ],
)
def test_turned_video_stands_upright(studio: "Studio", rotation: int, mirrored: bool, expected: list[str]) -> None:
    path = studio.write("turned.mp4", studio.pictures(corners(), rotation=rotation, mirrored=mirrored))
    size = FrameSize(32, 64) if rotation in (90, -90) else FrameSize(64, 32)

    assert scan_video(path, find_cuts=False).size == size
    assert read_corners(decode_frames(path, [Fraction(0)], size)[0]) == expected


def test_video_turned_by_an_odd_angle_is_refused(studio: "Studio") -> None:
    path = studio.write("tilted.mp4", studio.pictures(corners(), rotation=30))

    with pytest.raises(MediaError, match=r"tilted\.mp4 is turned by 30\.0 degrees; only multiples of 90"):
        scan_video(path, find_cuts=False)


def test_wide_stored_pixels_become_square(studio: "Studio") -> None:
    path = studio.write("anamorphic.mp4", studio.pictures(corners(), pixel_aspect=Fraction(3, 2)))

    assert scan_video(path, find_cuts=False).size == FrameSize(96, 32)
    assert read_corners(decode_frames(path, [Fraction(0)], FrameSize(96, 32))[0]) == ["red", "green", "blue", "white"]


def test_wide_stored_pixels_that_are_also_turned_become_square(studio: "Studio") -> None:
    path = studio.write("anamorphic.mp4", studio.pictures(corners(), pixel_aspect=Fraction(3, 2), rotation=90))

    assert scan_video(path, find_cuts=False).size == FrameSize(32, 96)
    assert read_corners(decode_frames(path, [Fraction(0)], FrameSize(32, 96))[0]) == ["green", "white", "red", "blue"]


@pytest.mark.parametrize("rotation", [0, 90])
def test_the_middle_is_cut_out_of_another_shape(studio: "Studio", rotation: int) -> None:
    stripes = np.zeros((1, 32, 96, 3), np.uint8)
    stripes[:, :, :32], stripes[:, :, 32:64], stripes[:, :, 64:] = RED, GREEN, BLUE
    path = studio.write("stripes.mp4", studio.pictures(stripes, rotation=rotation))

    frame = decode_frames(path, [Fraction(0)], FrameSize(32, 32))[0]

    assert np.abs(frame[4:-4, 4:-4].astype(int) - GREEN).max() <= 6
