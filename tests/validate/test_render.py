"""Previews as files, how they are joined, when they are rendered again, and what is left of those that were stopped."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ltx_trainer import interruption
from ltx_trainer.artifacts import CachedSet, Render
from ltx_trainer.conditions import Terms, terms_of
from ltx_trainer.config import Settings
from ltx_trainer.errors import Interrupted, OutOfResources
from ltx_trainer.geometry import FrameSize, midpoint_times
from ltx_trainer.media import decode_frames, scan_video
from ltx_trainer.models import ModelFacts
from ltx_trainer.models.family import Family, VideoCodec, open_family
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.processes import make_accelerator
from ltx_trainer.validate import Previews, Showing, sampling_of
from tests.families import both_families
from tests.rendering import render_previews

CPU = torch.device("cpu")
Load = Callable[..., Settings]
BRIEFLY = ("validation.steps=1", "validation.video_cfg=1", "validation.audio_cfg=1", "validation.modality=1")
THREE = "input.validation=[{prompt: clip number 0}, {prompt: a bell}, {prompt: clip number 2}]"


@pytest.fixture(scope="session")
def load(load: Load) -> Load:
    """Load settings by which a preview is sampled in one step of two predictions."""
    return lambda *overrides: load(*BRIEFLY, *overrides)


@pytest.fixture
def adapted(family: Family) -> Iterator[nn.Module]:
    with family.transformer(CPU, torch.float32) as transformer:
        generator = torch.Generator().manual_seed(0)
        attach_lora(transformer, family.lora_modules(["attn1"]), rank=8, alpha=8, dropout=0, generator=generator)
        yield transformer


def set_up(adapted: nn.Module, value: float) -> None:
    """Give the adapter's second matrices, which begin as zeros, one value."""
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(value)


def terms_for(settings: Settings, family: Family, cached: CachedSet) -> Terms:
    """Settle what is given of the previews."""
    shape = cached.previews[0].shape
    return terms_of(settings.mode, settings.input, family.facts.factors, shape, trained_size=None)


@pytest.fixture
def render(
    adapted: nn.Module, family: Family, fill: Callable[[Settings], CachedSet], tmp_path: Path
) -> Callable[[Settings], Render]:
    return lambda settings, base="base", folder="previews", step=3, **options: render_previews(
        family,
        adapted,
        (cached := fill(settings)),
        terms_for(settings, family, cached),
        sampling_of(settings, family),
        tmp_path / folder,
        step=step,
        base=base,
        showing=Showing(**options),
    )


@both_families
def test_what_was_rendered_before_is_found(load: Load, render: Callable[[Settings], Render]) -> None:
    first = render(load())
    written = first.joined.stat().st_mtime_ns

    again = render(load())

    assert again == first
    assert again.joined.stat().st_mtime_ns == written


def test_previews_are_rendered_again_where_they_are_to_play_the_other_way(
    load: Load, render: Callable[..., Render]
) -> None:
    before = render(load()).items[0].read_bytes()

    assert render(load(), reverse=True).items[0].read_bytes() != before
    assert render(load()).items[0].read_bytes() == before


@pytest.mark.parametrize(
    "change", ["input.validation=[{prompt: something else}]", "validation.seed=7", "input.stg_scale=0"]
)
def test_what_is_asked_otherwise_is_rendered_again(
    load: Load, render: Callable[[Settings], Render], change: str
) -> None:
    before = render(load()).joined.read_bytes()

    assert render(load(change)).joined.read_bytes() != before


def test_another_base_is_rendered_again(load: Load, render: Callable[..., Render]) -> None:
    written = render(load()).joined.stat().st_mtime_ns

    assert render(load(), base="another").joined.stat().st_mtime_ns != written


def test_another_adapter_is_rendered_again(
    load: Load, render: Callable[[Settings], Render], adapted: nn.Module
) -> None:
    before = render(load()).joined.read_bytes()
    set_up(adapted, 0.1)

    assert render(load()).joined.read_bytes() != before


def test_rendering_leaves_random_state_and_mode_as_they_were(
    load: Load, render: Callable[[Settings], Render], adapted: nn.Module
) -> None:
    adapted.train()
    state = torch.get_rng_state()

    render(load())

    assert torch.equal(torch.get_rng_state(), state)
    assert adapted.training


def content(render: Render) -> list[bytes]:
    return [path.read_bytes() for path in (*render.items, render.joined)]


