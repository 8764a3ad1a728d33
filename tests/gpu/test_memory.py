"""One large model on the device at a time: what a `with` took, its end gives back."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

from ltx_trainer.models.family import Family

pytestmark = pytest.mark.gpu

Load = Callable[[Family, torch.device], AbstractContextManager[object]]
LOADS: dict[str, Load] = {
    "video codec": lambda family, device: family.video_codec(device),
    "audio codec": lambda family, device: family.audio_codec(device),
    "transformer": lambda family, device: family.transformer(device, torch.bfloat16),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_memory_is_given_back_though_the_model_is_still_named(load: Load, family: Family, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("only CUDA counts what is allocated")
    before = torch.cuda.memory_allocated()
    reserved_before = torch.cuda.memory_reserved()

    with load(family, device) as model:
        taken = torch.cuda.memory_allocated() - before
    kept = torch.cuda.memory_allocated() - before

    assert model is not None
    assert taken > 100_000
    assert kept < taken / 10
    assert torch.cuda.memory_reserved() <= reserved_before


def test_a_codec_encodes_and_decodes_on_the_device(family: Family, device: torch.device) -> None:
    frames = torch.randint(0, 256, (9, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    with family.video_codec(device) as codec:
        latents = codec.encode(frames)
        decoded = codec.decode(latents)

    assert latents.isfinite().all()
    assert latents.device.type == "cpu"
    assert decoded.shape == frames.shape
