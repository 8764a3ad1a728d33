"""Each condition by number, worked out by hand.

The model of these tests groups 4 frames, 16 rows and 8 columns. Its audio tokens are those of LTX-2.3: the first covers
10 ms, token i from 4 * i - 3 to 4 * i + 1 of them. Clips run at 25 frames per second, 40 ms each.
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import Tensor

from ltx_trainer.artifacts import Role
from ltx_trainer.conditions import Terms, terms_of
from ltx_trainer.conditions.streams import make_streams
from ltx_trainer.diffusion import Stream, add_noise, audio_tokens, video_tokens
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors
from tests.conditions.fake_family import AUDIO, FakeFamily, mode_of, random_latents, request_of, shape_of

FACTORS = ScaleFactors(4, 16, 8)
SIGMA = 0.75
Bounds = list[tuple[float, float]]

TIMES: Bounds = [(0, 0.04), (0.04, 0.20), (0.20, 0.36)]
"""Of the three latent frames of 9 frames."""
TIMES_OF_17: Bounds = [*TIMES, (0.36, 0.52), (0.52, 0.68)]
ONE_ROW: Bounds = [(0, 16)]
TWO_ROWS: Bounds = [(0, 16), (16, 32)]
TWO_COLUMNS: Bounds = [(0, 8), (8, 16)]
FOUR_COLUMNS: Bounds = [(0, 8), (8, 16), (16, 24), (24, 32)]
HOPS: Bounds = [(0, 1), (1, 5), (5, 9), (9, 13), (13, 17), (17, 21), (21, 25), (25, 29), (29, 33), (33, 37)]
"""Of the first ten audio tokens, in units of 10 ms."""

SMALL = shape_of(9, 16, 16)
"""Three latent frames of one row and two columns, and 9 audio tokens of its 360 ms."""
LONG = shape_of(17, 16, 16)
"""Five latent frames of one row and two columns, and 17 audio tokens of its 680 ms."""


@pytest.fixture
def family() -> FakeFamily:
    return FakeFamily(FACTORS)


def streams_of(
    family: FakeFamily,
    name: str,
    shape: ClipShape | None = SMALL,
    *,
    with_audio: bool = False,
    extra: Mapping[Role, Tensor] | None = None,
    ranges: tuple[tuple[Fraction, Fraction], ...] = (),
    first_frame: Tensor | None = None,
    **fields: object,
) -> tuple[dict[str, Stream], Terms, Mapping[Role, Tensor]]:
    """Make the streams of one random clip of a mode."""
    mode = mode_of(name)
    terms = terms_of(mode, request_of(**fields), FACTORS, shape, trained_size=None)
    latents = random_latents(mode, terms, FACTORS, torch.Generator().manual_seed(1), with_audio=with_audio)
    latents = replace(latents, video={**latents.video, **(extra or {})}, ranges=(ranges,) if ranges else ())
    return make_streams(family, terms, latents, first_frame), terms, {**latents.audio, **latents.video}


def levels(stream: Stream) -> list[float]:
    """Give the timestep of each token at noise level `SIGMA`."""
    noise = torch.randn(stream.clean.shape, generator=torch.Generator().manual_seed(2))
    return add_noise(stream, noise, torch.tensor([SIGMA])).timesteps[0].tolist()


def stands(stream: Stream, *axes: Bounds, begin: int = 0) -> None:
    """Hold the tokens from `begin` on to the bounds of each axis, the last axis running fastest."""
    expected = torch.tensor(list(product(*axes))).transpose(0, 1)
    found = stream.coordinates[0][:, begin : begin + expected.shape[1]]
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


def hears(stream: Stream, hops: Bounds, begin: int = 0) -> None:
    found = stream.coordinates[0, 0, begin : begin + len(hops)]
    torch.testing.assert_close(found, torch.tensor(hops) / 100, rtol=0, atol=1e-5)


def test_nothing_is_given_of_t2v(family: FakeFamily) -> None:
    streams, _, _ = streams_of(family, "t2v", with_audio=True)

    assert levels(streams["video"]) == [SIGMA] * 6
    assert levels(streams["audio"]) == [SIGMA] * 9
    stands(streams["video"], TIMES, ONE_ROW, TWO_COLUMNS)
    hears(streams["audio"], HOPS[:9])


@pytest.mark.parametrize("name", ["i2v", "v2v"])
def test_a_chosen_first_frame_is_latent_frame_0(family: FakeFamily, name: str) -> None:
    chosen, _, _ = streams_of(family, name, first_frame=torch.tensor([True]))
    not_chosen, _, _ = streams_of(family, name, first_frame=torch.tensor([False]))

    assert levels(chosen["video"])[:6] == [0, 0, SIGMA, SIGMA, SIGMA, SIGMA]
    assert levels(not_chosen["video"])[:6] == [SIGMA] * 6


def test_a_clip_of_one_frame_is_never_its_own_first_frame(family: FakeFamily) -> None:
    streams, _, _ = streams_of(family, "v2v", shape_of(1, 16, 16), first_frame=torch.tensor([True]))

    assert levels(streams["video"]) == [SIGMA, SIGMA, 0, 0]


def test_a_still_among_videos_stands_at_the_begin(family: FakeFamily) -> None:
    still = torch.zeros(1, 3, 1, 1, 2)

    streams, _, _ = streams_of(family, "t2v", extra={Role.TARGET: still})

    stands(streams["video"], TIMES[:1], ONE_ROW, TWO_COLUMNS)
    assert streams["video"].coordinates.shape[2] == 2


def test_a_start_takes_the_place_of_latent_frame_0_and_the_sound_is_frozen(family: FakeFamily) -> None:
    streams, _, latents = streams_of(family, "a2v", with_audio=True)
    video, audio = streams["video"], streams["audio"]

    assert levels(video) == [0, 0, SIGMA, SIGMA, SIGMA, SIGMA]
    assert torch.equal(video.clean[:, :2], video_tokens(latents[Role.START]))
    stands(video, TIMES, ONE_ROW, TWO_COLUMNS)
    assert levels(audio) == [0] * 9
    assert add_noise(audio, audio.clean, torch.tensor([SIGMA])).sigma.tolist() == [0]
    assert add_noise(video, video.clean, torch.tensor([SIGMA])).sigma.tolist() == [SIGMA]


def test_frozen_pictures_have_noise_level_0_and_their_sound_has_not(family: FakeFamily) -> None:
    streams, _, _ = streams_of(family, "v2a", with_audio=True)
    video, audio = streams["video"], streams["audio"]

    assert levels(video) == [0] * 6
    assert add_noise(video, video.clean, torch.tensor([SIGMA])).sigma.tolist() == [0]
    assert levels(audio) == [SIGMA] * 9
    assert add_noise(audio, audio.clean, torch.tensor([SIGMA])).sigma.tolist() == [SIGMA]


def test_a_reference_of_equal_size_stands_where_the_target_stands(family: FakeFamily) -> None:
    streams, _, latents = streams_of(family, "v2v")
    video = streams["video"]

    assert levels(video) == [SIGMA] * 6 + [0] * 6
    assert (video.num_target, video.num_joined) == (6, 6)
    assert torch.equal(video.clean[:, 6:], video_tokens(latents[Role.REFERENCE]))
    stands(video, TIMES, ONE_ROW, TWO_COLUMNS)
    stands(video, TIMES, ONE_ROW, TWO_COLUMNS, begin=6)


def test_a_reference_of_half_the_size_reaches_over_the_whole_picture(family: FakeFamily) -> None:
    streams, terms, _ = streams_of(family, "v2v", shape_of(9, 32, 32), reference_downscale_factor=2)
    video = streams["video"]

    assert terms.reference_shape == shape_of(9, 16, 16)
    assert levels(video) == [SIGMA] * 24 + [0] * 6
    stands(video, TIMES, TWO_ROWS, FOUR_COLUMNS)
    stands(video, TIMES, [(0, 32)], [(0, 16), (16, 32)], begin=24)


def test_a_reference_of_every_second_frame_stands_at_the_frames_that_it_shows(family: FakeFamily) -> None:
    """Frames 0, 2, 4 .. 16: the second latent shows frames 2 to 8, and 9 is where the target's third one begins."""
    streams, terms, _ = streams_of(family, "v2v", LONG, reference_temporal_scale_factor=2)
    video = streams["video"]

    assert terms.reference_shape == ClipShape(9, FrameSize(16, 16), Fraction(25, 2))
    assert levels(video) == [SIGMA] * 10 + [0] * 6
    stands(video, TIMES_OF_17, ONE_ROW, TWO_COLUMNS)
    stands(video, [(0, 0.04), (0.04, 0.36), (0.36, 0.68)], ONE_ROW, TWO_COLUMNS, begin=10)