@both_families
def test_two_renderings_are_equal_byte_for_byte(load: Load, render: Callable[..., Render], facts: ModelFacts) -> None:
    first, second = (render(load(THREE), folder=name) for name in ("first", "second"))

    assert first.joined != second.joined
    assert content(first) == content(second)
    assert len(set(content(first))) == 4
    assert {b"mp4a" in each for each in content(first)} == {facts.audio is not None}, "with sound"


@both_families
def test_an_item_is_the_same_whichever_others_are_rendered_with_it(load: Load, render: Callable[..., Render]) -> None:
    together = render(load(THREE), folder="together")

    alone = render(load("input.validation=[{prompt: a bell}]"), folder="alone")

    assert alone.items[0].read_bytes() == together.items[1].read_bytes()


def times_of(render: Render) -> list[int]:
    return [path.stat().st_mtime_ns for path in (*render.items, render.joined)]


def pictures_of(path: Path, size: FrameSize) -> np.ndarray:
    scan = scan_video(path, find_cuts=False)
    times = midpoint_times(Fraction(0), scan.duration_seconds, scan.num_frames)
    return decode_frames(path, times, size).astype(np.float32)


def test_after_step_0_an_item_stands_right_of_itself_at_step_0(
    load: Load, render: Callable[..., Render], adapted: nn.Module
) -> None:
    start = render(load(THREE), step=0)
    set_up(adapted, 2.0)

    later = render(load(THREE))

    size = scan_video(start.items[0], find_cuts=False).size
    assert scan_video(start.joined, find_cuts=False).size == size
    pairs = pictures_of(later.joined, FrameSize(2 * size.width, size.height))
    halves = {"left": pairs[:, :, : size.width], "right": pairs[:, :, size.width :]}
    for side, nearer, farther in (("left", start, later), ("right", later, start)):
        near, far = (np.concatenate([pictures_of(path, size) for path in each.items]) for each in (nearer, farther))
        assert np.abs(halves[side] - near).mean() < 0.5 * np.abs(halves[side] - far).mean(), side


def test_files_of_reversed_previews_play_from_the_last_picture_to_the_first_beside_their_own_step_0(
    load: Load, render: Callable[..., Render], adapted: nn.Module
) -> None:
    forward = render(load())
    size = scan_video(forward.items[0], find_cuts=False).size
    pictures = pictures_of(forward.items[0], size)
    set_up(adapted, 2.0)
    start = render(load(), step=0, reverse=True)
    set_up(adapted, 0)

    backward = render(load(), reverse=True)

    pair = pictures_of(backward.joined, FrameSize(2 * size.width, size.height))
    for shown in (pictures_of(backward.items[0], size), pair[:, :, size.width :]):
        assert np.abs(shown - pictures[::-1]).mean() < 0.5 * np.abs(shown - pictures).mean()
    left = pair[:, :, : size.width]
    assert np.abs(left - pictures_of(start.items[0], size)).mean() < 0.5 * np.abs(left - pictures[::-1]).mean()


def num_abreast(render: Render) -> int:
    """Count how many pictures of the items' width stand side by side in the joined video."""
    item, joined = (scan_video(path, find_cuts=False).size for path in (render.items[0], render.joined))
    assert joined.height == item.height
    assert joined.width % item.width == 0
    return joined.width // item.width


@pytest.mark.parametrize("missing", ["item-1.mp4", "origin.txt"])
def test_without_its_file_or_its_note_step_0_is_not_shown(
    load: Load, render: Callable[..., Render], missing: str
) -> None:
    render(load(), step=0).joined.with_name(missing).unlink()

    assert num_abreast(render(load())) == 1


def test_a_step_0_that_was_asked_otherwise_is_not_shown(load: Load, render: Callable[..., Render]) -> None:
    render(load(), step=0)

    assert num_abreast(render(load("validation.seed=7"))) == 1


def test_items_are_joined_again_but_not_rendered_again_where_only_the_way_they_are_shown_changed(
    load: Load, render: Callable[..., Render]
) -> None:
    render(load(), step=0)
    first = render(load())
    written = times_of(first)
    assert num_abreast(first) == 2

    for wanted, abreast in ((False, 1), (True, 2)):
        again = render(load(), beside_base=wanted)
        assert num_abreast(again) == abreast
        assert times_of(again)[:-1] == written[:-1]

        found = times_of(again)
        assert times_of(render(load(), beside_base=wanted)) == found


