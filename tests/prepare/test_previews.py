"""The inputs of validation items: found, looked at, and cut to the preview."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.artifacts import KEYFRAMES, Footage, Preview, Role, Soundtrack
from ltx_trainer.conditions import terms_of
from ltx_trainer.config import AudioSection, Request
from ltx_trainer.errors import ConfigError, MediaError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.media import read_pictures, read_sound
from ltx_trainer.prepare import prepare_previews, settle_previews
from tests.prepare.conftest import FACTORS, GRID, RATE_HZ, mode_of, read_numbers, times_of

Make = Callable[..., Path]
Look = Callable[..., tuple[Preview, ...]]

SIZE = FrameSize(64, 64)
RECORDINGS = (("r", 0.5), ("quiet", None))
RECTANGLE = {"crop_top_left": [0, 0], "crop_bottom_right": [32, 64]}


@pytest.fixture
def look(scans: Path, tmp_path: Path) -> Look:
    """Give a function that prepares items of paths for previews of 9 frames at 24 fps, or of some seconds of sound."""

    def run(
        mode: str, *items: dict, num_frames: int = 9, audio_rate_hz: int | None = RATE_HZ, **fields: object
    ) -> tuple[Preview, ...]:
        validation = [
            {"prompt": "a fox"}
            | {name: str(value) if isinstance(value, Path) else value for name, value in item.items()}
            for item in items
        ]
        request = Request.model_validate({"training_data_url": "data.zip", "validation": validation, **fields})
        row = mode_of(mode)
        shape = ClipShape(num_frames, SIZE, Fraction(24)) if row.has_video else None
        terms = terms_of(row, request, FACTORS, shape, trained_size=None)
        find = lambda source, *, what: tmp_path / source  # noqa: ARG005, E731
        grid = None if audio_rate_hz is None else GRID
        return prepare_previews(
            request, row, terms, find, scans, audio=AudioSection(), audio_rate_hz=audio_rate_hz, sound_grid=grid
        )

    return run


def numbers_of(footage: Footage) -> list[int]:
    return read_numbers(read_pictures(footage))


def span_of(sound: Soundtrack) -> tuple[str, Fraction, Fraction]:
    assert sound.span_seconds == sound.duration_seconds
    return sound.source.name, sound.start_seconds, sound.span_seconds


def test_every_file_is_found_with_the_name_of_its_field(make_image: Make, scans: Path) -> None:
    found: list[tuple[str, str]] = []
    image, i2v = make_image("a"), mode_of("i2v")

    def find(source: str, *, what: str) -> Path:
        found.append((source, what))
        return image

    items = [{"prompt": "a fox", "image_url": url} for url in ("https://host/a.png", None, "b.png")]
    request = Request.model_validate({"training_data_url": "data.zip", "validation": items})
    terms = terms_of(i2v, request, FACTORS, ClipShape(9, SIZE, Fraction(24)), trained_size=None)
    first, second, third = prepare_previews(
        request, i2v, terms, find, scans, audio=AudioSection(), audio_rate_hz=None, sound_grid=None
    )

    assert found == [
        ("https://host/a.png", "input.validation.0.image_url"),
        ("b.png", "input.validation.2.image_url"),
    ]
    assert first.footage[Role.START].source.path == image
    assert read_pictures(first.footage[Role.START]).shape == (1, 64, 64, 3)
    assert second.footage == {}
    assert third == first
    assert (first.shape, first.duration_seconds, first.soundtrack) == (terms.shape, Fraction(9, 24), {})


def test_an_item_of_text_alone_is_given_nothing(look: Look) -> None:
    (video,) = look("t2v", {})
    (sound,) = look("t2a", {}, audio_duration_seconds=3)
    assert (video.footage, video.soundtrack, video.duration_seconds) == ({}, {}, Fraction(9, 24))
    assert (sound.shape, sound.soundtrack, sound.duration_seconds) == (None, {}, 3)


def test_keyframes_are_the_images_of_their_fields(look: Look, make_image: Make) -> None:
    images = [make_image(name) for name in ("a", "bb", "ccc")]
    item = dict(zip(("start_image_url", "middle_image_url", "end_image_url"), images, strict=True))
    (preview,) = look("interpolate", item, include_middle_keyframe=True)
    assert [preview.footage[role].source.path for role in KEYFRAMES] == images
    assert {item.shape.num_frames for item in preview.footage.values()} == {1}


def test_the_first_frames_of_a_longer_video_are_given_with_its_mask(look: Look, make_numbered: Make) -> None:
    item = {"video_url": make_numbered("a", 20, side=96), "mask_url": make_numbered("m", 4, side=48)}
    (preview,) = look("inpaint", item)
    assert numbers_of(preview.footage[Role.TARGET]) == list(range(9))
    assert numbers_of(preview.footage[Role.MASK]) == [0, 1, 2, 3, 3, 3, 3, 3, 3]
    assert preview.footage[Role.MASK].canvas == FrameSize(96, 96)


def test_a_mask_may_be_an_image(look: Look, make_numbered: Make, make_image: Make) -> None:
    (preview,) = look("inpaint", {"video_url": make_numbered("a", 9), "mask_url": make_image("m")})
    assert read_pictures(preview.footage[Role.MASK]).shape == (9, 64, 64, 3)


def test_a_slower_reference_is_derived_from_the_given_one(look: Look, make_numbered: Make) -> None:
    factors = {"reference_temporal_scale_factor": 2, "reference_downscale_factor": 2}
    (preview,) = look("v2v", {"reference_video_url": make_numbered("a", 40)}, num_frames=33, **factors)
    assert numbers_of(preview.footage[Role.REFERENCE]) == list(range(0, 33, 2))
    assert preview.footage[Role.REFERENCE].shape.size == FrameSize(32, 32)


@pytest.mark.parametrize(
    ("mode", "field"), [("outpaint", "video_url"), ("v2a", "video_url"), ("v2v", "reference_video_url")]
)
def test_a_video_that_is_shorter_than_the_preview_is_refused_with_the_length_that_would_do(
    look: Look, make_numbered: Make, mode: str, field: str
) -> None:
    fields = RECTANGLE if mode == "outpaint" else {}
    message = (
        rf"input\.validation\.1\.{field}: short\.mp4 has 20 frames at 24 fps, and 25 are needed; "
        r"validation_number_of_frames 17 would do"
    )
    items = {field: make_numbered("long", 25)}, {field: make_numbered("short", 20)}
    with pytest.raises(ConfigError, match=message):
        look(mode, *items, num_frames=25, **fields)
    look(mode, items[1], num_frames=17, **fields)


def test_the_length_that_would_do_is_one_that_the_reference_factor_takes(look: Look, make_numbered: Make) -> None:
    item = {"reference_video_url": make_numbered("a", 30)}
    with pytest.raises(ConfigError, match="validation_number_of_frames 17 would do"):
        look("v2v", item, num_frames=33, reference_temporal_scale_factor=2)
    with pytest.raises(ConfigError, match="validation_number_of_frames 25 would do"):
        look("v2v", item, num_frames=33)


def test_a_short_prefix_holds_its_last_frame_and_a_short_suffix_its_first(look: Look, make_numbered: Make) -> None:
    item = {"video_url": make_numbered("a", 10, peak=0.5)}
    (prefix,) = look("extend-prefix", item, num_frames=17, conditioning_frames=9)
    (suffix,) = look("extend-suffix", item, num_frames=17, conditioning_frames=8)
    assert numbers_of(prefix.footage[Role.TARGET]) == [*range(10), *[9] * 7]
    assert numbers_of(suffix.footage[Role.TARGET]) == [*[0] * 7, *range(10)]

    sounds = [read_sound(item.soundtrack[Role.TARGET], RATE_HZ) for item in (prefix, suffix)]
    # A sine of 1 kHz is quiet twice in 16 samples.
    loud = [np.abs(sound).max(axis=0) > 0.01 for sound in sounds]
    pictured = round(RATE_HZ * Fraction(10, 24))
    assert [len(item) for item in loud] == [round(RATE_HZ * Fraction(17, 24))] * 2
    # The encoder of the file's sound smears it over some samples.
    assert loud[0][: pictured - 2000].mean() > 0.8
    assert not loud[0][pictured + 2000 :].any()
    assert loud[1][-pictured + 2000 :].mean() > 0.8
    assert not loud[1][: -pictured - 2000].any()


def test_a_long_prefix_begins_with_its_video_and_a_long_suffix_ends_with_it(look: Look, make_numbered: Make) -> None:
    item = {"video_url": make_numbered("a", 40, peak=0.5)}
    for mode, count, first in (("extend-prefix", 9, 0), ("extend-suffix", 8, 23)):
        (preview,) = look(mode, item, num_frames=17, conditioning_frames=count)
        assert numbers_of(preview.footage[Role.TARGET]) == list(range(first, first + 17))
        assert span_of(preview.soundtrack[Role.TARGET]) == ("a.mp4", Fraction(first, 24), Fraction(17, 24))


@pytest.mark.parametrize(("mode", "count"), [("extend-prefix", 9), ("extend-suffix", 8)])
def test_an_input_that_is_shorter_than_what_is_given_of_it_is_refused(
    look: Look, make_numbered: Make, mode: str, count: int
) -> None:
    look(mode, {"video_url": make_numbered("enough", count)}, num_frames=17, conditioning_frames=count)
    message = (
        rf"0\.video_url: short\.mp4 has {count - 1} frames at 24 fps, and {count} are given \(conditioning_frames\)"
    )
    with pytest.raises(ConfigError, match=message):
        look(mode, {"video_url": make_numbered("short", count - 1)}, num_frames=17, conditioning_frames=count)


@pytest.mark.parametrize(("mode", "begin"), [("audio-extend-prefix", 0), ("audio-extend-suffix", Fraction(-1, 2))])
def test_a_short_sound_is_padded_with_silence_on_the_side_that_is_generated(
    look: Look, make_sound: Make, mode: str, begin: Fraction
) -> None:
    (preview,) = look(mode, {"audio_url": make_sound("a", 1.5)}, audio_duration_seconds=2)
    sound = preview.soundtrack[Role.TARGET]
    assert span_of(sound) == ("a.wav", begin, 2)
    loud = np.abs(read_sound(sound, RATE_HZ)).reshape(2, 4, -1).max(axis=(0, 2)) > 0.1
    assert loud.tolist() == ([True, True, True, False] if not begin else [False, True, True, True])


@pytest.mark.parametrize(("mode", "begin"), [("audio-extend-prefix", 0), ("audio-extend-suffix", 1)])
def test_a_long_sound_is_extended_at_the_end_that_is_given(look: Look, make_sound: Make, mode: str, begin: int) -> None:
    (preview,) = look(mode, {"audio_url": make_sound("a", 3)}, audio_duration_seconds=2)
    assert span_of(preview.soundtrack[Role.TARGET]) == ("a.wav", begin, 2)


def test_a_sound_that_is_shorter_than_what_is_given_of_it_is_refused(look: Look, make_sound: Make) -> None:
    message = r"0\.audio_url: a\.wav lasts 0\.9 s, and 1 s are given \(conditioning_seconds\)"
    for mode in ("audio-extend-prefix", "audio-extend-suffix"):
        with pytest.raises(ConfigError, match=message):
            look(mode, {"audio_url": make_sound("a", Fraction("0.9"))}, conditioning_seconds=1)


def test_seconds_that_are_generated_must_lie_inside_the_preview(look: Look, make_sound: Make) -> None:
    sound = make_sound("a", 4)
    item = {"audio_url": sound, "time_ranges": [[0.5, 1.0]]}
    (preview,) = look("audio-inpaint", item, audio_duration_seconds=2)
    assert preview.ranges == ((Fraction(1, 2), Fraction(1)),)
    assert span_of(preview.soundtrack[Role.TARGET]) == ("a.wav", 0, 2)
    outside = r"validation\.0\.time_ranges: the range \[2\.5, 3\] is not inside the sound, which goes from 0 to 2 s"
    with pytest.raises(ConfigError, match=outside):
        look("audio-inpaint", {**item, "time_ranges": [[2.5, 3]]}, audio_duration_seconds=2)
    with pytest.raises(ConfigError, match="the ranges cover all 2 s of the sound"):
        look("audio-inpaint", {**item, "time_ranges": [[0, 1], [1, 2]]}, audio_duration_seconds=2)


def test_seconds_that_are_generated_must_leave_a_token_of_the_preview(look: Look, make_sound: Make) -> None:
    sound = make_sound("a", 4)
    # Tokens of 40 ms: between the ranges lie hops 1 to 4, which are token 1, or hops 2 to 5, which are none.
    whole = {"audio_url": sound, "time_ranges": [[0, 0.01], [0.05, 2]]}
    look("audio-inpaint", whole, audio_duration_seconds=2)
    none = {**whole, "time_ranges": [[0, 0.02], [0.06, 2]]}
    message = r"validation\.1\.time_ranges: the ranges leave no token of 0\.04 s of the sound's 2 s whole"
    with pytest.raises(ConfigError, match=message):
        look("audio-inpaint", whole, none, audio_duration_seconds=2)


def test_a_reference_of_another_aspect_than_its_video_is_refused(look: Look, make_film: Make) -> None:
    video, mask = make_film("v", 96, 64), make_film("m", 64, 96)
    # At 64x64 the video loses 16 columns on each side, the references 17 and 18.
    alike, unlike = make_film("r", 98, 64), make_film("u", 50, 32)
    item = {"video_url": video, "mask_url": mask}
    look("v2v-masked", {**item, "reference_video_url": alike})
    look("v2v", {"reference_video_url": unlike})
    message = r"0\.reference_video_url: v\.mp4 is 96x64 and its reference u\.mp4 50x32: at 64x64 they would lose other"
    with pytest.raises(ConfigError, match=message):
        look("v2v-masked", {**item, "reference_video_url": unlike})


@pytest.mark.parametrize(("mode", "field"), [("audio-inpaint", "audio_url"), ("a2a", "reference_audio_url")])
def test_a_sound_that_is_shorter_than_the_preview_is_refused_with_the_duration_that_would_do(
    look: Look, make_sound: Make, mode: str, field: str
) -> None:
    ranges = {"time_ranges": [[0.1, 0.2]]} if mode == "audio-inpaint" else {}
    message = rf"0\.{field}: a\.wav lasts 1\.55 s, and 2 s are needed; audio_duration_seconds 1\.5 would do"
    item = {field: make_sound("a", Fraction("1.55")), **ranges}
    with pytest.raises(ConfigError, match=message):
        look(mode, item, audio_duration_seconds=2)
    look(mode, item, audio_duration_seconds=1.5)


def test_a_sound_drives_a_preview_from_its_begin_and_may_be_the_track_of_a_video(
    look: Look, make_image: Make, make_sound: Make, make_video: Make
) -> None:
    image = make_image("i")
    items = [{"image_url": image, "audio_url": url} for url in (make_sound("a", 1), make_video("b", 20, peak=0.5))]
    first, second = look("a2v", *items)
    assert span_of(first.soundtrack[Role.TARGET]) == ("a.wav", 0, Fraction(9, 24))
    assert second.soundtrack[Role.TARGET].source.name == "b.mp4"
    assert list(first.footage) == [Role.START]
    with pytest.raises(ConfigError, match=r"0\.audio_url: c\.wav has 20 .* 25 are .*; validation_number_of_frames 17 "):
        look("a2v", {"image_url": image, "audio_url": make_sound("c", Fraction(20, 24))}, num_frames=25)


def test_a_reference_is_heard_unless_it_has_a_sound_of_its_own(look: Look, make_video: Make, make_sound: Make) -> None:
    reference, silent = ({"reference_video_url": make_video(name, 20, peak=peak)} for name, peak in RECORDINGS)
    first, second = look("av2av", reference, {**silent, "reference_audio_url": make_sound("s", 1)})
    assert span_of(first.soundtrack[Role.REFERENCE_SOUND]) == ("r.mp4", 0, Fraction(9, 24))
    assert span_of(second.soundtrack[Role.REFERENCE_SOUND]) == ("s.wav", 0, Fraction(9, 24))
    assert list(first.soundtrack) == list(second.soundtrack) == [Role.REFERENCE_SOUND]


def test_only_pictures_are_given_of_a_video_whose_sound_is_generated(look: Look, make_video: Make) -> None:
    video = make_video("v", 20, peak=0.5)
    item = {"video_url": video, "mask_url": video, "reference_video_url": video}
    (masked,) = look("av2av-masked", item)
    (sounded,) = look("v2a", {"video_url": video})
    assert list(masked.soundtrack) == [Role.REFERENCE_SOUND]
    assert sorted(masked.footage) == sorted([Role.TARGET, Role.MASK, Role.REFERENCE])
    assert (list(sounded.footage), sounded.soundtrack) == ([Role.TARGET], {})
    assert times_of(masked.footage[Role.REFERENCE]) == times_of(masked.footage[Role.TARGET])


@pytest.mark.parametrize(
    ("mode", "field", "kind", "problem"),
    [
        ("v2a", "video_url", "image", r"x\.png is an image, and a video is needed"),
        ("v2v", "reference_video_url", "sound", r"x\.wav has no video track; it holds: audio"),
        ("v2a", "video_url", "text", r"x\.txt cannot be opened as media"),
        ("i2v", "image_url", "video", r"x\.mp4 is a video, and an image is needed"),
        ("i2v", "image_url", "text", r"x\.txt is not an image"),
        ("inpaint", "mask_url", "sound", r"x\.wav has no video track"),
        ("inpaint", "mask_url", "text", r"x\.txt cannot be opened as media"),
        ("a2a", "reference_audio_url", "image", r"x\.png is an image, and a video or a sound is needed"),
        ("a2a", "reference_audio_url", "text", r"x\.txt cannot be opened as media"),
        ("a2a", "reference_audio_url", "video", r"x\.mp4 has no audio track\. Give a video or a sound with sound"),
        (
            "av2av",
            "reference_video_url",
            "video",
            r"x\.mp4 has no audio track, which av2av needs\. Give reference_audio",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_field(
    look: Look,
    tmp_path: Path,
    make_video: Make,
    make_image: Make,
    make_sound: Make,
    mode: str,
    field: str,
    kind: str,
    problem: str,
) -> None:
    (tmp_path / "x.txt").write_text("words")
    make = {
        "image": lambda: make_image("x"),
        "video": lambda: make_video("x", 20),
        "sound": lambda: make_sound("x", 6),
        "text": lambda: tmp_path / "x.txt",
    }
    item = {"video_url": make_video("v", 20)} if mode == "inpaint" else {}
    with pytest.raises(MediaError, match=rf"\Ainput\.validation\.0\.{field}: {problem}"):
        look(mode, {**item, field: make[kind]()})


def test_a_mask_that_is_called_an_image_is_refused_as_one(look: Look, make_video: Make, make_image: Make) -> None:
    mask = make_image("m")
    mask.write_bytes(mask.read_bytes()[:200])
    with pytest.raises(MediaError, match=r"mask_url: m\.png cannot be decoded: .* Export it again as PNG or JPEG"):
        look("inpaint", {"video_url": make_video("v", 9), "mask_url": mask})


@pytest.mark.parametrize(
    ("mode", "field", "kinds"),
    [
        ("i2v", "image_url", "an image"),
        ("v2a", "video_url", "a video"),
        ("a2a", "reference_audio_url", "a video or a sound"),
    ],
)
def test_a_file_that_is_not_there_is_refused_by_its_field(look: Look, mode: str, field: str, kinds: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"validation\.0\.{field}: .*absent is not a file\. Give the path of {kinds}\."
    ):
        look(mode, {field: "absent"})


def test_a_mode_that_needs_sound_refuses_a_model_without(look: Look) -> None:
    with pytest.raises(ConfigError, match="t2a needs sound, and the base model has none"):
        look("t2a", {}, audio_rate_hz=None)


def test_a_silent_run_gives_no_sound_and_a_run_with_sound_needs_it_in_every_item(look: Look, make_video: Make) -> None:
    mode = mode_of("extend-prefix")
    items = [{"video_url": make_video(name, 20, peak=peak)} for name, peak in (("loud", 0.5), ("quiet", None))]
    previews = look(mode.name, *items, num_frames=17)
    assert [list(item.soundtrack) for item in previews] == [[Role.TARGET], []]
    assert [item.soundtrack for item in settle_previews(previews, mode, with_audio=False)] == [{}, {}]
    assert settle_previews(previews[:1], mode, with_audio=True) == previews[:1]
    with pytest.raises(
        MediaError, match=r"input\.validation\.1\.video_url: quiet\.mp4 has no audio track, and the clips"
    ):
        settle_previews(previews, mode, with_audio=True)
    assert [item.soundtrack for item in look(mode.name, *items, num_frames=17, with_audio=False)] == [{}, {}]


def test_the_sound_of_other_modes_is_settled_as_it_is(look: Look, make_image: Make, make_sound: Make) -> None:
    item = {"image_url": make_image("i"), "audio_url": make_sound("a", 1)}
    driven, still = look("a2v", item), look("i2v", {"image_url": item["image_url"]})
    assert settle_previews(driven, mode_of("a2v"), with_audio=True) == driven
    assert settle_previews(still, mode_of("i2v"), with_audio=True) == still


@pytest.mark.parametrize("normalize", [True, False])
def test_a_given_sound_is_as_loud_as_in_training(look: Look, make_sound: Make, *, normalize: bool) -> None:
    item = {"reference_audio_url": make_sound("a", 6, peak=0.1)}
    (preview,) = look("a2a", item, audio_normalize=normalize)
    expected = 10 ** (-1 / 20) / 0.1 if normalize else 1
    assert preview.soundtrack[Role.REFERENCE_SOUND].gain == pytest.approx(expected, rel=1e-2)
