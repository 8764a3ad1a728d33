"""The cache of the miniature, filled with tiny real media."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from ltx_trainer.artifacts import CachedExample, CachedSet, Clip, Footage, Preview, Role, SourceFile
from ltx_trainer.cache.fill import Cache, fill_cache
from ltx_trainer.cache.key import audio_key, prompt_key, video_key
from ltx_trainer.cache.store import TensorStore
from ltx_trainer.config import Settings
from ltx_trainer.digests import FileDigests, file_sha256
from ltx_trainer.errors import DatasetError, MediaError, ModelError, OutOfResources
from ltx_trainer.geometry import ClipShape, FrameSize, num_audio_tokens
from ltx_trainer.media import decode_audio
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.report import track
from tests.families import COMPONENTS, LTX23, LTX_VIDEO, STREAMS, both_families

CPU = torch.device("cpu")
SHAPE = ClipShape(5, FrameSize(64, 64), Fraction(24))
EMBEDDINGS = {LTX23: ("video", "audio"), LTX_VIDEO: ("video", "mask")}


def tensors_in(folder: Path) -> set[Path]:
    """List what lies in a cache under its final name; anything else would not be read as tensors."""
    files = {path for path in (folder / "tensors").rglob("*") if path.is_file()}
    for path in files:
        assert len(path.stem) == 64
        load_file(path)
    return files


def files_of(example: CachedExample) -> dict[str, Path]:
    media = example.media
    audio = {"audio": media.audio[Role.TARGET]} if media.audio else {}
    return {"video": media.video[Role.TARGET], **audio, "prompt": example.prompt}


def preview_of(prompt: str, **footage: Footage) -> Preview:
    """Make an item with pictures by the names of their roles."""
    roles = {Role[name.upper()]: item for name, item in footage.items()}
    return Preview(prompt, SHAPE, SHAPE.duration_seconds, roles, {})


def changed(before: CachedSet, after: CachedSet) -> set[str]:
    """Say which tensors of the only example have another name."""
    old, new = (files_of(cached.examples[0]) for cached in (before, after))
    return {kind for kind in old if old[kind] != new[kind]}


def damage(source: SourceFile) -> None:
    """Damage a file, as if it had been so when it was named."""
    source.path.write_bytes(b"nothing of " + source.name.encode())
    object.__setattr__(source, "sha256", file_sha256(source.path))


@pytest.fixture
def still(tmp_path: Path, as_source: Callable[[Path], SourceFile]) -> Footage:
    """A picture of noise, which a lossy codec changes."""
    path = tmp_path / "still.png"
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return Footage(as_source(path), Fraction(0), Fraction(0), replace(SHAPE, num_frames=1))


@both_families
def test_every_tensor_has_the_shape_that_training_expects(fill: Any, make_clip: Any, family: Family) -> None:
    cached = fill(make_clip(num_frames=9, size=FrameSize(96, 64), with_sound=True))
    example, facts = cached.examples[0], family.facts
    assert example.shape is not None

    files = files_of(example)
    video, prompt = load_file(files["video"])["latents"], load_file(example.prompt)

    assert video.shape == (facts.video_channels, 3, 8, 12)
    assert video.dtype == torch.float32
    assert {name: len(tensor) for name, tensor in prompt.items()} == dict.fromkeys(EMBEDDINGS[facts.family], 64)
    if facts.audio is None:
        assert files.keys() == {"video", "prompt"}
        return
    audio = load_file(files["audio"])["latents"]
    duration_seconds = example.shape.duration_seconds
    assert audio.shape[1] == num_audio_tokens(duration_seconds, facts.audio.tokens_per_second) == 9
    assert audio.shape == (facts.audio.latent_channels, 9, facts.audio.latent_mel_bins)
    assert audio.dtype == torch.float32


def test_an_example_knows_the_file_that_it_is_cut_from(fill: Any, make_clip: Any) -> None:
    scene = replace(make_clip(), name="a#scene-002")

    assert [example.source for example in fill(make_clip("b"), scene).examples] == ["b.mp4", "a.mp4"]


@both_families
def test_pictures_are_the_frames_of_the_span(fill: Any, make_clip: Any, family: Family) -> None:
    clip = make_clip(num_frames=5, start_seconds=Fraction(3, 24))
    with av.open(str(clip.footage[Role.TARGET].source.path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

    found = load_file(fill(clip).examples[0].media.video[Role.TARGET])["latents"]

    with family.video_codec(CPU) as codec:
        spans = {start: codec.encode(torch.from_numpy(frames[start : start + 5])) for start in range(8)}
    # Not equal, because these frames were converted to RGB by other means.
    assert min(spans, key=lambda start: (spans[start] - found).square().mean()) == 3


def test_sound_is_that_of_the_span_made_louder_by_its_gain(fill: Any, make_clip: Any, family: Family) -> None:
    clip = make_clip(start_seconds=Fraction(3, 24), gain=0.5, with_sound=True)
    path = clip.footage[Role.TARGET].source.path
    samples = decode_audio(path, start_seconds=Fraction(3, 24), span_seconds=Fraction(5, 24), rate_hz=16000)

    found = load_file(fill(clip).examples[0].media.audio[Role.TARGET])["latents"]

    with family.audio_codec(CPU) as codec:
        expected = codec.encode(torch.from_numpy(samples * np.float32(0.5)), found.shape[1])
    assert torch.equal(found, expected)


@both_families
def test_prompts_are_the_models_embeddings(fill: Any, make_clip: Any, family: Family, tmp_path: Path) -> None:
    cached = fill(make_clip(caption="two bells"), negative_prompt="blurry")

    ((_, expected),) = family.encode_prompts(["two bells", "", "blurry"], CPU, scratch=tmp_path, wanted=["two bells"])

    found = load_file(cached.examples[0].prompt)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {n: t.tolist() for n, t in expected.items()}


@both_families
def test_a_second_fill_computes_nothing(
    fill: Any, make_clip: Any, still: Footage, cache_folder: Path, family_name: str
) -> None:
    clips = [make_clip("a", with_sound=True), make_clip("b", caption="a bell", with_sound=True)]
    previews = [preview_of("a fox", start=still)]
    first = fill(*clips, previews=previews)
    written = {path: path.stat().st_mtime_ns for path in tensors_in(cache_folder)}

    second = fill(*clips, previews=previews)

    # Two clips of one or two streams, a still; two captions, a preview's prompt, the empty and the negative one.
    assert first.computed == len(written) == 2 * len(STREAMS[family_name]) + 6
    assert second == replace(first, computed=0)
    assert {path: path.stat().st_mtime_ns for path in tensors_in(cache_folder)} == written


def ruin(path: Path) -> None:
    """Replace a file by zeros, and let it look unchanged."""
    facts = path.stat()
    path.write_bytes(bytes(facts.st_size))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@both_families
def test_no_component_is_loaded_for_what_lies_there(
    filled: CachedSet, fill: Any, make_clip: Any, own_miniature: Path, family_name: str
) -> None:
    copy = open_family(read_model(own_miniature, family_name))
    assert fill(make_clip(with_sound=True), base=copy) == filled
    for component in COMPONENTS[family_name]:
        ruin(min((own_miniature / component).glob("*.safetensors")))

    assert fill(make_clip(with_sound=True), base=copy) == filled
    with pytest.raises(ModelError, match=r"does not load as .*header"):
        fill(make_clip(num_frames=9), base=copy)


@both_families
def test_another_caption_costs_one_file(fill: Any, make_clip: Any) -> None:
    before = fill(make_clip("a"), make_clip("b", caption="a bell"))

    after = fill(make_clip("a"), make_clip("b", caption="two bells"))

    assert after.computed == 1
    assert after.examples[0] == before.examples[0]
    assert after.examples[1].prompt != before.examples[1].prompt
    assert after.examples[1].media == before.examples[1].media


CAPTIONS = ("a bell", "a red ball", "a fox", "a red circle moves up while a low tone sounds", "two bells", "waves")


def prompts_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "tensors/prompt").rglob("*.safetensors")}


@both_families
@pytest.mark.parametrize("lost", [slice(2, 3), slice(1, None, 2), slice(None)])
def test_prompts_that_are_computed_again_have_the_same_bytes(
    fill: Any, make_clip: Any, cache_folder: Path, lost: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TEXTS", 5)
    previews = [preview_of(caption) for caption in CAPTIONS]
    whole = fill(make_clip(), previews=previews)
    before = prompts_in(cache_folder)
    files = sorted({item.prompt for item in whole.previews})
    kept = {path: path.stat().st_mtime_ns for path in {*files} - {*files[lost]}}
    for path in files[lost]:
        path.unlink()

    again = fill(make_clip(), previews=previews)

    assert prompts_in(cache_folder) == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert again == replace(whole, computed=len(files[lost]))


@both_families
def test_many_processes_write_the_bytes_of_one(
    fill: Any, make_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TEXTS", 3)
    previews = [preview_of(caption) for caption in CAPTIONS]
    fill(make_clip(), previews=previews, folder=tmp_path / "one")
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    shares = []
    for index in range(2):
        monkeypatch.setattr(Accelerator, "process_index", index)
        fill(make_clip(), previews=previews, folder=tmp_path / "two")
        shares.append(prompts_in(tmp_path / "two"))

    assert prompts_in(tmp_path / "one") == shares[1]
    # Of three batches, two and one.
    assert [len(share) for share in shares] == [5, 8]


@both_families
def test_clips_of_one_caption_share_its_file(fill: Any, make_clip: Any) -> None:
    cached = fill(
        make_clip("a"),
        make_clip("b"),
        previews=[preview_of("a red ball")],
        negative_prompt="",
    )

    assert len({*(example.prompt for example in cached.examples), cached.previews[0].prompt}) == 1
    assert cached.negative_prompt == cached.empty_prompt != cached.examples[0].prompt


@both_families
@pytest.mark.parametrize(
    ("fact", "kinds"),
    [
        ({"num_frames": 9}, {"video", "audio"}),
        ({"num_frames": 9, "span_seconds": Fraction(5, 24)}, {"video", "audio"}),
        ({"span_seconds": Fraction(9, 24)}, {"video", "audio"}),
        ({"size": FrameSize(96, 64)}, {"video"}),
        ({"gain": 0.5}, {"audio"}),
        ({"start_seconds": Fraction(1, 8)}, {"video", "audio"}),
        ({"caption": "a bell"}, {"prompt"}),
        ({"name": "b"}, {"video", "audio"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_fact_of_a_clip_names_what_it_changes_and_nothing_else(
    filled: CachedSet, fill: Any, make_clip: Any, fact: dict[str, Any], kinds: set[str]
) -> None:
    cached = fill(make_clip(**fact, with_sound=True))

    kinds = kinds & files_of(cached.examples[0]).keys()
    assert changed(filled, cached) == kinds
    assert cached.computed == len(kinds)


def test_how_to_stretch_matters_only_where_sound_is_stretched(filled: CachedSet, fill: Any, make_clip: Any) -> None:
    def fill_with(**facts: Any) -> CachedSet:
        clip = make_clip(with_sound=True)
        return fill(replace(clip, soundtrack={Role.TARGET: replace(clip.soundtrack[Role.TARGET], **facts)}))

    longer = Fraction(10, 24)
    stretched = fill_with(span_seconds=longer)

    assert changed(filled, fill_with(preserve_pitch=False)) == set()
    assert changed(stretched, fill_with(span_seconds=longer, preserve_pitch=False)) == {"audio"}
    assert changed(stretched, fill_with(span_seconds=Fraction(11, 24))) == {"audio"}


@pytest.mark.parametrize(
    ("family_name", "component", "kinds"),
    [
        (LTX23, "vae", {"video"}),
        (LTX23, "audio_vae", {"audio"}),
        (LTX23, "text_encoder", {"prompt"}),
        (LTX23, "connectors", {"prompt"}),
        (LTX23, "transformer", set()),
        (LTX_VIDEO, "vae", {"video"}),
        (LTX_VIDEO, "text_encoder", {"prompt"}),
        (LTX_VIDEO, "transformer", set()),
    ],
    indirect=["family_name"],
)
def test_other_weights_name_what_they_compute_and_nothing_else(
    filled: CachedSet,
    fill: Any,
    make_clip: Any,
    own_miniature: Path,
    family_name: str,
    component: str,
    kinds: set[str],
) -> None:
    weights = min((own_miniature / component).glob("*.safetensors"))
    tensors = load_file(weights)
    name = min(tensors)
    save_file({**tensors, name: tensors[name] + 0.5}, weights, metadata={"format": "pt"})

    cached = fill(make_clip(with_sound=True), base=open_family(read_model(own_miniature, family_name)))

    assert changed(filled, cached) == kinds


def test_each_type_of_device_has_tensors_of_its_own(
    family: Family, make_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The precision depends on it. The other device here has shapes alone, so it is asked for names, not for values."""
    clip = make_clip(with_sound=True)

    def names_on(device: str) -> dict[str, str]:
        # The library keeps one device for all accelerators of a process.
        for state in (PartialState, AcceleratorState):
            monkeypatch.setattr(state, "_shared_state", {})
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", device)
        accelerator, _ = make_accelerator("fp32")
        assert accelerator.device == torch.device(device)
        store, digests = TensorStore(), FileDigests(tmp_path / "digests")
        cache = Cache(family, accelerator, store, tmp_path / "scratch", digests, track(Console(quiet=True)))
        return {
            "prompt": prompt_key(clip.caption, cache.weights("text_encoder")),
            "video": video_key(clip.footage[Role.TARGET], cache.weights("vae"), None),
            "audio": audio_key(clip.soundtrack[Role.TARGET], cache.weights("audio_vae"), 5),
        }

    on_cpu, elsewhere = names_on("cpu"), names_on("meta")

    assert {kind for kind in on_cpu if on_cpu[kind] != elsewhere[kind]} == {"prompt", "video", "audio"}
    assert names_on("cpu:0") == on_cpu