def test_a_reference_of_every_fourth_frame_at_half_the_size(family: FakeFamily) -> None:
    shape = shape_of(17, 32, 32)

    streams, terms, _ = streams_of(
        family, "av2av", shape, with_audio=True, reference_temporal_scale_factor=4, reference_downscale_factor=2
    )

    assert terms.reference_shape == ClipShape(5, FrameSize(16, 16), Fraction(25, 4))
    assert levels(streams["video"]) == [SIGMA] * 40 + [0] * 4
    stands(streams["video"], [(0, 0.04), (0.04, 0.68)], [(0, 32)], [(0, 16), (16, 32)], begin=40)


@pytest.mark.parametrize("name", ["a2a", "av2av", "av2av-masked"])
def test_a_reference_sound_is_joined_from_second_0_on(family: FakeFamily, name: str) -> None:
    sound_only = name == "a2a"
    shape = None if sound_only else SMALL
    extra = {Role.MASK: torch.ones(1, 3, 1, 2, dtype=torch.bool)} if name == "av2av-masked" else {}

    streams, _, latents = streams_of(family, name, shape, with_audio=True, extra=extra, audio_duration_seconds=0.5)
    audio, count = streams["audio"], 12 if sound_only else 9

    assert levels(audio) == [SIGMA] * count + [0] * count
    assert torch.equal(audio.clean[:, count:], audio_tokens(latents[Role.REFERENCE_SOUND]))
    hears(audio, HOPS[:9])
    hears(audio, HOPS[:9], begin=count)
    assert ("video" in streams) is not sound_only


