"""Previews that are given an image: where it stands, and that it is seen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from ltx_trainer.artifacts import CachedSet, Role
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings
from ltx_trainer.models import ModelFacts
from ltx_trainer.models.family import Family, VideoCodec
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.models.ltx2 import Ltx2Family
from ltx_trainer.validate import Showing, sampling_of
from tests.rendering import render_previews

CPU = torch.device("cpu")
PROMPT = "clip number 1"


class Watched(VideoCodec):
    """The real codec, which takes down what it decodes."""

    def __init__(self, codec: VideoCodec, decoded: list[Tensor]) -> None:
        self._codec = codec
        self._decoded = decoded

    def encode(self, frames: Tensor) -> Tensor:
        return self._codec.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        self._decoded.append(latents.clone())
        return self._codec.decode(latents)


class WatchedFamily(Ltx2Family):
    """The real family, with every decoded latent taken down."""

    def __init__(self, facts: ModelFacts) -> None:
        super().__init__(facts)
        self.decoded: list[Tensor] = []

    @contextmanager
    def video_codec(self, device: torch.device) -> Iterator[VideoCodec]:
        with super().video_codec(device) as codec:
            yield Watched(codec, self.decoded)


@pytest.fixture
def adapted(family: Family) -> Iterator[nn.Module]:
    with family.transformer(CPU, torch.float32) as transformer:
        generator = torch.Generator().manual_seed(0)
        attach_lora(transformer, family.lora_modules(["attn1"]), rank=8, alpha=8, dropout=0, generator=generator)
        yield transformer


@pytest.fixture
def settings(load: Callable[..., Settings], tmp_path: Path) -> Settings:
    """Ask for one prompt twice, with an image of another colour."""
    items = []
    for color in ("red", "blue"):
        path = tmp_path / f"{color}.png"
        Image.new("RGB", (80, 64), color).save(path)
        items.append(f"{{prompt: {PROMPT}, image_url: {path}}}")
    return load("endpoint=fal-ai/ltx23-trainer-v2/i2v", f"input.validation=[{', '.join(items)}]")


def test_an_image_stands_untouched_in_the_first_frame_of_its_preview_and_changes_the_others(
    settings: Settings,
    load: Callable[..., Settings],
    fill: Callable[[Settings], CachedSet],
    adapted: nn.Module,
    facts: ModelFacts,
    tmp_path: Path,
) -> None:
    family = WatchedFamily(facts)
    with_image, without = fill(settings), fill(load())
    stills = [load_file(item.media.video[Role.START])["latents"] for item in with_image.previews]
    shape = with_image.previews[0].shape
    assert shape is not None
    terms = Terms(shape, shape.duration_seconds)

    files = []
    for name, cached in (("with", with_image), ("without", without)):
        sampling = sampling_of(settings, family)
        render = render_previews(
            family,
            adapted,
            cached,
            terms,
            sampling,
            tmp_path / name,
            step=0,
            base="miniature",
            showing=Showing(beside_input=False, composite=False),
        )
        files += [path.read_bytes() for path in render.items]

    red, blue, free = family.decoded
    assert not torch.equal(*stills)
    assert torch.equal(red[:, :1], stills[0])
    assert torch.equal(blue[:, :1], stills[1])
    assert not any(torch.equal(free[:, :1], still) for still in stills)
    for one, other in ((red, blue), (red, free), (blue, free)):
        assert not torch.allclose(one[:, 1:], other[:, 1:], atol=1e-4)
    assert len(set(files)) == 3


def test_another_image_is_rendered_again_in_the_same_folder(
    settings: Settings, fill: Callable[[Settings], CachedSet], adapted: nn.Module, facts: ModelFacts, tmp_path: Path
) -> None:
    family = WatchedFamily(facts)
    image = Path(settings.input.validation[0].image_url or "")

    for color in ("red", "red", "green"):
        Image.new("RGB", (80, 64), color).save(image)
        cached, sampling = fill(settings), sampling_of(settings, family)
        shape = cached.previews[0].shape
        assert shape is not None
        terms, place = Terms(shape, shape.duration_seconds), tmp_path / "previews"
        render_previews(family, adapted, cached, terms, sampling, place, step=0, base="miniature")

    # Each item and its image.
    assert len(family.decoded) == 2 * 2 * len(settings.input.validation)