def test_items_are_joined_again_where_step_0_was_rendered_again(
    load: Load, render: Callable[..., Render], adapted: nn.Module
) -> None:
    render(load(), step=0)
    *items, joined = times_of(render(load()))
    set_up(adapted, 0.3)
    render(load(), step=0)
    set_up(adapted, 0)

    *items_again, joined_again = times_of(render(load()))

    assert items_again == items
    assert joined_again > joined


class Disturbed(VideoCodec):
    """The real codec; something happens before it decodes the second clip."""

    def __init__(self, codec: VideoCodec, happen: Callable[[], None]) -> None:
        self._codec = codec
        self._happen = happen
        self._num_decoded = 0

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self._codec.encode(frames)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self._num_decoded += 1
        if self._num_decoded == 2:
            self._happen()
        return self._codec.decode(latents)


def disturbed(facts: ModelFacts, happen: Callable[[], None]) -> Family:
    """Give the real family, at whose second clip something happens."""
    family = open_family(facts)
    open_codec = family.video_codec

    @contextmanager
    def video_codec(device: torch.device) -> Iterator[VideoCodec]:
        with open_codec(device) as codec:
            yield Disturbed(codec, happen)

    family.video_codec = video_codec
    return family


def tell_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run_out() -> None:
    raise OutOfResources("No space left.")


@pytest.fixture
def signals() -> Iterator[None]:
    """Take signals as a run does, for the length of a test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interruption.handle_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def previews(
    adapted: nn.Module, load: Load, fill: Callable[[Settings], CachedSet], tmp_path: Path
) -> Callable[..., Previews]:
    """Give a function that makes the previews of three items with a family, and tells a list of each rendering."""
    settings = load(THREE)
    accelerator, _ = make_accelerator("fp32")

    def make(of: Family, told: list[Render], **options: bool) -> Previews:
        sampling, folder = sampling_of(settings, of), tmp_path / "previews"
        cached = fill(settings)
        terms, showing = terms_for(settings, of, cached), Showing(**options)
        return Previews(of, adapted, cached, terms, sampling, folder, accelerator, "base", told.append, showing)

    return make


@both_families
@pytest.mark.usefixtures("signals")
def test_a_signal_leaves_previews_at_once_and_nothing_claims_to_be_done(
    previews: Callable[..., Previews],
    facts: ModelFacts,
    family: Family,
    load: Load,
    render: Callable[..., Render],
    tmp_path: Path,
) -> None:
    told: list[Render] = []
    place = tmp_path / "previews/step-000003"

    with interruption.deferred():
        stopped = previews(disturbed(facts, tell_to_stop), told).render(3)
        assert interruption.noted() == signal.SIGTERM
        later = previews(family, told).render(3)

    assert stopped is later is None
    assert told == []
    assert [path.name for path in place.iterdir()] == ["item-1.mp4"]
    whole = previews(family, told).render(3)
    assert told == [whole]
    assert whole is not None
    assert content(whole) == content(render(load(THREE), folder="undisturbed"))


@pytest.mark.usefixtures("signals")
def test_where_stopping_is_not_deferred_a_signal_ends_the_run(
    previews: Callable[..., Previews], facts: ModelFacts
) -> None:
    with pytest.raises(Interrupted, match="signal 15"):
        previews(disturbed(facts, tell_to_stop), []).render(3)


@both_families
def test_files_that_another_adapter_left_half_way_are_not_taken_for_what_the_note_says(
    load: Load, render: Callable[..., Render], adapted: nn.Module, previews: Callable[..., Previews], facts: ModelFacts
) -> None:
    """Rendered whole, begun with another adapter and ended there, and asked for as at first."""
    undisturbed = content(render(load(THREE)))
    set_up(adapted, 0.1)

    with pytest.raises(OutOfResources, match="No space left"):
        previews(disturbed(facts, run_out), []).render(3)
    set_up(adapted, 0)

    assert content(render(load(THREE))) == undisturbed


def test_a_run_shows_step_0_unless_it_is_told_not_to_and_keeps_the_items(
    previews: Callable[..., Previews], family: Family, tmp_path: Path
) -> None:
    def abreast(**options: bool) -> list[int]:
        renders = [previews(family, [], **options).render(step) for step in (0, 3)]
        return [num_abreast(render) for render in renders if render is not None]

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("previews/*/item-*.mp4"))]

    assert abreast() == [1, 2]
    before = written()
    assert len(before) == 6
    assert abreast(beside_base=False) == [1, 1]
    assert written() == before
