"""Still images: orientation, transparency, shape and refusals."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from PIL import Image, ImageCms

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


PATCH = (200, 100, 50)
FORMATS = ["png", "jpg", "webp", "bmp", "tif", "tiff", "gif"]


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_back_its_colours_and_size(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"still.{extension.upper()}"
    Image.new("RGB", (63, 47), PATCH).save(path, quality=100)

    assert scan_image(path) == FrameSize(63, 47)
    assert np.abs(decode_image(path, FrameSize(63, 47)).astype(int) - PATCH).max() <= 3


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_stands_upright_in_every_format(tmp_path: Path, orientation: int, extension: str) -> None:
    quarters = np.zeros((32, 64, 3), np.uint8)
    quarters[:16, :32], quarters[:16, 32:], quarters[16:, :32], quarters[16:, 32:] = 250, 170, 90, 10
    # What undoes the turn that a viewer makes.
    undo = {
        1: lambda picture: picture,
        2: np.fliplr,
        3: lambda picture: np.rot90(picture, 2),
        4: np.flipud,
        5: lambda picture: picture.transpose(1, 0, 2),
        6: np.rot90,
        7: lambda picture: np.rot90(picture.transpose(1, 0, 2), 2),
        8: lambda picture: np.rot90(picture, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation](quarters))).save(tmp_path / f"x.{extension}", exif=exif)

    assert scan_image(tmp_path / f"x.{extension}") == FrameSize(64, 32)
    picture = decode_image(tmp_path / f"x.{extension}", FrameSize(64, 32)).astype(int)
    assert np.abs(picture[[8, 8, 24, 24], [16, 48, 16, 48]].T - [250, 170, 90, 10]).max() <= 3


@pytest.mark.parametrize("extension", ["png", "webp", "tif"])
def test_half_transparent_pixels_are_half_black(tmp_path: Path, extension: str) -> None:
    save(tmp_path / f"glass.{extension}", np.full((16, 16, 4), (*PATCH, 128), np.uint8))

    picture = decode_image(tmp_path / f"glass.{extension}", FrameSize(16, 16))

    assert np.abs(picture.astype(int) - np.array(PATCH) * 128 / 255).max() <= 3


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_the_inks_of_print_become_colours(tmp_path: Path, extension: str) -> None:
    # No cyan, half of magenta, three quarters of yellow, a fifth of black.
    Image.new("CMYK", (16, 16), (0, 128, 192, 51)).save(tmp_path / f"print.{extension}", quality=100)

    picture = decode_image(tmp_path / f"print.{extension}", FrameSize(16, 16)).astype(int)

    expected = [204 * (255 - ink) / 255 for ink in (0, 128, 192)]
    assert np.abs(picture - expected).max() <= 3


def test_colours_of_another_profile_become_srgb(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # A profile in which what is called red is blue, and the reverse.
    other = profile.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    assert other != profile
    for mode in ("RGB", "RGBA"):
        Image.new(mode, (16, 16), PATCH).save(tmp_path / f"{mode}.png", icc_profile=other)
        picture = decode_image(tmp_path / f"{mode}.png", FrameSize(16, 16)).astype(int)
        assert np.abs(picture - PATCH[::-1]).max() <= 3
    Image.new("RGB", (16, 16), PATCH).save(tmp_path / "damaged.png", icc_profile=b"no profile")
    assert np.abs(decode_image(tmp_path / "damaged.png", FrameSize(16, 16)).astype(int) - PATCH).max() == 0


@pytest.mark.parametrize(("codec", "layout"), [("png", "rgb48be"), ("png", "rgba64be"), ("tiff", "rgb48le")])
def test_sixteen_bits_of_colour_are_scaled(tmp_path: Path, codec: str, layout: str) -> None:
    # Pillow writes no such file.
    context = VideoCodecContext.create(codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width = context.height = 16
    context.pix_fmt, context.time_base = layout, Fraction(1)
    deep = np.full((16, 16, 4), (*(level * 257 for level in PATCH), 65535), np.uint16)
    samples = deep if "rgba" in layout else np.ascontiguousarray(deep[..., :3])
    frame = VideoFrame.from_ndarray(samples, format=layout)
    frame.pts = 0
    path = tmp_path / f"deep.{codec}"
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))

    assert np.abs(decode_image(path, FrameSize(16, 16)).astype(int) - PATCH).max() <= 1


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, extension: str) -> None:
    grey = np.broadcast_to(np.array([0, 65535 // 2, 65535], np.uint16).repeat(16), (16, 48)).copy()
    save(tmp_path / f"deep.{extension}", grey)

    picture = decode_image(tmp_path / f"deep.{extension}", FrameSize(48, 16))

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


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_more_bits_than_sixteen_are_refused_by_name(tmp_path: Path, kind: type) -> None:
    save(tmp_path / "deep.tif", np.ones((8, 8), kind))

    with pytest.raises(MediaError, match=r"deep\.tif has 32 bits per channel, of which white is not known"):
        scan_image(tmp_path / "deep.tif")


def test_what_only_pillow_calls_an_image_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "script.eps")
    (tmp_path / "script.eps").rename(tmp_path / "script.png")

    with pytest.raises(MediaError, match=r"script\.png is not an image, whatever its extension says"):
        scan_image(tmp_path / "script.png")
