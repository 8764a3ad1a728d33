"""What a pass is given, what it reads, and what a step of several passes adds up to."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ltx_trainer.artifacts import CachedSet
from ltx_trainer.conditions import Terms
from ltx_trainer.config import Settings
from ltx_trainer.models.family import Family
from ltx_trainer.train import generator_for
from ltx_trainer.train.batch import Batch, BatchMaker
from ltx_trainer.train.order import BatchOrder
from ltx_trainer.train.step import loss_of, stream_weights

CPU = torch.device("cpu")
I2V = ("endpoint=fal-ai/ltx23-trainer-v2/i2v", "input.validation=[]", "input.with_audio=false")
EXAMPLES = (0, 1, 2, 3)
BATCHES = 25
ABOUT_HALF = (35, 65)
"""Of 100 draws with even chances; three standard deviations to each side."""

Load = Callable[..., Settings]
Fill = Callable[[Settings], CachedSet]
TermsOf = Callable[[Settings, CachedSet], Terms]


@pytest.fixture
def batches(family: Family, fill: Fill, terms: TermsOf) -> Callable[[Settings], Iterator[Batch]]:
    """Make many batches of all four clips."""

    def make(settings: Settings) -> Iterator[Batch]:
        cached = fill(settings)
        maker = BatchMaker(settings, family, cached, CPU, terms(settings, cached))
        generator = torch.Generator().manual_seed(4)
        return (maker.make(cached.examples, generator) for _ in range(BATCHES))

    return make


def given(batches: Iterator[Batch]) -> Tensor:
    """Tell which video tokens are given in each sample `[samples n]`."""
    return torch.cat([batch.streams["video"].given for batch in batches])


@pytest.mark.parametrize(("share", "fewest", "most"), [(0, 0, 0), (0.5, *ABOUT_HALF), (1, 100, 100)])
def test_i2v_is_given_the_first_frame_in_the_share_of_samples_asked_for(
    load: Load, batches: Callable[..., Any], family: Family, share: float, fewest: int, most: int
) -> None:
    settings = load(*I2V, f"input.first_frame_conditioning_p={share}")
    tokens_per_frame = (64 // family.facts.factors.rows) * (64 // family.facts.factors.columns)

    found = given(batches(settings))

    first, rest = found[:, :tokens_per_frame], found[:, tokens_per_frame:]
    assert torch.equal(first.all(dim=1), first.any(dim=1))
    assert fewest <= int(first.all(dim=1).sum()) <= most
    assert rest.numel() > 0
    assert not rest.any()


def test_t2v_is_given_nothing(load: Load, batches: Callable[..., Any]) -> None:
    assert not given(batches(load())).any()


def test_the_sound_of_i2v_is_generated_whole(load: Load, batches: Callable[..., Any]) -> None:
    settings = load(*I2V[:2], "input.first_frame_conditioning_p=1")

    assert not any(batch.streams["audio"].given.any() for batch in batches(settings))


@pytest.mark.parametrize(("share", "fewest", "most"), [(0, 0, 0), (0.5, *ABOUT_HALF), (1, 100, 100)])
def test_captions_give_way_to_the_empty_text_in_the_share_of_samples_asked_for(
    load: Load, batches: Callable[..., Any], fill: Fill, share: float, fewest: int, most: int
) -> None:
    settings = load(f"training.caption_dropout={share}")
    cached = fill(settings)
    empty = load_file(cached.empty_prompt)
    own = [load_file(cached.examples[index].prompt) for index in EXAMPLES]
    num_dropped = 0

    for batch in batches(settings):
        for place, caption in enumerate(own):
            read = {name: embeddings[place] for name, embeddings in batch.prompt.items()}
            dropped = same(read, empty)
            assert dropped or same(read, caption)
            num_dropped += dropped

    assert not any(same(caption, empty) for caption in own)
    assert fewest <= num_dropped <= most


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_clip_that_is_measured_keeps_its_caption(load: Load, family: Family, fill: Fill, terms: TermsOf) -> None:
    settings = load("training.caption_dropout=1")
    cached = fill(settings)
    example = cached.examples[0]

    batch = BatchMaker(settings, family, cached, CPU, terms(settings, cached)).make_measured(example, torch.Generator())

    assert same({name: embeddings[0] for name, embeddings in batch.prompt.items()}, load_file(example.prompt))
    assert batch.names == (example.name,)


@pytest.mark.parametrize("num_passes", [1, 3])
def test_the_gradient_of_a_step_is_the_mean_of_its_passes_alone(
    load: Load, training: Callable[[str], Any], family: Family, terms: TermsOf, num_passes: int
) -> None:
    """Each step is computed again from the adapter as it stood before, pass by pass."""
    settings = load(
        "input.number_of_steps=2", f"training.accumulation={num_passes}", "training.gradient_checkpointing=false"
    )
    draws = generator_for(settings.training.seed, "draws", 0)
    order = BatchOrder("aaaa", 1, settings.training.seed)
    weights = stream_weights(settings.training)
    norms: list[float] = []
    losses: list[float] = []

    def compute_next_step(step: int, transformer: nn.Module, cached: CachedSet) -> None:
        maker = BatchMaker(settings, family, cached, CPU, terms(settings, cached))
        parameters = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
        gradients, totals = [], []
        for index in range(step * num_passes, (step + 1) * num_passes):
            examples = [cached.examples[place] for place in order.batch(index)]
            loss = loss_of(family, transformer, maker.make(examples, draws), settings.noise, weights, draws)
            gradients.append(torch.autograd.grad(loss.total, parameters))
            totals.append(float(loss.total.detach()))
        means = [torch.stack(parts).mean(dim=0) for parts in zip(*gradients, strict=True)]
        norms.append(math.hypot(*(float(mean.norm()) for mean in means)))
        losses.append(sum(totals) / num_passes)

    run = training("accumulated")
    run.run(settings, hooks=[compute_next_step])

    assert [item.grad_norm for item in run.metrics] == pytest.approx(norms[:2], rel=1e-4)
    assert [item.loss["loss"] for item in run.metrics] == pytest.approx(losses[:2], rel=1e-5)
