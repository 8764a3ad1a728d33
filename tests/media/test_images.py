"""Still images: orientation, transparency, shape and refusals."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import decode_image, scan_image


def save(path: Path, pixels: np.ndarray, exif: Image.Exif | None = None) -> None:
    Image.fromarray(pixels).save(path, **({} if exif is None else {"exif": exif, "quality": 95}))


def halves() -> np.ndarray:
    """Draw a picture whose left half is red and right half is blue."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 255
    return pixels


def test_a_picture_of_the_right_size_is_given_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    save(tmp_path / "still.png", pixels)

    assert scan_image(tmp_path / "still.png") == FrameSize(64, 32)
    np.testing.assert_array_equal(decode_image(tmp_path / "still.png", FrameSize(64, 32)), pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "phone.jpg", halves(), exif=exif)

    assert scan_image(tmp_path / "phone.jpg") == FrameSize(32, 64)
    picture = decode_image(tmp_path / "phone.jpg", FrameSize(32, 64)).astype(int)
    # Orientation 6 is turned a quarter clockwise: what was left is now on top.
    assert np.abs(picture[8, 16] - (255, 0, 0)).max() < 8
    assert np.abs(picture[56, 16] - (0, 0, 255)).max() < 8


def test_the_middle_is_cut_out_of_another_shape(tmp_path: Path) -> None:
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64, 1] = 255
    save(tmp_path / "stripes.png", pixels)

    picture = decode_image(tmp_path / "stripes.png", FrameSize(64, 64))

    assert picture.shape == (64, 64, 3)
    np.testing.assert_array_equal(picture[4:-4, 4:-4], np.broadcast_to([0, 255, 0], (56, 56, 3)))


def test_transparency_lies_on_black(tmp_path: Path) -> None:
    pixels = np.full((16, 32, 4), 200, np.uint8)
    pixels[:, :16, 3] = 0
    pixels[:, 16:, 3] = 255
    save(tmp_path / "cutout.png", pixels)

    picture = decode_image(tmp_path / "cutout.png", FrameSize(32, 16))

    assert not picture[:, :12].any()
    assert (picture[:, 20:] == 200).all()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "still.jpg" if mode == "CMYK" else "still.png"
    Image.new("RGB", (32, 32), "white").convert(mode).save(tmp_path / name)

    assert (decode_image(tmp_path / name, FrameSize(32, 32)) > 250).all()


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    grey = np.broadcast_to(np.array([0, 65535 // 2, 65535], np.uint16).repeat(16), (16, 48)).copy()
    save(tmp_path / "deep.png", grey)

    picture = decode_image(tmp_path / "deep.png", FrameSize(48, 16))

    assert [int(picture[8, column, 0]) for column in (2, 24, 45)] == [0, 127, 255]


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture", encoding="utf-8")
    (tmp_path / "empty.png").touch()
    save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])

    with pytest.raises(MediaError, match=r"text\.png is not an image, whatever its extension says"):
        scan_image(tmp_path / "text.png")
    with pytest.raises(MediaError, match=r"empty\.png is empty: 0 bytes"):
        scan_image(tmp_path / "empty.png")
    with pytest.raises(MediaError, match=r"half\.png cannot be decoded"):
        scan_image(tmp_path / "half.png")
    with pytest.raises(MediaError, match=r"absent\.png does not exist"):
        decode_image(tmp_path / "absent.png", FrameSize(8, 8))
