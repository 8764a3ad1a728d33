"""Previews of every mode: what is given comes out as it came in, and nothing is loaded that the mode has no use for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ltx_trainer import media
from ltx_trainer.artifacts import CachedMedia, CachedPreview, CachedSet, MediaKind, Render, Role
from ltx_trainer.conditions import Terms, terms_of
from ltx_trainer.conditions.masks import spread_cells
from ltx_trainer.conditions.streams import Latents
from ltx_trainer.config import Settings
from ltx_trainer.diffusion import GuidanceScales
from ltx_trainer.geometry import ClipShape, FrameSize, num_audio_tokens
from ltx_trainer.models import ModelFacts
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.models.lora import attach_lora
from ltx_trainer.models.ltx2 import Ltx2Family
from ltx_trainer.modes import MODES, Condition, Mode
from ltx_trainer.validate import Sampling, Showing, as_tokens, given_streams, sample, starting_noise
from ltx_trainer.validate.shown import kept_samples
from tests.rendering import render_previews

CPU = torch.device("cpu")
SHAPE = ClipShape(17, FrameSize(64, 64), Fraction(24))
SCALES = GuidanceScales(cfg=3, stg=1, modality=3, rescale=0.7)
SAMPLING = Sampling(num_steps=2, seed=5, scales={"video": SCALES, "audio": SCALES}, stg_blocks=(0,))
RANGES = ((Fraction(1, 5), Fraction(2, 5)),)
BY_NAME = {mode.name: mode for mode in MODES}
REQUEST = {
    "outpaint": {"crop_top_left": [10, 0], "crop_bottom_right": [50, 64]},
    "v2v": {"reference_downscale_factor": 2, "reference_temporal_scale_factor": 2},
    "ltx-video/v2v": {"reference_downscale_factor": 2},
    "interpolate": {"include_middle_keyframe": True},
    "extend-prefix": {"with_audio": True},
    "extend-suffix": {"with_audio": True},
}


def mode_of(name: str) -> Mode:
    return BY_NAME[name]


def terms_for(mode: Mode, family: Family) -> Terms:
    request = {"training_data_url": "clips.zip", **REQUEST.get(mode.name, {})}
    if not mode.has_video:
        request |= {"audio_duration_seconds": 0.7}
    if "conditioning_seconds" in mode.fields:
        request |= {"conditioning_seconds": 0.3}
    settings = Settings.model_validate({"endpoint": mode.endpoint, "input": request})
    shape = SHAPE if mode.has_video else None
    return terms_of(mode, settings.input, family.facts.factors, shape, trained_size=None)


def has_audio(mode: Mode) -> bool:
    return mode.needs_audio or mode.name.startswith("extend")


def given_for(mode: Mode, family: Family, terms: Terms) -> Latents:
    """Draw what an item of a mode is given."""
    generator = torch.Generator().manual_seed(3)
    facts, hearing = family.facts, family.facts.audio
    video: dict[Role, Tensor] = {}
    audio: dict[Role, Tensor] = {}

    def pictures(shape: ClipShape) -> Tensor:
        grid = shape.latent_grid(facts.factors)
        return torch.randn(1, facts.video_channels, grid.frames, grid.rows, grid.columns, generator=generator)

    def sound() -> Tensor:
        assert hearing is not None
        count = num_audio_tokens(terms.duration_seconds, hearing.tokens_per_second)
        return torch.randn(1, hearing.latent_channels, count, hearing.latent_mel_bins, generator=generator)

    still = ClipShape(1, SHAPE.size, SHAPE.frame_rate)
    for item in mode.item_fields:
        match item.role:
            case Role.TARGET if mode.has_video and MediaKind.VIDEO in item.kinds:
                video[Role.TARGET] = pictures(SHAPE)
                if mode.name.startswith("extend"):
                    audio[Role.TARGET] = sound()
            case Role.TARGET | Role.SOUND:
                audio[Role.TARGET] = sound()
            case Role.REFERENCE:
                video[Role.REFERENCE] = pictures(terms.reference_shape)
            case Role.REFERENCE_SOUND:
                audio[Role.REFERENCE_SOUND] = sound()
            case Role.MASK:
                video[Role.MASK] = torch.rand(pictures(SHAPE)[:, 0].shape, generator=generator) < 0.5
            case Role.RANGES:
                pass
            case role:
                video[role] = pictures(still)
    return Latents(video, audio, [RANGES] if Condition.RANGES in mode.conditions else [])


@pytest.fixture(scope="module")
def prompts(family: Family, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    encoded = family.encode_prompts(["a red ball", "blurry"], CPU, scratch=tmp_path_factory.mktemp("scratch"))
    return {text: {name: tensor[None] for name, tensor in embeddings.items()} for text, embeddings in encoded}


@pytest.fixture(scope="module")
def adapted(family: Family) -> Iterator[nn.Module]:
    with family.transformer(CPU, torch.float32) as transformer:
        generator = torch.Generator().manual_seed(0)
        attach_lora(transformer, family.lora_modules(["attn1"]), rank=8, alpha=8, dropout=0, generator=generator)
        yield transformer


@pytest.mark.parametrize(
    ("family_name", "name"),
    [pytest.param(mode.family, mode.name, id=mode.name) for mode in MODES],
    indirect=["family_name"],
)
def test_what_is_given_of_a_target_is_sampled_bit_for_bit_and_the_rest_is_not(
    name: str, family: Family, adapted: nn.Module, prompts: dict[str, dict[str, Tensor]]
) -> None:
    mode = mode_of(name)
    terms, with_audio = terms_for(mode, family), has_audio(mode)
    given = given_for(mode, family, terms)
    streams = given_streams(family, terms, given, 1, with_audio=with_audio)

    sampled = sample(family, adapted, prompts["a red ball"], prompts["blurry"], terms, streams, SAMPLING)

    assert (
        sampled.keys()
        == streams.keys()
        == ({"video"} & {mode.has_video and "video"}) | ({"audio"} if with_audio else set())
    )
    noise = starting_noise(family, terms, 1, SAMPLING.seed, with_audio=with_audio)
    found = as_tokens(sampled)
    for stream_name, stream in streams.items():
        tokens = found[stream_name]
        kept = stream.given[:, : stream.num_target]
        clean = stream.clean[:, : stream.num_target]
        assert tokens.shape == clean.shape
        assert torch.equal(tokens[kept], clean[kept])
        assert kept.all() == stream.frozen == (stream_name not in noise)
        assert (tokens[~kept] != clean[~kept]).all()


def test_what_is_given_changes_nothing_of_the_noise_that_the_target_starts_from(family: Family) -> None:
    def noise(name: str) -> dict[str, Tensor]:
        return starting_noise(family, terms_for(mode_of(name), family), 1, 7, with_audio=True)

    plain = noise("t2v")
    for name in ("av2av", "extend-prefix", "interpolate"):
        assert all(torch.equal(value, plain[stream]) for stream, value in noise(name).items())
    assert noise("a2v").keys() == {"video"}
    assert noise("v2a").keys() == {"audio"}


def test_a_stream_that_is_given_whole_is_not_guided_and_its_scales_ask_for_no_pass(
    family: Family, adapted: nn.Module, prompts: dict[str, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, passes = mode_of("v2a"), []
    predict = type(family).predict

    def watched(*args: Any, **options: Any) -> dict[str, Tensor]:
        passes.append(options)
        return predict(*args, **options)

    monkeypatch.setattr(type(family), "predict", watched)
    off = GuidanceScales(cfg=1, stg=0, modality=1, rescale=0)
    sampling = Sampling(1, 5, {"video": SCALES, "audio": off}, (0,))
    terms = terms_for(mode, family)
    streams = given_streams(family, terms, given_for(mode, family, terms), 1, with_audio=True)

    sample(family, adapted, prompts["a red ball"], prompts["blurry"], terms, streams, sampling)

    assert len(passes) == 1


class Watched(Ltx2Family):
    """The real family, with its codecs' work taken down."""

    def __init__(self, facts: ModelFacts) -> None:
        super().__init__(facts)
        self.opened: set[str] = set()

    @contextmanager
    def video_codec(self, device: torch.device) -> Iterator[VideoCodec]:
        self.opened.add("video")
        with super().video_codec(device) as codec:
            yield codec

    @contextmanager
    def audio_codec(self, device: torch.device) -> Iterator[AudioCodec]:
        self.opened.add("audio")
        with super().audio_codec(device) as codec:
            yield codec


