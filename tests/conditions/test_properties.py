"""What holds for every row of the table of modes, at any geometry and with any scale factors."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import terms_of
from ltx_trainer.conditions.streams import Latents, make_streams
from ltx_trainer.diffusion import GuidanceScales, Stream, audio_tokens, generated_stream, video_tokens
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from ltx_trainer.modes import MODES, Condition, Mode, Presence
from ltx_trainer.train.batch import Batch
from ltx_trainer.train.step import draw_noise, losses_at
from ltx_trainer.validate import Sampling
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

    def sampled(self) -> dict[str, Stream]:
        """Make the streams of sampling: what is not given of a target is unknown, and stands at 0."""
        masks = {name: stream.given[:, : stream.num_target] for name, stream in self.trained().items()}
        video, audio = dict(self.latents.video), dict(self.latents.audio)
        for name, latents in (("video", video), ("audio", audio)):
            if name in masks and name not in self.terms.frozen:
                latents[Role.TARGET] = _only(latents[Role.TARGET], masks[name])
        return make_streams(self.family, self.terms, replace(self.latents, video=video, audio=audio), self.first_frame)


def _only(latents: Tensor, given: Tensor) -> Tensor:
    """Take away what is not given of latents `[b c f h w]` or `[b c t m]`."""
    kept = given.view(len(given), 1, *latents.shape[2:]) if latents.ndim == 5 else given[:, None, :, None]
    return torch.where(kept, latents, 0.0)


@every_mode
@few
@given(data=st.data())
def test_sampling_leaves_given_tokens_bit_equal(mode: Mode, data: st.DataObject) -> None:
    case = Case(mode, data)
    trained, streams = case.trained(), case.sampled()
    noise = draw_noise(streams, case.generator)

    clean = denoise(case.family, nn.Identity(), streams, noise, {}, {}, SAMPLING)

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

    for seen in case.family.seen:
        assert seen.streams.keys() == trained.keys()
        for name, stream in trained.items():
            found = seen.streams[name]
            assert torch.equal(found.tokens[stream.given], stream.clean[stream.given])
            assert (found.timesteps[stream.given] == 0).all()
            assert (found.timesteps[~stream.given] > 0).all()
            assert (found.sigma == 0).all() == (name in case.terms.frozen)
            assert torch.equal(found.coordinates, stream.coordinates)


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
def test_the_target_stands_where_plain_sampling_has_it_and_joined_tokens_come_last(
    mode: Mode, data: st.DataObject
) -> None:
    case = Case(mode, data)

    for name, stream in case.trained().items():
        plain = plain_stream(case, name)
        target = stream.num_target
        assert torch.equal(stream.coordinates[:, :, :target], plain.coordinates)
        assert plain.clean.shape == stream.clean[:, :target].shape
        assert stream.given[:, target:].all()
        assert stream.num_joined == num_joined(case.latents, name)
        own = ~stream.given[:, :target]
        assert torch.equal(stream.clean[:, :target][own], plain.clean[own])


def plain_stream(case: Case, name: str) -> Stream:
    """Make the stream that there would be without any condition."""
    if name == "video":
        assert case.terms.shape is not None
        coordinates = case.family.video_coordinates(case.terms.shape)
        return generated_stream(video_tokens(case.latents.video[Role.TARGET]), coordinates)
    num_tokens = round(case.terms.duration_seconds * 25)
    return generated_stream(audio_tokens(case.latents.audio[Role.TARGET]), case.family.audio_coordinates(num_tokens))


def num_joined(latents: Latents, name: str) -> int:
    """Count the latent cells of what is given beside the target."""
    beside: Mapping[Role, Tensor] = latents.video if name == "video" else latents.audio
    inside = (Role.TARGET, Role.START, Role.MASK)
    sizes = {role: value[0, 0].numel() if name == "video" else value.shape[2] for role, value in beside.items()}
    return sum(size for role, size in sizes.items() if role not in inside)


def test_every_condition_of_the_table_is_met() -> None:
    assert {condition for mode in MODES for condition in mode.conditions} == set(Condition)