@pytest.mark.parametrize("name", ["inpaint", "v2v-masked", "av2av-masked"])
def test_kept_cells_of_a_mask_are_given(family: FakeFamily, name: str) -> None:
    kept = torch.tensor([[[[True, False]], [[False, False]], [[False, True]]]])

    streams, _, _ = streams_of(family, name, with_audio=name == "av2av-masked", extra={Role.MASK: kept})
    video = streams["video"]

    assert levels(video)[:6] == [0, SIGMA, SIGMA, SIGMA, SIGMA, 0]
    assert video.num_joined == (0 if name == "inpaint" else 6)
    assert levels(video)[6:] == [0] * video.num_joined


def test_a_kept_rectangle_is_given_in_every_frame(family: FakeFamily) -> None:
    """From (7, 0) to (25, 16) of 32 x 32 pixels: whole cells are those of columns 1 and 2 in row 0."""
    streams, _, _ = streams_of(
        family, "outpaint", shape_of(9, 32, 32), crop_top_left=(7, 0), crop_bottom_right=(25, 16)
    )

    of_a_frame = [SIGMA, 0, 0, SIGMA, SIGMA, SIGMA, SIGMA, SIGMA]
    assert levels(streams["video"]) == of_a_frame * 3


def test_a_kept_rectangle_is_scaled_to_previews_of_another_size_and_snapped_there() -> None:
    """Half of 64 x 64: from (16, 8) to (64, 40) becomes (8, 4) to (32, 20), in rows of 16 and columns of 8."""
    request = request_of(crop_top_left=(16, 8), crop_bottom_right=(64, 64))

    terms = terms_of(mode_of("outpaint"), request, FACTORS, shape_of(9, 32, 32), trained_size=FrameSize(64, 64))

    cells = terms.kept_cells
    assert cells is not None
    assert (cells.top, cells.bottom, cells.left, cells.right) == (1, 2, 1, 4)


def test_first_and_last_keyframe_are_joined_at_their_frames(family: FakeFamily) -> None:
    streams, terms, latents = streams_of(family, "interpolate")
    video = streams["video"]

    assert terms.keyframes == ((Role.FIRST_KEYFRAME, 0), (Role.LAST_KEYFRAME, 8))
    assert levels(video) == [SIGMA] * 6 + [0] * 4
    assert torch.equal(video.clean[:, 6:8], video_tokens(latents[Role.FIRST_KEYFRAME]))
    assert torch.equal(video.clean[:, 8:], video_tokens(latents[Role.LAST_KEYFRAME]))
    stands(video, TIMES, ONE_ROW, TWO_COLUMNS)
    stands(video, [(0, 0.04), (0.32, 0.36)], ONE_ROW, TWO_COLUMNS, begin=6)


