"""The images of validation items, found by whatever finds them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from ltx_trainer.config import Request
from ltx_trainer.errors import ConfigError, MediaError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.prepare import prepare_previews

SHAPE = ClipShape(9, FrameSize(64, 64), Fraction(24))


def request_of(*images: str | None) -> Request:
    items = [{"prompt": "a fox", "image_url": image} for image in images]
    return Request.model_validate({"training_data_url": "data.zip", "validation": items})


def test_every_image_is_found_with_the_name_of_its_field(make_image: Callable[[str], Path]) -> None:
    found: list[tuple[str, str]] = []
    image = make_image("a")

    def find(source: str, *, what: str) -> Path:
        found.append((source, what))
        return image

    first, second, third = prepare_previews(request_of("https://host/a.png", None, "b.png"), SHAPE, find)

    assert found == [
        ("https://host/a.png", "input.validation.0.image_url"),
        ("b.png", "input.validation.2.image_url"),
    ]
    assert first.first_frame is not None
    assert first.first_frame.source.path == image
    assert second.first_frame is None
    assert third.first_frame == first.first_frame


def test_an_image_that_is_not_there_is_refused_by_its_field(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"input\.validation\.1\.image_url: .*absent\.png is not a file"):
        prepare_previews(request_of(None, "absent.png"), SHAPE, lambda source, *, what: tmp_path / source)  # noqa: ARG005


def test_a_file_that_is_no_image_is_refused_by_its_field(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(MediaError, match=r"input\.validation\.0\.image_url: a\.png is not an image"):
        prepare_previews(request_of("a.png"), SHAPE, lambda source, *, what: tmp_path / source)  # noqa: ARG005
