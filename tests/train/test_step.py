"""The noise levels of a pass, and what the samples of a step add up to."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltx_trainer.artifacts import CachedSet
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings
from ltx_trainer.models.family import Family
from ltx_trainer.train.batch import Batch, BatchMaker
from ltx_trainer.train.samples import Sample, losses_by_sigma, mean_losses
from ltx_trainer.train.step import loss_of, stream_weights

CPU = torch.device("cpu")
Load = Callable[..., Settings]


@pytest.fixture(scope="module")
def transformer(family: Family) -> Iterator[nn.Module]:
    with family.transformer(CPU, torch.float32) as transformer:
        yield transformer


@pytest.fixture
def batch(load: Load, family: Family, fill: Callable[[Settings], CachedSet], terms: Callable[..., Terms]) -> Batch:
    cached = fill(load())
    return BatchMaker(load(), family, cached, CPU, terms(load(), cached)).make(cached.examples, torch.Generator())


@pytest.fixture
def levels(family: Family, transformer: nn.Module, batch: Batch) -> Callable[..., tuple[Mapping[str, Tensor], Any]]:
    """Take a pass, and give the noise levels that it tells and those that the transformer is shown."""

    def take(settings: Settings) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
        shown: dict[str, Tensor] = {}
        handle = transformer.register_forward_pre_hook(
            lambda _, __, given: shown.update(video=given["sigma"] / 1000, audio=given["audio_sigma"] / 1000),
            with_kwargs=True,
        )
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad(), handle:
            loss = loss_of(family, transformer, batch, settings.noise, stream_weights(settings.training), generator)
        return loss.sigma, shown

    return take


def test_the_streams_of_a_sample_share_one_level(load: Load, levels: Callable[..., Any]) -> None:
    told, shown = levels(load())

    assert torch.equal(told["video"], told["audio"])
    assert len(set(told["video"].tolist())) == 4
    torch.testing.assert_close(shown, dict(told))


def test_each_stream_has_its_own_level_where_that_is_asked_for(load: Load, levels: Callable[..., Any]) -> None:
    shared, _ = levels(load())
    told, shown = levels(load("noise.levels=per_stream"))

    torch.testing.assert_close(shown, dict(told))
    assert not (told["video"] == told["audio"]).any()
    assert torch.equal(told["video"], shared["video"])


def test_a_streams_own_level_is_drawn_for_its_own_number_of_tokens(
    load: Load, levels: Callable[..., Any], batch: Batch
) -> None:
    """A uniform draw knows no tokens; a shifted one is higher for the stream that has more of them."""
    settings = load("noise.levels=per_stream", "noise.uniform_fraction=0")
    video, audio = (batch.streams[name].clean.shape[1] for name in ("video", "audio"))
    assert video != audio

    told, _ = levels(settings)

    generator = torch.Generator().manual_seed(7)
    expected = {name: shifted(batch.streams[name].clean.shape[1], generator) for name in ("video", "audio")}
    torch.testing.assert_close(dict(told), expected)


def shifted(num_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw four levels by the published formula, and what a uniform draw would have taken."""
    mean = 0.95 + (num_tokens - 1024) * 1.1 / 3072
    lowest, highest = (torch.sigmoid(torch.tensor(mean + quantile)) for quantile in (-2.5758, 3.0902))
    level = (torch.sigmoid(torch.randn(4, generator=generator) + mean) - lowest) / (highest - lowest)
    torch.rand(8, generator=generator)
    return torch.where(level < 1e-3, 2e-3 - level, level).clamp(0, 1)


def sample(video: float, audio: float, video_sigma: float, audio_sigma: float) -> Sample:
    return Sample("clip", {"video": video, "audio": audio}, {"video": video_sigma, "audio": audio_sigma})


def test_the_loss_is_weighted_and_those_of_the_streams_are_not() -> None:
    samples = [sample(1.0, 4.0, 0.1, 0.1), sample(3.0, 8.0, 0.1, 0.1)]

    assert mean_losses(samples, {"video": 2.0, "audio": 0.5}) == {"loss": 7.0, "loss/video": 2.0, "loss/audio": 6.0}


def test_losses_by_range_are_means_of_the_samples_in_it() -> None:
    samples = [sample(1.0, 5.0, 0.0, 1.0), sample(3.0, 6.0, 0.2, 0.75), sample(8.0, 7.0, 0.25, 0.6)]

    assert losses_by_sigma(samples) == {
        "video 0.00-0.25": 2.0,
        "video 0.25-0.50": 8.0,
        "audio 0.50-0.75": 7.0,
        "audio 0.75-1.00": 5.5,
    }