@both_families
def test_the_same_model_in_another_folder_computes_nothing(
    filled: CachedSet, fill: Any, make_clip: Any, own_miniature: Path, family_name: str
) -> None:
    copy = open_family(read_model(own_miniature, family_name))

    assert filled.computed == 0
    assert fill(make_clip(with_sound=True), base=copy) == filled


@both_families
def test_settings_of_the_training_do_not_enter(
    tmp_path: Path, clip_archive: Path, miniature_folder: Path, endpoint: str
) -> None:
    def cached(*, seed: int, **request: Any) -> CachedSet:
        body = {"training_data_url": str(clip_archive), "number_of_frames": 9, "resolution": "low", **request}
        settings = Settings.model_validate(
            {
                "endpoint": endpoint,
                "input": body,
                "model": {"base": str(miniature_folder)},
                "training": {"seed": seed},
            }
        )
        plan = look(settings, Space(tmp_path / "out", tmp_path / "cache"))
        family = open_family(plan.facts)
        return fill_cache(
            family,
            plan.clips,
            plan.previews,
            "",
            tmp_path / "cache",
            still_crf=33,
            accelerator=make_accelerator("fp32")[0],
            track=track(Console(quiet=True)),
        )

    first = cached(seed=1)

    assert len(first.examples) == 4
    assert cached(seed=2, learning_rate=1e-3, rank=8, number_of_steps=7) == replace(first, computed=0)
    assert cached(seed=1, trigger_phrase="TOK").computed == 4


