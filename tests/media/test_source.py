"""Which pictures of a file a clip is given: its crop, a mask's crop, and images that fill frames."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ltx_trainer.artifacts import Footage, MediaKind, SourceFile
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media import read_mask, read_pictures

if TYPE_CHECKING:
    from tests.media.conftest import Studio

CANVAS = FrameSize(96, 64)
"""Of a clip that loses 16 columns on each side at 64x64."""
SHAPE = ClipShape(3, FrameSize(64, 64), Fraction(24))


def footage_of(path: Path, canvas: FrameSize | None, kind: MediaKind = MediaKind.VIDEO) -> Footage:
    source = SourceFile(path.name, path, "0" * 64, kind)
    span = Fraction(0) if kind is MediaKind.IMAGE else SHAPE.duration_seconds
    return Footage(source, Fraction(0), span, SHAPE, canvas)


def striped(width: int, height: int) -> np.ndarray:
    """Draw a picture that is white in the first third of its width and in the last quarter of its height."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 3] = picture[height - height // 4 :] = 255
    return picture


MASK_KINDS = [MediaKind.IMAGE, MediaKind.VIDEO]


def expected() -> np.ndarray:
    """Draw the same stripes on the clip's crop: columns 16 to 80 of 96, all rows."""
    return striped(CANVAS.width, CANVAS.height)[:, 16:80, 0] > 0


@pytest.mark.parametrize(("width", "height"), [(48, 48), (36, 128), (192, 64), (96, 64)])
def test_a_mask_image_of_any_size_loses_what_its_clip_loses(tmp_path: Path, width: int, height: int) -> None:
    Image.fromarray(striped(width, height)).save(tmp_path / "mask.png")

    mask = read_mask(footage_of(tmp_path / "mask.png", CANVAS, MediaKind.IMAGE))

    assert mask.shape == (3, 64, 64)
    np.testing.assert_array_equal(mask, np.broadcast_to(expected(), mask.shape))


@pytest.mark.parametrize(("width", "height"), [(48, 48), (36, 128), (192, 64), (96, 64)])
def test_a_mask_video_of_any_size_loses_what_its_clip_loses(studio: "Studio", width: int, height: int) -> None:
    pixels = np.broadcast_to(striped(width, height), (3, height, width, 3)).copy()
    path = studio.write("mask.mp4", studio.pictures(pixels, pix_fmt="yuv444p", options={"crf": "1"}))

    mask = read_mask(footage_of(path, CANVAS))

    np.testing.assert_array_equal(mask, np.broadcast_to(expected(), mask.shape))


def test_a_mask_that_is_stored_on_its_side_is_stretched_upright(studio: "Studio") -> None:
    upright = np.broadcast_to(striped(36, 48), (3, 48, 36, 3))
    path = studio.write("mask.mp4", studio.pictures(np.rot90(upright, -1, (1, 2)).copy(), rotation=90))

    mask = read_mask(footage_of(path, CANVAS))

    assert (mask == expected()).mean() > 0.98


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_white_line_is_not_lost_however_far_its_mask_is_scaled_down(
    tmp_path: Path, studio: "Studio", kind: MediaKind
) -> None:
    pixels = np.zeros((3, 256, 384, 3), np.uint8)
    pixels[:, 41] = pixels[:, :, 202] = 255
    if kind is MediaKind.IMAGE:
        path = tmp_path / "mask.png"
        Image.fromarray(pixels[0]).save(path)
    else:
        path = studio.write("mask.mp4", studio.pictures(pixels, pix_fmt="yuv444p", options={"crf": "1"}))

    mask = read_mask(footage_of(path, CANVAS, kind))

    line = np.zeros((64, 64), np.bool_)
    line[41 // 4] = line[:, 202 // 4 - 16] = True
    np.testing.assert_array_equal(mask, np.broadcast_to(line, mask.shape))


@pytest.mark.parametrize(
    ("grey", "is_white"),
    [((127, 127, 127), False), ((128, 128, 128), True), ((255, 128, 0), False), ((255, 129, 0), True)],
)
def test_grey_is_white_from_half_on(tmp_path: Path, grey: tuple[int, int, int], is_white: bool) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[7, 20] = grey
    Image.fromarray(pixels).save(tmp_path / "mask.png")

    mask = read_mask(footage_of(tmp_path / "mask.png", CANVAS, MediaKind.IMAGE))

    assert bool(mask[0, 7, 4]) is is_white
    assert mask.sum() == 3 * is_white


def test_pictures_keep_their_own_shape_without_a_canvas(tmp_path: Path) -> None:
    Image.fromarray(striped(48, 48)).save(tmp_path / "still.png")

    pictures = read_pictures(footage_of(tmp_path / "still.png", None, MediaKind.IMAGE))

    assert ((pictures >= 128) == (striped(64, 64) >= 128)).mean() > 0.98


def test_a_span_of_no_length_is_the_frame_at_its_begin(studio: "Studio") -> None:
    path = studio.write("clip.mp4", studio.pictures(studio.numbered(5), rate=Fraction(60)))
    shape = replace(SHAPE, num_frames=1, size=FrameSize(64, 32))
    first = replace(footage_of(path, None), span_seconds=Fraction(0), shape=shape)

    assert studio.read_numbers(read_pictures(first)) == [0]
    assert studio.read_numbers(read_pictures(replace(first, start_seconds=Fraction(2, 60)))) == [2]


def test_what_is_read_of_an_image_can_be_written_to(tmp_path: Path) -> None:
    Image.fromarray(striped(64, 64)).save(tmp_path / "still.png")
    pictures = read_pictures(replace(footage_of(tmp_path / "still.png", None, MediaKind.IMAGE)))
    pictures[0] = 7
    assert (pictures[1:] != 7).any()