@pytest.fixture
def render(
    facts: ModelFacts, adapted: nn.Module, prompts: dict[str, dict[str, Tensor]], tmp_path: Path
) -> Callable[..., tuple[Render, Watched, Latents]]:
    """Give a function that renders one item of a mode."""

    def run(name: str, step: int = 0, **showing: bool) -> tuple[Render, Watched, Latents]:
        family, mode = Watched(facts), mode_of(name)
        terms, with_audio = terms_for(mode, family), has_audio(mode)
        given = given_for(mode, family, terms)
        texts = [tmp_path / f"prompt-{index}.safetensors" for index in range(2)]
        for path, prompt in zip(texts, prompts.values(), strict=True):
            save_file({part: tensor[0].contiguous() for part, tensor in prompt.items()}, path)
        files: dict[str, dict[Role, Path]] = {"video": {}, "audio": {}}
        for kind, parts in (("video", given.video), ("audio", given.audio)):
            for role, tensor in parts.items():
                files[kind][role] = tmp_path / f"{kind}-{role.name}.safetensors"
                content = {"kept" if role is Role.MASK else "latents": tensor[0].contiguous()}
                save_file(content, files[kind][role])
        shown = CachedMedia(files["video"], files["audio"], RANGES if given.ranges else ())
        preview = CachedPreview(terms.shape, terms.duration_seconds, shown, texts[0])
        cached = CachedSet((), (), texts[0], texts[1], (preview,), with_audio, 0)
        render = render_previews(
            family,
            adapted,
            cached,
            terms,
            SAMPLING,
            tmp_path / "previews",
            step=step,
            base="base",
            showing=Showing(**showing),
        )
        return render, family, given

    return run