@both_families
def test_a_still_is_compressed_as_its_preview_asks(fill: Any, make_clip: Any, still: Footage) -> None:
    preview = [preview_of("a fox", start=still)]

    found = [fill(make_clip(), previews=preview, still_crf=crf).previews[0].media for crf in (None, 51)]

    one, other = (load_file(media.video[Role.START])["latents"] for media in found)
    assert one.shape == other.shape == (16, 1, 8, 8)
    assert not torch.allclose(one, other, atol=0.1)


@both_families
def test_a_still_that_is_the_target_is_not_compressed(fill: Any, make_clip: Any, still: Footage) -> None:
    clip = replace(make_clip(), footage={Role.TARGET: still})

    as_it_is, lossy = (fill(clip, previews=[preview_of("a fox", start=still)], still_crf=crf) for crf in (None, 51))

    assert as_it_is.examples == lossy.examples
    assert as_it_is.examples[0].media.video[Role.TARGET] == as_it_is.previews[0].media.video[Role.START]
    assert as_it_is.previews[0].media.video[Role.START] != lossy.previews[0].media.video[Role.START]


def test_a_start_is_compressed_in_training_as_in_previews(fill: Any, make_clip: Any, still: Footage) -> None:
    clip = make_clip()
    clip = replace(clip, footage={**clip.footage, Role.START: still})

    as_it_is, lossy = (fill(clip, previews=[preview_of("a fox", start=still)], still_crf=crf) for crf in (None, 51))

    for cached in (as_it_is, lossy):
        assert cached.examples[0].media.video[Role.START] == cached.previews[0].media.video[Role.START]
    assert as_it_is.examples[0].media.video[Role.START] != lossy.examples[0].media.video[Role.START]
    assert as_it_is.examples[0].media.video[Role.TARGET] == lossy.examples[0].media.video[Role.TARGET]