def test_a_middle_keyframe_stands_at_the_middle_frame(family: FakeFamily) -> None:
    streams, _, latents = streams_of(family, "interpolate", include_middle_keyframe=True)
    video = streams["video"]

    assert levels(video) == [SIGMA] * 6 + [0] * 6
    assert torch.equal(video.clean[:, 8:10], video_tokens(latents[Role.MIDDLE_KEYFRAME]))
    stands(video, [(0, 0.04), (0.16, 0.20), (0.32, 0.36)], ONE_ROW, TWO_COLUMNS, begin=6)


def test_a_prefix_of_9_frames_is_3_latent_frames_and_the_sound_within_them(family: FakeFamily) -> None:
    """Its sound ends after 360 ms: token 8 ends at 330, token 9 at 370."""
    streams, _, _ = streams_of(family, "extend-prefix", LONG, with_audio=True, conditioning_frames=9)

    assert levels(streams["video"]) == [0] * 6 + [SIGMA] * 4
    assert levels(streams["audio"]) == [0] * 9 + [SIGMA] * 8
    stands(streams["video"], TIMES_OF_17, ONE_ROW, TWO_COLUMNS)
    hears(streams["audio"], HOPS)


def test_a_suffix_of_8_frames_is_2_latent_frames_and_the_sound_within_them(family: FakeFamily) -> None:
    """Its sound begins after 360 ms: token 9 begins at 330, token 10 at 370."""
    streams, _, _ = streams_of(family, "extend-suffix", LONG, with_audio=True, conditioning_frames=8)

    assert levels(streams["video"]) == [SIGMA] * 6 + [0] * 4
    assert levels(streams["audio"]) == [SIGMA] * 10 + [0] * 7


@pytest.mark.parametrize(
    ("name", "seconds", "expected"),
    [
        # Of half a second, 12 tokens; the sixth ends at 210 ms, and the last stands for all that is left.
        ("audio-extend-prefix", 0.21, [0] * 6 + [SIGMA] * 6),
        ("audio-extend-prefix", 0.2099, [0] * 5 + [SIGMA] * 7),
        ("audio-extend-prefix", 0.49, [0] * 11 + [SIGMA]),
        # The seventh begins at 210 ms.
        ("audio-extend-suffix", 0.29, [SIGMA] * 6 + [0] * 6),
        ("audio-extend-suffix", 0.2899, [SIGMA] * 7 + [0] * 5),
        ("audio-extend-suffix", 0.4999, [SIGMA] + [0] * 11),
    ],
)
def test_given_seconds_of_sound_are_the_tokens_that_lie_in_them_whole(
    family: FakeFamily, name: str, seconds: float, expected: list[float]
) -> None:
    streams, _, _ = streams_of(
        family, name, None, with_audio=True, audio_duration_seconds=0.5, conditioning_seconds=seconds
    )

    assert levels(streams["audio"]) == expected
    hears(streams["audio"], HOPS)


@pytest.mark.parametrize(
    ("ranges", "generated"),
    [
        # Token 2 is from 50 to 90 ms, token 6 from 210 to 250 ms.
        ([("0.05", "0.09"), ("0.22", "0.24")], {2, 6}),
        ([("0.0499", "0.09"), ("0.22", "0.2501")], {1, 2, 6, 7}),
        ([("0", "0.01")], {0}),
        # The last of 12 tokens is from 410 ms on.
        ([("0.47", "0.5")], {11}),
    ],
)
def test_generated_seconds_of_sound_are_the_tokens_that_they_touch(
    family: FakeFamily, ranges: list[tuple[str, str]], generated: set[int]
) -> None:
    exact = tuple((Fraction(begin), Fraction(end)) for begin, end in ranges)

    streams, _, _ = streams_of(family, "audio-inpaint", None, with_audio=True, audio_duration_seconds=0.5, ranges=exact)

    assert levels(streams["audio"]) == [SIGMA if token in generated else 0 for token in range(12)]


def test_the_tokens_in_a_span_are_counted_by_the_bounds_that_the_model_sees(family: FakeFamily) -> None:
    duration = Fraction(1, 2)
    bounds = family.audio_coordinates(12)[0]
    for index, (begin, end) in enumerate((bounds * 100).round().int().tolist()):
        for span, is_within in (((begin, end), index < 11), ((begin, end - 1), False), ((begin + 1, end), False)):
            seconds = Fraction(span[0], 100), Fraction(span[1], 100)
            expected = [is_within and number == index for number in range(12)]
            assert AUDIO.grid.tokens_within(seconds, 12, duration) == expected