@pytest.mark.parametrize(
    ("name", "files", "opened"),
    [
        ("t2a", {"all.wav", "item-1.wav"}, {"audio"}),
        ("audio-inpaint", {"all.wav", "item-1.wav", "input-1.wav"}, {"audio"}),
        ("v2a", {"all.wav", "item-1.wav", "item-1.mp4"}, {"video", "audio"}),
        ("inpaint", {"all.mp4", "item-1.mp4", "input-1.mp4"}, {"video"}),
    ],
)
def test_a_mode_leaves_its_own_files_and_loads_no_codec_but_its_own(
    render: Callable[..., tuple[Render, Watched, Latents]], name: str, files: set[str], opened: set[str]
) -> None:
    made, family, _ = render(name)

    assert {path.name for path in made.joined.parent.iterdir()} == files | {"origin.txt"}
    assert family.opened == opened


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The frames of each video that is written, before they are encoded, by the name of its file."""
    frames_of: dict[str, Tensor] = {}
    write = media.write_video

    def watched(path: Path, frames: np.ndarray, *args: Any, **options: Any) -> None:
        frames_of[path.name] = torch.from_numpy(frames)
        write(path, frames, *args, **options)

    monkeypatch.setattr(media, "write_video", watched)
    return frames_of


@pytest.mark.parametrize("name", ["inpaint", "outpaint", "extend-prefix", "extend-suffix", "v2v-masked", "i2v", "a2v"])
def test_kept_pixels_are_the_inputs_round_trip_before_they_are_encoded(
    render: Callable[..., tuple[Render, Watched, Latents]], written: dict[str, Tensor], name: str
) -> None:
    _, family, given = render(name)
    shown = written["item-1.mp4"].clone()
    render(name, composite=False)
    plain = written["item-1.mp4"]

    with family.video_codec(CPU) as codec:
        source = given.video.get(Role.TARGET, given.video.get(Role.START))
        assert source is not None
        # Of a start still there is frame 0 alone, which is all that is compared of it.
        own = codec.decode(source[0]).expand_as(plain)
    stream = given_streams(family, terms_for(mode_of(name), family), given, 1, with_audio=has_audio(mode_of(name)))
    grid = SHAPE.latent_grid(family.facts.factors)
    cells = stream["video"].given[0, : grid.num_tokens].view(grid.frames, grid.rows, grid.columns)
    kept = spread_cells(cells, family.facts.factors)
    assert kept.any()
    assert not kept.all()
    assert torch.equal(shown[kept], own[kept])
    assert torch.equal(shown[~kept], plain[~kept])
    assert not torch.equal(plain[kept], own[kept])


def test_a_reversed_preview_and_what_it_is_given_are_the_same_pictures_from_the_last_to_the_first(
    render: Callable[..., tuple[Render, Watched, Latents]], written: dict[str, Tensor]
) -> None:
    render("v2v")
    forward = {name: frames.clone() for name, frames in written.items()}
    render("v2v", reverse=True)

    assert forward.keys() == {"item-1.mp4", "input-1.mp4"}
    for name, frames in forward.items():
        assert torch.equal(written[name], frames.flip(0))
        assert not torch.equal(frames, frames.flip(0))


@pytest.mark.parametrize("name", ["audio-inpaint", "audio-extend-prefix", "audio-extend-suffix", "extend-prefix"])
def test_kept_samples_are_the_inputs_round_trip_before_they_are_encoded(
    render: Callable[..., tuple[Render, Watched, Latents]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written: dict[str, Tensor] = {}

    def watched(path: Path, samples: np.ndarray, *_: Any, **__: Any) -> None:
        written[path.name] = torch.from_numpy(samples)

    def watched_video(path: Path, *_: Any, audio: np.ndarray, **__: Any) -> None:
        watched(path, audio)

    monkeypatch.setattr(media, "write_audio", watched)
    monkeypatch.setattr(media, "write_video", watched_video)
    monkeypatch.setattr(media, "join_sounds", lambda *_: None)
    monkeypatch.setattr(media, "join_videos", lambda *_: None)
    item = "item-1.mp4" if mode_of(name).has_video else "item-1.wav"

    _, family, given = render(name)
    shown = written[item].clone()
    render(name, composite=False)
    plain = written[item]

    with family.audio_codec(CPU) as codec:
        own, rate_hz = codec.decode(given.audio[Role.TARGET][0]), codec.output_rate_hz
    stream = given_streams(family, terms_for(mode_of(name), family), given, 1, with_audio=True)["audio"]
    kept = kept_samples(stream.given[0], stream.coordinates[0], own.shape[1], rate_hz)
    assert kept.any()
    assert not kept.all()
    assert torch.equal(shown[:, kept], own[:, kept])
    assert not torch.equal(plain[:, kept], own[:, kept])


def test_given_sound_comes_first_then_step_0_then_this_step_with_pauses_between(
    render: Callable[..., tuple[Render, Watched, Latents]],
) -> None:
    start, later = render("a2a")[0], render("a2a", step=3)[0]

    given, rate_hz = media.read_audio(later.joined.with_name("input-1.wav"))
    first, last = media.read_audio(start.items[0])[0], media.read_audio(later.items[0])[0]
    pause = torch.zeros(2, rate_hz // 2)
    expected = torch.cat([torch.from_numpy(given), pause, torch.from_numpy(first), pause, torch.from_numpy(last)], 1)
    assert torch.equal(torch.from_numpy(media.read_audio(later.joined)[0]), expected)


@pytest.mark.parametrize(("beside_input", "abreast"), [(True, 4), (False, 2)])
def test_what_was_given_stands_left_of_step_0_and_this_step_unless_that_is_off(
    render: Callable[..., tuple[Render, Watched, Latents]], beside_input: bool, abreast: int
) -> None:
    render("v2v-masked", beside_input=beside_input)

    made, *_ = render("v2v-masked", step=3, beside_input=beside_input)

    width = media.scan_video(made.joined, find_cuts=False).size.width
    assert width == abreast * SHAPE.size.width