def test_a_video_of_a_preview_is_not_compressed(fill: Any, make_clip: Any) -> None:
    clip = make_clip()

    cached = fill(clip, previews=[preview_of("a fox", reference=clip.footage[Role.TARGET])], still_crf=51)

    assert cached.previews[0].media.video[Role.REFERENCE] == cached.examples[0].media.video[Role.TARGET]


def test_a_silent_run_has_no_sound(fill: Any, make_clip: Any, cache_folder: Path) -> None:
    cached = fill(make_clip())

    assert cached.examples[0].media.audio == {}
    assert not cached.with_audio
    assert not (cache_folder / "tensors/audio").exists()


@both_families
def test_a_video_that_is_damaged_costs_only_itself(
    fill: Any, make_clip: Any, cache_folder: Path, family_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    clips = [make_clip("a", with_sound=True), make_clip("b", with_sound=True)]
    damage(clips[0].footage[Role.TARGET].source)

    with caplog.at_level(logging.INFO):
        cached = fill(*clips)

    assert [example.name for example in cached.examples] == ["b"]
    assert [item.name for item in cached.left_out] == ["a"]
    assert "a.mp4 cannot be opened as media" in cached.left_out[0].reason
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"a is left out: {cached.left_out[0].reason}"
    ]
    assert ("Audio: 1 clips, 1 to encode." in caplog.messages) == ("audio" in STREAMS[family_name])
    assert len(tensors_in(cache_folder)) == cached.computed == 3 + len(STREAMS[family_name])


