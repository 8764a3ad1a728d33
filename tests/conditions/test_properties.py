"""What holds for every row of the table of modes, at any geometry and with any scale factors."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import terms_of
from ltx_trainer.conditions.streams import Latents, make_streams
from ltx_trainer.diffusion import GuidanceScales, Stream, audio_tokens, video_tokens
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from ltx_trainer.modes import MODES, Condition, Mode, Presence
from ltx_trainer.train.batch import Batch
from ltx_trainer.train.step import draw_noise, losses_at
from ltx_trainer.validate import Sampling, given_streams
from ltx_trainer.validate.denoise import denoise
from tests.conditions.fake_family import FakeFamily, random_latents, request_of

FACTORS = st.sampled_from(
    [ScaleFactors(8, 32, 32), ScaleFactors(4, 8, 8), ScaleFactors(4, 16, 16), ScaleFactors(2, 8, 16)]
)
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
few = settings(max_examples=12, deadline=None, derandomize=True)
SCALES = GuidanceScales(cfg=3.0, stg=1.0, modality=3.0, rescale=0.7)
SAMPLING = Sampling(num_steps=3, seed=0, scales={"video": SCALES, "audio": SCALES}, stg_blocks=(0,))


class Case:
    """A batch of a mode with everything about it drawn: geometry, lengths, rectangle, mask, ranges and latents."""

    def __init__(self, mode: Mode, data: st.DataObject) -> None:
        self.mode = mode
        self.generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31), label="seed"))
        factors = data.draw(FACTORS, label="factors")
        self.family = FakeFamily(factors)
        self.count = data.draw(st.integers(1, 2), label="samples")
        fields: dict[str, object] = {}
        shape = self._shape(data, factors, fields) if mode.has_video else None
        if shape is None:
            self._sound(data, fields)
        self.terms = terms_of(mode, request_of(**fields), factors, shape, trained_size=None)
        optional = mode.audio is Presence.GENERATED_IF_SOUND
        with_audio = mode.needs_audio or (optional and data.draw(st.booleans(), label="with sound"))
        self.latents = self._latents(data, factors, with_audio=with_audio)
        drawn = Condition.FIRST_FRAME in mode.conditions
        self.first_frame = torch.rand(self.count, generator=self.generator) < 0.5 if drawn else None

    def _shape(self, data: st.DataObject, factors: ScaleFactors, fields: dict[str, object]) -> ClipShape:
        space, time = 1, 1
        if "reference_downscale_factor" in self.mode.fields:
            space, time = data.draw(st.integers(1, 3), label="space"), data.draw(st.integers(1, 3), label="time")
            fields |= {"reference_downscale_factor": space, "reference_temporal_scale_factor": time}
        eights = data.draw(st.integers(2, 4), label="groups of 8")
        if "conditioning_frames" in self.mode.fields:
            own = data.draw(st.integers(1, eights - 1), label="given groups")
            fields["conditioning_frames"] = 8 * own + (Condition.PREFIX in self.mode.conditions)
        rows, columns = data.draw(st.integers(1, 3), label="rows"), data.draw(st.integers(2, 3), label="columns")
        if Condition.RECTANGLE in self.mode.conditions:
            left = data.draw(st.integers(0, columns - 1), label="left")
            # Not the whole width, so that something is left.
            right = data.draw(st.integers(left + 1, columns - (left == 0)), label="right")
            fields |= {"crop_top_left": (left * factors.columns, 0)}
            fields |= {"crop_bottom_right": (right * factors.columns, rows * factors.rows)}
        if Condition.KEYFRAMES in self.mode.conditions:
            fields["include_middle_keyframe"] = data.draw(st.booleans(), label="middle keyframe")
        rate = data.draw(st.integers(8, 60), label="frame rate")
        size = FrameSize(columns * factors.columns * space, rows * factors.rows * space)
        return ClipShape(8 * eights * time + 1, size, Fraction(rate))

    def _sound(self, data: st.DataObject, fields: dict[str, object]) -> None:
        hundredths = data.draw(st.integers(50, 300), label="hundredths of a second")
        fields["audio_duration_seconds"] = hundredths / 100
        if "conditioning_seconds" in self.mode.fields:
            fields["conditioning_seconds"] = data.draw(st.integers(10, hundredths - 1), label="given") / 100

    def _latents(self, data: st.DataObject, factors: ScaleFactors, *, with_audio: bool) -> Latents:
        latents = random_latents(
            self.mode, self.terms, factors, self.generator, count=self.count, with_audio=with_audio
        )
        if Condition.MASK in self.mode.conditions:
            mask = torch.rand(latents.video[Role.TARGET][:, 0].shape, generator=self.generator) < 0.5
            mask[:, -1, 0, 0], mask[:, -1, 0, 1] = True, False
            latents = replace(latents, video={**latents.video, Role.MASK: mask})
        if Condition.RANGES in self.mode.conditions:
            whole = int(self.terms.duration_seconds * 1000)
            edges = st.lists(st.integers(0, whole), min_size=4, max_size=4, unique=True).map(sorted)
            drawn = [data.draw(edges, label="ranges") for _ in range(self.count)]
            latents = replace(
                latents,
                ranges=[((Fraction(a, 1000), Fraction(b, 1000)), (Fraction(c, 1000), Fraction(d, 1000)))
                        for a, b, c, d in drawn],
            )  # fmt: skip
        return latents

    def trained(self) -> dict[str, Stream]:
        return make_streams(self.family, self.terms, self.latents, self.first_frame)

    def trained_as_sampled(self) -> dict[str, Stream]:
        """Make the streams of training of samples that are given what an item is: a first frame always or never."""
        shows_start = torch.full((self.count,), Role.START in self.item().video)
        return make_streams(self.family, self.terms, self.latents, None if self.first_frame is None else shows_start)

    def sampled(self) -> dict[str, Stream]:
        return given_streams(
            self.family, self.terms, self.item(), self.count, with_audio=Role.TARGET in self.latents.audio
        )

    def item(self) -> Latents:
        """Take what a validation item of the mode holds: no target where that is made whole."""
        held = {field.role for field in self.mode.item_fields}
        video = {role: latents for role, latents in self.latents.video.items() if role in held}
        if self.first_frame is not None and Role.START in held:
            video[Role.START] = self.latents.video[Role.TARGET][:, :, :1]
        extends = {Condition.PREFIX, Condition.SUFFIX} & set(self.mode.conditions)
        has_sound = Role.SOUND in held or (Role.TARGET in held and (extends or not self.mode.has_video))
        heard = held - {Role.TARGET} | ({Role.TARGET} if has_sound else set())
        audio = {role: latents for role, latents in self.latents.audio.items() if role in heard}
        return Latents(video, audio, self.latents.ranges)


@every_mode
@few
@given(data=st.data())
def test_sampling_leaves_given_tokens_bit_equal(mode: Mode, data: st.DataObject) -> None:
    case = Case(mode, data)
    trained, streams = case.trained_as_sampled(), case.sampled()
    noise = draw_noise(streams, case.generator)

    clean = denoise(case.family, nn.Identity(), streams, noise, {}, {}, SAMPLING)

    assert clean.keys() == trained.keys()
    assert any(not stream.given.all() for stream in trained.values())
    for name, stream in trained.items():
        assert torch.equal(clean[name][stream.given], stream.clean[stream.given])
        assert (clean[name][~stream.given] != noise[name][~stream.given]).any(dim=-1).all()


@every_mode
@few
@given(data=st.data())
def test_given_tokens_are_clean_at_timestep_0_in_training_and_in_sampling(mode: Mode, data: st.DataObject) -> None:
    case = Case(mode, data)
    trained, sampled = case.trained(), case.sampled()
    sigma = dict.fromkeys(trained, 0.1 + 0.8 * torch.rand(case.count, generator=case.generator))

    losses_at(case.family, nn.Identity(), Batch((), trained, {}), sigma, draw_noise(trained, case.generator))
    denoise(case.family, nn.Identity(), sampled, draw_noise(sampled, case.generator), {}, {}, SAMPLING)

    in_training, *in_sampling = case.family.seen
    assert in_sampling
    for seen, streams in ((in_training, trained), *((each, case.trained_as_sampled()) for each in in_sampling)):
        assert seen.streams.keys() == streams.keys()
        for name, stream in streams.items():
            found = seen.streams[name]
            assert torch.equal(found.tokens[stream.given], stream.clean[stream.given])
            assert (found.timesteps[stream.given] == 0).all()
            assert (found.timesteps[~stream.given] > 0).all()
            assert (found.sigma == 0).all() == (name in case.terms.frozen)


@every_mode
@few
@given(data=st.data())
def test_given_tokens_have_no_loss_and_no_gradient(mode: Mode, data: st.DataObject) -> None:
    case = Case(mode, data)
    streams = case.trained()
    noise = draw_noise(streams, case.generator)
    sigma = dict.fromkeys(streams, torch.full((case.count,), 0.5))

    losses = losses_at(case.family, nn.Identity(), Batch((), streams, {}), sigma, noise)

    torch.stack([loss.sum() for loss in losses.values()]).sum().backward()
    velocities = case.family.seen[0].velocities
    assert losses.keys() == streams.keys() - case.terms.frozen
    for name, loss in losses.items():
        generated, answer = ~streams[name].given, velocities[name]
        assert answer.grad is not None
        assert (answer.grad[~generated] == 0).all()
        assert (answer.grad[generated] != 0).any(dim=-1).all()
        error = (answer - (noise[name] - streams[name].clean)).square().mean(-1)
        expected = [errors[own].mean() for errors, own in zip(error, generated, strict=True)]
        torch.testing.assert_close(loss, torch.stack(expected))
    assert all(velocities[name].grad is None for name in case.terms.frozen)


@every_mode
@few
@given(data=st.data())
def test_tokens_stand_where_plain_arithmetic_puts_them_in_training_and_in_sampling(
    mode: Mode, data: st.DataObject
) -> None:
    case = Case(mode, data)

    for streams in (case.trained(), case.sampled()):
        for name, stream in streams.items():
            bounds = video_bounds(case) if name == "video" else audio_bounds(case)
            expected = torch.tensor([[[float(edge) for edge in axis] for axis in token] for token in bounds])
            found = stream.coordinates.expand(case.count, -1, -1, -1)
            expected = expected.transpose(0, 1).expand(case.count, -1, -1, -1)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@every_mode
@few
@given(data=st.data())
def test_what_is_generated_of_the_target_is_learned_as_it_is_and_joined_tokens_come_last(
    mode: Mode, data: st.DataObject
) -> None:
    case = Case(mode, data)

    for name, stream in case.trained().items():
        latents = case.latents.video if name == "video" else case.latents.audio
        plain = (video_tokens if name == "video" else audio_tokens)(latents[Role.TARGET])
        own = ~stream.given[:, : stream.num_target]
        assert plain.shape == stream.clean[:, : stream.num_target].shape
        assert torch.equal(stream.clean[:, : stream.num_target][own], plain[own])
        assert stream.given[:, stream.num_target :].all()


Bounds = list[tuple[tuple[Fraction, Fraction], ...]]
"""Begin and end on each axis of each token."""


def video_bounds(case: Case) -> Bounds:
    """Give the seconds, rows and columns of the target's tokens and of those joined to them."""
    assert case.terms.shape is not None
    shape, factors = case.terms.shape, case.family.factors
    bounds = cells(shape.num_frames, shape.size, factors, shape.frame_rate)
    if Role.REFERENCE in case.latents.video:
        space, time = case.terms.reference_space, case.terms.reference_time
        # Its frame k is frame time * k of the target, and its pixels are as many of the target's.
        wide = ScaleFactors(factors.frames * time, factors.rows * space, factors.columns * space)
        bounds += cells(shape.num_frames, shape.size, wide, shape.frame_rate)
    last = shape.num_frames - 1
    frames = {Role.FIRST_KEYFRAME: 0, Role.MIDDLE_KEYFRAME: last // 2, Role.LAST_KEYFRAME: last}
    for role, frame in frames.items():
        if role in case.latents.video:
            still = cells(1, shape.size, factors, shape.frame_rate)
            moment = (frame / shape.frame_rate, (frame + 1) / shape.frame_rate)
            bounds += [(moment, rows, columns) for _, rows, columns in still]
    return bounds


def cells(num_frames: int, size: FrameSize, factors: ScaleFactors, rate: Fraction) -> Bounds:
    """Give the bounds of the cells of a clip, columns running fastest."""
    edges = [0, *range(1, num_frames + 1, factors.frames)]
    times = [(begin / rate, end / rate) for begin, end in pairwise(edges)]
    return list(product(times, _steps(size.height, factors.rows), _steps(size.width, factors.columns)))


def _steps(whole: int, step: int) -> list[tuple[Fraction, Fraction]]:
    return [(Fraction(begin), Fraction(begin + step)) for begin in range(0, whole, step)]


def audio_bounds(case: Case) -> Bounds:
    """Give the seconds of the target's tokens, and then of the reference's: the first of 10 ms, the others of 40."""
    count = round(case.terms.duration_seconds * 25)
    edges = [Fraction(hop, 100) for hop in (0, *range(1, 4 * count, 4))]
    own: Bounds = [(span,) for span in pairwise(edges)]
    return own * (1 + (Role.REFERENCE_SOUND in case.latents.audio))


def test_every_condition_of_the_table_is_met() -> None:
    assert {condition for mode in MODES for condition in mode.conditions} == set(Condition)
