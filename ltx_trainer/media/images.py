"""Reads still images: upright, without transparency, cropped to size; and writes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from ltx_trainer.atomic import whole_file
from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize, cover_crop
from ltx_trainer.media.picture import white_within

# Formats that only hold pictures; Pillow reads some others by running programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_ANIMATED = frozenset({"GIF", "WEBP"})
_PROFILED = frozenset({"L", "RGB", "RGBA", "CMYK"})


def scan_image(path: Path) -> FrameSize:
    """Decode an image and give its size, turned as its EXIF data says.

    Raises:
        MediaError: The file is missing, empty, no still image, damaged or too large.
    """
    with _opened_upright(path) as image:
        return FrameSize(*image.size)


def decode_image(path: Path, size: FrameSize, *, canvas: FrameSize | None = None) -> np.ndarray:
    """Decode an image, upright and on black where it is transparent, scaled to cover `size` and cropped to its middle.

    Colours that have a profile are converted to sRGB.

    Args:
        path: An image.
        size: Size of the result.
        canvas: Size that the image is stretched to before it is cropped; None is its own.

    Returns:
        RGB pixels `[height, width, 3]`, uint8.

    Raises:
        MediaError: As in `scan_image`.
    """
    with _opened_upright(path) as image:
        crop = cover_crop(canvas or FrameSize(*image.size), size)
        scaled = _on_black(image).resize((crop.scaled.width, crop.scaled.height), Image.Resampling.BICUBIC)
        box = (crop.left, crop.top, crop.left + size.width, crop.top + size.height)
        return np.asarray(scaled.crop(box))


def image_white(path: Path, size: FrameSize, *, canvas: FrameSize | None = None) -> np.ndarray:
    """Tell which pixels `[height, width]` of an image, cut as in `decode_image`, hold any that is white.

    Raises:
        MediaError: As in `scan_image`.
    """
    with _opened_upright(path) as image:
        crop = cover_crop(canvas or FrameSize(*image.size), size)
        return white_within(np.asarray(_on_black(image)), crop, size)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write RGB pixels `[height, width, 3]`, uint8, as a PNG that is whole or absent.

    Raises:
        OutOfResources: The disk is full.
    """
    with whole_file(path) as beside:
        Image.fromarray(pixels).save(beside, "PNG")


def resized(pixels: np.ndarray, size: FrameSize) -> np.ndarray:
    """Scale RGB pixels `[height, width, 3]`, uint8, to the means of what each new pixel covers."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size.width, size.height), Image.Resampling.BOX))


def jpeg_bytes(pixels: np.ndarray, *, quality: int) -> bytes:
    """Compress RGB pixels `[height, width, 3]`, uint8, as a JPEG.

    Args:
        pixels: The picture.
        quality: 1 is the worst, 95 the best.
    """
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Open a file by Pillow, as stored; what Pillow raises inside the block becomes ours.

    Raises:
        MediaError: The file is missing, empty, no image, damaged or too large.
    """
    if not path.is_file():
        raise MediaError(f"{path.name} does not exist.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path.name} is empty: 0 bytes.")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except Image.UnidentifiedImageError as error:
        raise MediaError(
            f"{path.name} is not an image, whatever its extension says. Export it as PNG or JPEG."
        ) from error
    except (EOFError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path.name} cannot be decoded: {error}. Export it again as PNG or JPEG.") from error


@contextmanager
def _opened_upright(path: Path) -> Iterator[Image.Image]:
    with opened_image(path) as image:
        if _moves(image):
            raise MediaError(f"{path.name} is an animation, not a still. Use it as a video, or export one picture.")
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise MediaError(
                f"{path.name} has 32 bits per channel, of which white is not known. Export it with 8 or 16."
            )
        upright = ImageOps.exif_transpose(image)
        upright.load()
    yield upright


def _moves(image: Image.Image) -> bool:
    # Pillow also counts the pages of a TIFF, and the second picture that a telephone hides in a JPEG.
    return image.format in _ANIMATED and getattr(image, "is_animated", False)


def _on_black(image: Image.Image) -> Image.Image:
    """Convert any image to RGB."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    image = _in_srgb(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colours.size, "black"), colours).convert("RGB")


def _in_srgb(image: Image.Image) -> Image.Image:
    """Convert colours of another profile, as those of telephones and of print are; a damaged profile says nothing."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    transparent = image.has_transparency_data
    if image.mode not in _PROFILED:
        image = image.convert("RGBA" if transparent else "RGB")
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = "RGBA" if transparent else "RGB"
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError):
        return image


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion clips it."""
    grey = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