@pytest.mark.parametrize("workers", [None, 2])
def test_a_file_that_is_gone_or_another_ends_the_run_and_what_was_encoded_stays(
    fill: Any, make_clip: Any, cache_folder: Path, workers: int | None
) -> None:
    clips = [make_clip("a"), make_clip("b")]
    source = clips[0].footage[Role.TARGET].source
    content = source.path.read_bytes()

    source.path.write_bytes(content + b"x")
    with pytest.raises(DatasetError, match=r"a\.mp4 has changed since it was first read.*; run again"):
        fill(*clips, workers=workers)
    source.path.unlink()
    with pytest.raises(DatasetError, match=r"a\.mp4 cannot be read any more: No such file.*; run again"):
        fill(*clips, workers=workers)

    kept = tensors_in(cache_folder)
    source.path.write_bytes(content)
    assert len(fill(*clips).examples) == 2
    assert kept
    assert kept < tensors_in(cache_folder)


def test_a_video_without_the_promised_sound_costs_only_itself(
    fill: Any, make_clip: Any, tmp_path: Path, write_clip: Any
) -> None:
    write_clip(tmp_path / "a.mp4", with_sound=False)

    cached = fill(make_clip("a", with_sound=True), make_clip("b", with_sound=True))

    assert [example.name for example in cached.examples] == ["b"]
    assert [(item.name, item.reason) for item in cached.left_out] == [("a", "a.mp4 has no audio track.")]


def test_clips_of_one_damaged_file_are_all_left_out(fill: Any, make_clip: Any) -> None:
    clip = make_clip("a")
    twin = replace(clip, name="twin")
    damage(clip.footage[Role.TARGET].source)

    cached = fill(clip, twin, make_clip("b"))

    assert {item.name for item in cached.left_out} == {"a", "twin"}


@both_families
def test_a_run_without_a_clip_that_decodes_is_refused_with_each_reason(fill: Any, make_clip: Any) -> None:
    clips = [make_clip("a"), make_clip("b")]
    for clip in clips:
        damage(clip.footage[Role.TARGET].source)

    with pytest.raises(DatasetError, match=r"None of the 2 clips .*\n  a: .*a\.mp4 cannot.*\n  b: .*b\.mp4 cannot"):
        fill(*clips)


@both_families
def test_a_previews_still_that_is_damaged_ends_the_run(fill: Any, make_clip: Any, still: Footage) -> None:
    damage(still.source)

    with pytest.raises(MediaError, match=r"^input\.validation\.1: .*still\.png is not an image|still\.png cannot"):
        fill(make_clip(), previews=[preview_of("a bell"), preview_of("a fox", start=still)])


