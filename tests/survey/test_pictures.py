"""What a few frames of a span tell."""

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_trainer.artifacts import Footage, MediaKind, SourceFile
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.survey.pictures import cell_means, look_at

Film = Callable[..., tuple[Footage, FrameSize]]


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(jpeg)))


def box_at(lefts: list[int], width: int = 96, height: int = 48) -> np.ndarray:
    """Draw a bright box of 8 x 8 pixels at each of some places, on grey."""
    frames = np.full((len(lefts), height, width, 3), 90, np.uint8)
    for frame, left in zip(frames, lefts, strict=True):
        frame[20:28, left : left + 8] = (250, 60, 60)
    return frames


def test_thumbnails_are_the_first_middle_and_last_frame_of_the_span_after_the_crop(film: Film) -> None:
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    frames = np.full((25, 48, 96, 3), 255, np.uint8)
    frames[:, :, 22:74] = colours[np.array([0] * 8 + [1] * 9 + [2] * 8)][:, None, None]
    footage, own = film("x", frames, FrameSize(32, 32))

    thumbnails = [opened(jpeg) for jpeg in look_at(footage, own).thumbnails]

    assert [max(each.shape) for each in thumbnails] == [208] * 3
    assert [int(each.mean(axis=(0, 1)).argmax()) for each in thumbnails] == [0, 1, 2]
    assert all(each.min(axis=2).max() < 60 for each in thumbnails), "the white edges are cut off"


def test_what_moves_is_told_inside_and_outside_of_the_crop(film: Film) -> None:
    square = FrameSize(32, 32)
    inside = look_at(*film("inside", box_at([*range(32, 56)]), square))
    outside = look_at(*film("outside", box_at([*range(12), *range(12)]), square))
    nothing = look_at(*film("nothing", box_at([40] * 24), square))

    assert inside.lost == 0
    assert inside.moving == pytest.approx(8 * 31 / 48**2, rel=0.3)
    assert (outside.moving, outside.lost) == (0, 1)
    assert (nothing.moving, nothing.lost) == (0, None)
    assert inside.cut_off == outside.cut_off == pytest.approx(0.5, abs=0.01)


def test_an_image_is_one_thumbnail_without_motion(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (64, 32), "red").save(path)
    source = SourceFile("x.png", path, "0", MediaKind.IMAGE)
    footage = Footage(source, Fraction(0), Fraction(0), ClipShape(1, FrameSize(32, 32), Fraction(24)))

    glance = look_at(footage, FrameSize(64, 32))

    assert (len(glance.thumbnails), len(glance.prints), glance.moving, glance.lost) == (1, 1, None, None)
    assert glance.cut_off == pytest.approx(0.5)


def test_a_panorama_stays_small(film: Film) -> None:
    footage, own = film("x", np.zeros((2, 16, 1600, 3), np.uint8), FrameSize(64, 64))

    (thumbnail, *_) = look_at(footage, own).thumbnails

    assert max(opened(thumbnail).shape) == 10


def test_a_file_that_is_gone_is_an_error_that_names_it(film: Film) -> None:
    footage, own = film("x", box_at([0, 1]), FrameSize(32, 32))
    footage.source.path.unlink()

    with pytest.raises(MediaError, match=r"x\.mp4 does not exist"):
        look_at(footage, own)


def test_cells_that_no_pixel_fills_share_it() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)

    assert cell_means(picture, 1, 1)[0, 0, 0] == 2.5
    np.testing.assert_allclose(cell_means(picture, 4, 3)[:, 0, 0], [0, 0, 3, 3])
    np.testing.assert_allclose(cell_means(picture, 2, 2)[0, :, 0], [1 / 3, 5 / 3])