@both_families
def test_what_an_interrupted_fill_wrote_is_kept_and_the_rest_is_computed(
    fill: Any, make_clip: Any, cache_folder: Path
) -> None:
    misfit = make_clip("b", size=FrameSize(60, 60))
    with pytest.raises(RuntimeError, match="size"):
        fill(make_clip("a"), misfit)
    whole = tensors_in(cache_folder)

    resumed = fill(make_clip("a"), make_clip("b"))

    assert {path.parts[-3] for path in whole} == {"prompt", "video"}
    assert resumed.computed == 1
    assert whole < tensors_in(cache_folder)


@both_families
def test_a_full_disk_leaves_only_whole_files(
    fill: Any, make_clip: Any, small_disk: Callable[[int], Path], family_name: str
) -> None:
    disk = small_disk(160 if family_name == LTX23 else 52)

    with pytest.raises(OutOfResources, match="No space left on the disk"):
        fill(make_clip(), folder=disk)

    assert len(tensors_in(disk)) == 2


@pytest.fixture
def make_mask(tmp_path: Path, as_source: Callable[[Path], SourceFile]) -> Callable[..., Footage]:
    """Give a function that draws a mask of 64x64 pixels, white in a rectangle, for clips of a shape."""

    def make(name: str, rows: slice, columns: slice, shape: ClipShape = SHAPE, **facts: Any) -> Footage:
        pixels = np.zeros((64, 64), np.uint8)
        pixels[rows, columns] = 255
        Image.fromarray(pixels).save(tmp_path / name)
        return Footage(as_source(tmp_path / name), Fraction(0), Fraction(0), shape, **facts)

    return make


LEFT, NOWHERE, EVERYWHERE = slice(0, 12), slice(0, 0), slice(None)


def with_mask(clip: Clip, mask: Footage, **roles: Footage) -> Clip:
    return replace(
        clip, footage={**clip.footage, **{Role[name.upper()]: item for name, item in roles.items()}, Role.MASK: mask}
    )


def test_a_mask_becomes_the_cells_that_are_kept(fill: Any, make_clip: Any, make_mask: Any) -> None:
    clip = with_mask(make_clip(), make_mask("m.png", LEFT, EVERYWHERE))

    media = fill(clip).examples[0].media

    assert set(media.video) == {Role.TARGET, Role.MASK}
    kept = load_file(media.video[Role.MASK])["kept"]
    assert kept.dtype == torch.bool
    assert kept.shape == load_file(media.video[Role.TARGET])["latents"].shape[1:] == (2, 8, 8)
    # Twelve rows of pixels touch two rows of cells.
    assert not kept[:, :2].any()
    assert kept[:, 2:].all()


def test_the_canvas_of_a_mask_enters_and_the_rate_of_its_clip_does_not(
    fill: Any, make_clip: Any, make_mask: Any
) -> None:
    def mask_file(**facts: Any) -> Path:
        mask = replace(make_mask("m.png", LEFT, EVERYWHERE), **facts)
        return fill(with_mask(make_clip(), mask)).examples[0].media.video[Role.MASK]

    plain = mask_file()

    assert mask_file(shape=replace(SHAPE, frame_rate=Fraction(12))) == plain
    assert len({plain, mask_file(canvas=FrameSize(64, 64)), mask_file(canvas=FrameSize(64, 96))}) == 3


@pytest.mark.parametrize(
    ("rows", "said"), [(NOWHERE, "the mask is black at every pixel"), (EVERYWHERE, "the mask leaves no cell of 8x8")]
)
def test_a_mask_that_keeps_all_or_nothing_ends_the_run_before_anything_else_is_encoded(
    fill: Any, make_clip: Any, make_mask: Any, cache_folder: Path, rows: slice, said: str
) -> None:
    bad = with_mask(make_clip("a"), make_mask("m.png", rows, EVERYWHERE))

    with pytest.raises(DatasetError, match=f"^a: m.png: {said}"):
        fill(make_clip("b"), bad)

    assert not tensors_in(cache_folder)


def test_a_clip_whose_mask_cannot_be_read_is_left_out_whole(
    fill: Any, make_clip: Any, make_mask: Any, cache_folder: Path
) -> None:
    mask = make_mask("m.png", LEFT, EVERYWHERE)
    damage(mask.source)

    cached = fill(with_mask(make_clip("a"), mask), make_clip("b"))

    assert [example.name for example in cached.examples] == ["b"]
    assert [item.name for item in cached.left_out] == ["a"]
    assert "m.png" in cached.left_out[0].reason
    # Its pictures were not even encoded.
    assert len([path for path in tensors_in(cache_folder) if path.parts[-3] == "video"]) == 1


def test_a_mask_of_a_preview_that_keeps_nothing_ends_the_run(fill: Any, make_clip: Any, make_mask: Any) -> None:
    mask = make_mask("m.png", EVERYWHERE, EVERYWHERE)

    with pytest.raises(DatasetError, match=r"^input\.validation\.0: [^:]+: the mask leaves no cell of 8x8 pixels"):
        fill(make_clip(), previews=[preview_of("a fox", mask=mask)])


@both_families
@pytest.mark.parametrize("role", [Role.REFERENCE, Role.FIRST_KEYFRAME])
def test_a_clip_that_fails_in_one_role_is_left_out_whole(fill: Any, make_clip: Any, role: Role) -> None:
    clip, other = make_clip("a"), make_clip("b")
    damage(other.footage[Role.TARGET].source)
    both = {**clip.footage, role: other.footage[Role.TARGET]}

    cached = fill(replace(clip, footage=both), replace(clip, name="twin"))

    assert [example.name for example in cached.examples] == ["twin"]
    assert [item.name for item in cached.left_out] == ["a"]
    assert "b.mp4 cannot be opened" in cached.left_out[0].reason


def test_every_role_has_a_tensor_of_its_own_shape(fill: Any, make_clip: Any) -> None:
    clip = make_clip(with_sound=True)
    target, sound = clip.footage[Role.TARGET], clip.soundtrack[Role.TARGET]
    half = ClipShape(1, FrameSize(32, 32), Fraction(12))
    clip = replace(
        clip,
        footage={Role.TARGET: target, Role.REFERENCE: replace(target, shape=half)},
        soundtrack={Role.TARGET: sound, Role.REFERENCE_SOUND: replace(sound, duration_seconds=Fraction(1))},
        ranges=((Fraction(0), Fraction(1, 8)),),
    )

    media = fill(clip).examples[0].media

    assert load_file(media.video[Role.REFERENCE])["latents"].shape == (16, 1, 4, 4)
    assert load_file(media.audio[Role.REFERENCE_SOUND])["latents"].shape[1] == 25
    assert load_file(media.audio[Role.TARGET])["latents"].shape[1] == 5
    assert media.ranges == clip.ranges


def test_a_run_without_pictures_never_opens_the_video_vae(fill: Any, make_clip: Any, own_miniature: Path) -> None:
    base = open_family(read_model(own_miniature, LTX23))
    for path in (own_miniature / "vae").glob("*.safetensors"):
        path.unlink()
    clip = replace(make_clip(with_sound=True), footage={})
    preview = Preview("a bell", None, Fraction(1), {}, {Role.TARGET: clip.soundtrack[Role.TARGET]})

    cached = fill(clip, base=base, previews=[preview])

    (example,) = cached.examples
    assert (example.shape, example.source, set(example.media.video)) == (None, "a.mp4", set())
    assert example.media.audio == cached.previews[0].media.audio


def test_what_other_processes_read_ahead_is_encoded_alike(fill: Any, make_clip: Any, tmp_path: Path) -> None:
    clips = [make_clip("a", with_sound=True), make_clip("b", with_sound=True)]
    here = fill(*clips, folder=tmp_path / "here")

    ahead = fill(*clips, folder=tmp_path / "ahead", workers=2)

    for one, other in zip(here.examples, ahead.examples, strict=True):
        assert {kind: path.read_bytes() for kind, path in files_of(one).items()} == {
            kind: path.read_bytes() for kind, path in files_of(other).items()
        }
    assert not list((tmp_path / "ahead" / "spool").iterdir())


def test_a_file_that_cannot_be_read_ahead_costs_only_itself(fill: Any, make_clip: Any) -> None:
    broken, sound = make_clip("a"), make_clip("b")
    damage(broken.footage[Role.TARGET].source)

    cached = fill(broken, sound, workers=2)

    assert [example.name for example in cached.examples] == ["b"]
    assert [(item.name, "a.mp4" in item.reason) for item in cached.left_out] == [("a", True)]
