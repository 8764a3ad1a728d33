"""The archive of what training saw, opened again."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltx_trainer.artifacts import KEYFRAMES, CachedSet, Clip, Clips, Role
from ltx_trainer.cache.fill import fill_cache
from ltx_trainer.conditions.masks import kept_cells
from ltx_trainer.config import Settings
from ltx_trainer.errors import MediaError, OutOfResources
from ltx_trainer.export import write_debug_dataset
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.media import (
    decode_audio,
    decode_frames,
    read_mask,
    read_pictures,
    read_sound,
    write_exact_audio,
    write_video,
)
from ltx_trainer.models.family import Family
from ltx_trainer.modes import ENDPOINT, Mode
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.tensorfile import read_tensors
from tests.families import LTX23, LTX_VIDEO, both_families

CPU = torch.device("cpu")
DEBUGGED = {LTX23: (f"{ENDPOINT}t2v", ("",)), LTX_VIDEO: ("ltx-video/v2v", ("_start", "_end"))}
"""A mode of each family that has `debug_dataset`, and what its files end with, the target last."""
Load = Callable[..., Settings]


@dataclass(frozen=True)
class Data:
    """What a run trains on, and its record."""

    mode: Mode
    clips: Clips
    cached: CachedSet
    record: Path

    def clip(self, name: str) -> Clip:
        return next(clip for clip in self.clips.clips if clip.name == name)


def prepare(folder: Path, family: Family, settings: Settings, *more: Callable[[Clips], Clips]) -> Data:
    clips = look(settings, Space(folder / "out", folder / "cache")).clips
    for change in more:
        clips = change(clips)
    accelerator, _ = make_accelerator("fp32")
    cached = fill_cache(
        family,
        clips,
        (),
        "",
        folder / "cache",
        still_crf=None,
        accelerator=accelerator,
        track=lambda items, _what, _total: items,
    )
    record = folder / "dataset.json"
    record.write_text(json.dumps({"trained_on": [{"name": clip.name} for clip in clips.clips]}))
    return Data(settings.mode, clips, cached, record)


def with_a_scene(clips: Clips) -> Clips:
    """Cut a second clip out of the first one's file, as splitting into scenes does."""
    first, *rest = clips.clips
    later = Fraction(2, 24)
    scene = replace(
        first,
        name=f"{first.name}#scene-002",
        footage={role: replace(footage, start_seconds=later) for role, footage in first.footage.items()},
        soundtrack={role: replace(sound, start_seconds=later) for role, sound in first.soundtrack.items()},
    )
    return replace(clips, clips=(first, scene, *rest))


@pytest.fixture(scope="session")
def data(
    tmp_path_factory: pytest.TempPathFactory, family: Family, load: Load, write_clip: Any, write_archive: Any
) -> Data:
    """Two videos with sound, one of them in a folder and in two scenes, each its own reference if any."""
    folder = tmp_path_factory.mktemp("data")
    endpoint, ends = DEBUGGED[family.facts.family]
    clips = {
        name: write_clip(folder / f"{seed}.mp4", seed=seed) for seed, name in enumerate(("birds/a finch", "zoo"), 1)
    }
    files = {f"{name}{end}.mp4": clip for name, clip in clips.items() for end in ends}
    archive = write_archive(folder / "clips.zip", {**files, "birds/a finch.txt": "TOK a finch"})
    fields = (f"training_data_url={archive}", "trigger_phrase=TOK", "number_of_frames=9", "validation=[]")
    settings = load(f"endpoint={endpoint}", *(f"input.{field}" for field in fields))
    return prepare(folder, family, settings, with_a_scene)


@pytest.fixture
def shown(family: Family) -> Callable[[str], str]:
    """Give a function that gives what the target of a clip is called in the archive."""
    return lambda name: f"{name}{DEBUGGED[family.facts.family][1][-1]}.mp4"


@pytest.fixture
def write(data: Data, family: Family, tmp_path: Path) -> Callable[..., Path]:
    def run(of: Data = data, source: Any = "sources", folder: Path = tmp_path) -> Path:
        return write_debug_dataset(
            of.clips, of.cached, family, folder, mode=of.mode, source=source, still_crf=33, record=of.record, device=CPU
        )

    return run


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def test_every_clip_has_its_pictures_caption_and_sound_under_its_own_name(write: Callable[..., Path]) -> None:
    with zipfile.ZipFile(write()) as archive:
        assert archive.namelist() == [
            f"{name}.{extension}"
            for name in ("birds/a finch", "birds/a finch#scene-002", "zoo")
            for extension in ("mp4", "txt", "wav")
        ] + ["dataset.json"]
        assert archive.read("birds/a finch#scene-002.txt").decode() == "TOK a finch"
        assert archive.read("zoo.txt").decode() == "TOK"
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("source", ["sources", "latents"])
def test_the_archive_can_be_trained_on_and_gives_the_same_clips(
    write: Callable[..., Path], data: Data, load: Load, tmp_path: Path, source: str
) -> None:
    settings = load(f"input.training_data_url={write(source=source)}", "input.trigger_phrase=TOK")

    again = look(settings, Space(tmp_path / "out", tmp_path / "cache")).clips

    def facts(clips: Clips) -> list[Any]:
        return sorted((clip.name, clip.caption, clip.footage[Role.TARGET].shape) for clip in clips.clips)

    assert str(facts(again)) == str(facts(data.clips))
    assert again.with_audio
    assert {clip.footage[Role.TARGET].start_seconds for clip in again.clips} == {0}


def test_the_samples_are_exactly_those_that_were_encoded(
    write: Callable[..., Path], data: Data, tmp_path: Path
) -> None:
    folder = unpacked(write(), tmp_path / "archive")

    for name in ("birds/a finch#scene-002", "zoo"):
        given = read_sound(data.clip(name).soundtrack[Role.TARGET], 16000)
        found = decode_audio(
            folder / f"{name}.wav", start_seconds=Fraction(0), span_seconds=Fraction(9, 24), rate_hz=16000
        )
        assert found.shape == (2, 6000)
        assert np.array_equal(found, given)


def test_exact_sound_keeps_what_is_beyond_full_scale(tmp_path: Path) -> None:
    samples = np.array([[1.75, -3.0, 1e-7], [0.0, 1 / 3, -1.0]], np.float32)

    write_exact_audio(tmp_path / "loud.wav", samples, 48000)

    span = Fraction(3, 48000)
    found = decode_audio(tmp_path / "loud.wav", start_seconds=Fraction(0), span_seconds=span, rate_hz=48000)
    assert np.array_equal(found, samples)


def test_the_pictures_are_those_that_were_encoded_and_have_their_sound(
    write: Callable[..., Path], data: Data, tmp_path: Path
) -> None:
    folder = unpacked(write(), tmp_path / "archive")

    for name, other in (("birds/a finch#scene-002", "birds/a finch"), ("zoo", "birds/a finch")):
        footage = data.clip(name).footage[Role.TARGET]
        times = midpoint_times(Fraction(0), Fraction(9, 24), 9)
        found = decode_frames(folder / f"{name}.mp4", times, footage.shape.size).astype(int)

        # Colours are stored at half the resolution.
        assert np.abs(found - read_pictures(footage)).mean() < 1
        assert np.abs(found - read_pictures(data.clip(other).footage[Role.TARGET])).mean() > 3
        sound = decode_audio(
            folder / f"{name}.mp4", start_seconds=Fraction(0), span_seconds=Fraction(9, 24), rate_hz=16000
        )
        assert np.corrcoef(sound[0], read_sound(data.clip(name).soundtrack[Role.TARGET], 16000)[0])[0, 1] > 0.95


def test_latents_are_heard_as_the_codec_decodes_them(
    write: Callable[..., Path], data: Data, family: Family, tmp_path: Path
) -> None:
    folder = unpacked(write(source="latents"), tmp_path / "archive")
    example = next(example for example in data.cached.examples if example.name == "zoo")

    with family.audio_codec(CPU) as codec:
        heard, rate_hz = (
            codec.decode(read_tensors(example.media.audio[Role.TARGET])["latents"]).numpy(),
            codec.output_rate_hz,
        )

    span = Fraction(heard.shape[1], rate_hz)
    found = decode_audio(folder / "zoo.wav", start_seconds=Fraction(0), span_seconds=span, rate_hz=rate_hz)
    assert np.array_equal(found, heard)


@both_families
def test_latents_are_shown_as_the_codec_decodes_them(
    write: Callable[..., Path], data: Data, family: Family, tmp_path: Path, shown: Callable[[str], str]
) -> None:
    folder = unpacked(write(source="latents"), tmp_path / "archive")
    example = next(example for example in data.cached.examples if example.name == "zoo")
    assert example.shape is not None

    with family.video_codec(CPU) as codec:
        seen = codec.decode(read_tensors(example.media.video[Role.TARGET])["latents"]).numpy()

    times = midpoint_times(Fraction(0), Fraction(9) / example.shape.frame_rate, 9)
    pictures = decode_frames(folder / shown("zoo"), times, example.shape.size).astype(int)
    assert (
        np.abs(pictures - seen).mean() < np.abs(pictures - read_pictures(data.clip("zoo").footage[Role.TARGET])).mean()
    )


def test_images_stay_images_to_the_last_bit(
    family: Family, load: Load, write: Callable[..., Path], write_archive: Any, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    archive = write_archive(tmp_path / "images.zip", {"b.png": buffer.getvalue(), "b.txt": "noise"})
    stills = prepare(tmp_path, family, load(f"input.training_data_url={archive}"))

    with zipfile.ZipFile(write(stills)) as opened:
        assert opened.namelist() == ["b.png", "b.txt", "dataset.json"]
        found = np.asarray(Image.open(io.BytesIO(opened.read("b.png"))))

    assert np.array_equal(found[None], read_pictures(stills.clip("b").footage[Role.TARGET]))


@both_families
@pytest.mark.parametrize("source", ["sources", "latents"])
def test_the_same_clips_are_packed_as_the_same_bytes(write: Callable[..., Path], tmp_path: Path, source: str) -> None:
    first, second = (write(source=source, folder=tmp_path / name) for name in ("first", "second"))

    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["debug_dataset.zip"]


@both_families
def test_the_index_is_the_runs_record_and_says_what_is_shown(write: Callable[..., Path], data: Data) -> None:
    with zipfile.ZipFile(write(source="latents")) as archive:
        index = json.loads(archive.read("dataset.json"))

    assert index.pop("made_from")
    assert index == {"shows": "latents", **json.loads(data.record.read_text())}


def test_an_archive_of_the_same_tensors_is_left_as_it_is_and_any_other_is_made_again(
    write: Callable[..., Path], data: Data
) -> None:
    first = write().stat().st_ino
    rest = replace(data.cached, examples=data.cached.examples[1:])

    assert write().stat().st_ino == first
    assert len({first, *(archive.stat().st_ino for archive in [write(source="latents")])}) == 2
    with zipfile.ZipFile(write(replace(data, cached=rest), source="latents")) as archive:
        assert len(archive.namelist()) == 7


@both_families
def test_what_was_left_out_while_encoding_is_not_shown(write: Callable[..., Path], data: Data) -> None:
    rest = tuple(example for example in data.cached.examples if example.name != "zoo")

    with zipfile.ZipFile(write(replace(data, cached=replace(data.cached, examples=rest)))) as archive:
        assert not [name for name in archive.namelist() if "zoo" in name]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_source_that_is_not_what_was_encoded_is_not_shown_for_it(
    write: Callable[..., Path], data: Data, tmp_path: Path, damage: str
) -> None:
    clip = data.clip("zoo")
    footage = clip.footage[Role.TARGET]
    path = tmp_path / "zoo.mp4"
    if damage == "changed":
        path.write_bytes(data.clip("birds/a finch").footage[Role.TARGET].source.path.read_bytes())
    other = replace(clip, footage={Role.TARGET: replace(footage, source=replace(footage.source, path=path))})
    clips = replace(data.clips, clips=tuple(other if each == clip else each for each in data.clips.clips))
    folder = tmp_path / "out"

    with pytest.raises(MediaError, match=r"zoo\.mp4 (has changed|cannot be read).* data\.debug_from latents shows"):
        write(replace(data, clips=clips), folder=folder)

    assert list(folder.iterdir()) == []
    assert write(replace(data, clips=clips), source="latents", folder=folder).is_file()


@pytest.mark.parametrize("source", ["sources", "latents"])
@pytest.mark.parametrize("kib", [20, 180])
def test_a_full_disk_leaves_no_half_archive(
    write: Callable[..., Path], small_disk: Callable[[int], Path], source: str, kib: int
) -> None:
    disk = small_disk(kib)

    with pytest.raises(OutOfResources, match="No space left on the disk"):
        write(source=source, folder=disk)

    assert list(disk.iterdir()) == []


def test_what_a_killed_process_left_is_taken_away(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / ".debug_dataset").mkdir()
    (tmp_path / ".debug_dataset/clip.mp4").write_bytes(b"half")

    archive = write()

    assert list(tmp_path.iterdir()) == [archive]


def png_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory, write_clip: Any) -> Callable[[str], dict[str, Any]]:
    """Give the files of two examples of a mode."""
    folder = tmp_path_factory.mktemp("parts")
    clips = [write_clip(folder / f"{seed}.mp4", seed=seed, num_frames=26) for seed in range(4)]
    for seed in range(2):
        time = np.arange(48000) / 48000
        tone = np.tile(0.4 * np.sin(2 * np.pi * (200 + 90 * seed) * time), (2, 1)).astype(np.float32)
        write_exact_audio(folder / f"{seed}.wav", tone, 48000)
    mask = np.zeros((80, 80), np.uint8)
    mask[:30] = 255
    parts: dict[str, dict[str, Any]] = {
        "i2v": {"": "mp4"},
        "v2v": {"_start": "mp4", "_end": "mp4"},
        "v2v-masked": {"_start": "mp4", "_end": "mp4", "_mask": "png"},
        "inpaint": {"": "mp4", "_mask": "mp4"},
        "interpolate": {"": "mp4"},
        "a2v": {"_start": "mp4", "_audio": "wav", "_end": "mp4"},
        "v2a": {"": "mp4"},
        "a2a": {"_start": "wav", "_end": "wav"},
        "audio-inpaint": {"": "wav", "_mask": "json"},
        "av2av": {"_start": "mp4", "_end": "mp4"},
    }

    def content(index: int, suffix: str, kind: str) -> Any:
        if kind == "json":
            return "[[0.125, 0.25], [0.375, 0.5]]"
        if suffix == "_mask":
            return png_of(mask) if kind == "png" else mask_video(folder / "mask.mp4")
        return folder / f"{index}.wav" if kind == "wav" else clips[2 * index + (suffix == "_start")]

    def make(mode: str) -> dict[str, Any]:
        files = {
            f"x {index}{suffix}.{kind}": content(index, suffix, kind)
            for index in range(2)
            for suffix, kind in parts[mode].items()
        }
        return files | {f"x {index}.txt": f"number {index}" for index in range(2)}

    return make


def mask_video(path: Path) -> Path:
    """Draw a white square that moves to the right."""
    frames = np.zeros((26, 64, 64, 3), np.uint8)
    for index in range(26):
        frames[index, 16:48, index : index + 24] = 255
    write_video(path, frames, Fraction(24))
    return path


LAID_OUT = {
    "i2v": ["mp4", "txt", "wav"],
    "v2v": ["_end.mp4", "_start.mp4", "txt"],
    "v2v-masked": ["_end.mp4", "_mask.png", "_start.mp4", "txt"],
    "inpaint": ["_mask.mp4", "mp4", "txt"],
    "interpolate": ["mp4", "txt"],
    "a2v": ["_audio.wav", "_end.mp4", "_start.png", "txt"],
    "v2a": ["mp4", "txt", "wav"],
    "a2a": ["_end.wav", "_start.wav", "txt"],
    "audio-inpaint": ["_mask.json", "txt", "wav"],
    "av2av": ["_end.mp4", "_end.wav", "_start.mp4", "_start.wav", "txt"],
}


@pytest.fixture
def prepared(
    load: Load, family: Family, members: Callable[..., Any], write_archive: Any, tmp_path: Path
) -> Callable[[str], tuple[Data, Callable[[Path], Clips]]]:
    """Give what a mode trains on, and a function that looks at another archive as it looked at the first."""

    def make(mode: str) -> tuple[Data, Callable[[Path], Clips]]:
        fields = {
            "v2v": ["input.reference_downscale_factor=2", "input.reference_temporal_scale_factor=2"],
            "interpolate": ["input.include_middle_keyframe=true"],
        }.get(mode, [])
        if "audio" in mode or mode == "a2a":
            fields = ["input.audio_duration_seconds=0.5"]
        endpoint = DEBUGGED[LTX_VIDEO][0] if family.facts.family == LTX_VIDEO else f"{ENDPOINT}{mode}"
        options = (f"endpoint={endpoint}", "input.validation=[]", "input.number_of_frames=17", *fields)

        def settings(archive: Path) -> Settings:
            return load(*options, f"input.training_data_url={archive}")

        def again(archive: Path) -> Clips:
            return look(settings(archive), Space(tmp_path / "again", tmp_path / "again-cache")).clips

        archive = write_archive(tmp_path / f"{mode}.zip", members(mode))
        return prepare(tmp_path, family, settings(archive)), again

    return make


@pytest.mark.parametrize("source", ["sources", "latents"])
@pytest.mark.parametrize(
    ("family_name", "mode"),
    [(LTX23, mode) for mode in LAID_OUT] + [(LTX_VIDEO, "v2v")],
    indirect=["family_name"],
)
def test_the_archive_of_a_mode_is_laid_out_as_it_takes_it_and_gives_the_same_clips(
    write: Callable[..., Path], prepared: Any, family: Family, mode: str, source: str
) -> None:
    made, look_again = prepared(mode)
    archive = write(made, source=source)

    with zipfile.ZipFile(archive) as opened:
        files = [name for name in opened.namelist() if name not in ("dataset.json", "keyframes.zip")]
    again = look_again(archive)

    expected = {f"x {index}{'' if end[0] == '_' else '.'}{end}" for index in range(2) for end in LAID_OUT[mode]}
    assert set(files) == expected
    assert [(clip.name, clip.caption, clip.ranges) for clip in again.clips] == [
        (clip.name, clip.caption, clip.ranges) for clip in made.clips.clips
    ]
    for before, after in zip(made.clips.clips, again.clips, strict=True):
        assert {role: item.shape for role, item in before.footage.items()} == {
            role: item.shape for role, item in after.footage.items()
        }
        assert before.soundtrack.keys() == after.soundtrack.keys()
        for role, footage in before.footage.items():
            if role is Role.MASK:
                kept, kept_again = (
                    kept_cells(torch.from_numpy(read_mask(item)), family.facts.factors)
                    for item in (footage, after.footage[role])
                )
                assert torch.equal(kept, kept_again)
                continue
            seen, seen_again = read_pictures(footage).astype(int), read_pictures(after.footage[role])
            if source == "sources":
                assert np.abs(seen - seen_again).mean() < 1.5, role
        for role, track in before.soundtrack.items() if source == "sources" and not before.footage else ():
            heard, heard_again = read_sound(track, 16000), read_sound(after.soundtrack[role], 16000)
            assert np.abs(heard - heard_again).max() < 1e-3


def test_pictures_are_heard_with_the_sound_of_their_own_role(
    write: Callable[..., Path], prepared: Any, tmp_path: Path
) -> None:
    made, _ = prepared("av2av")
    folder = unpacked(write(made), tmp_path / "archive")
    clip = made.clip("x 1")

    for suffix, role in (("_end", Role.TARGET), ("_start", Role.REFERENCE_SOUND)):
        given = read_sound(clip.soundtrack[role], 16000)
        for extension, least in (("wav", 0.9999), ("mp4", 0.95)):
            path = folder / f"x 1{suffix}.{extension}"
            span = Fraction(17, 24)
            found = decode_audio(path, start_seconds=Fraction(0), span_seconds=span, rate_hz=16000)
            assert np.corrcoef(found[0], given[0])[0, 1] > least


@pytest.mark.parametrize("source", ["sources", "latents"])
def test_keyframes_are_shown_as_they_were_encoded(
    write: Callable[..., Path], prepared: Any, family: Family, tmp_path: Path, source: str
) -> None:
    made, _ = prepared("interpolate")
    folder = unpacked(write(made, source=source), tmp_path / "archive")
    folder = unpacked(folder / "keyframes.zip", tmp_path / "keyframes")
    assert len(list(folder.iterdir())) == 6
    example, clip = made.cached.examples[0], made.clips.clips[0]
    assert example.name == clip.name

    with family.video_codec(CPU) as codec:
        for role, name in zip(KEYFRAMES, ("first", "middle", "last"), strict=True):
            shown = np.asarray(Image.open(folder / f"{clip.name}_{name}.png"))
            decoded = codec.decode(read_tensors(example.media.video[role])["latents"]).numpy()
            given = read_pictures(clip.footage[role]) if source == "sources" else decoded
            assert np.array_equal(shown[None], given)


def test_an_archive_of_sound_alone_opens_no_video_vae(
    write: Callable[..., Path], prepared: Any, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = prepared("a2a")
    monkeypatch.setattr(type(family), "video_codec", None)

    assert write(made, source="latents").is_file()


def test_other_ranges_make_another_archive(write: Callable[..., Path], prepared: Any) -> None:
    made, _ = prepared("audio-inpaint")
    first = write(made).stat().st_ino
    assert write(made).stat().st_ino == first
    moved = ((Fraction(1, 8), Fraction(1, 2)),)
    clips = [replace(clip, ranges=moved) for clip in made.clips.clips]
    examples = [replace(item, media=replace(item.media, ranges=moved)) for item in made.cached.examples]
    other = replace(
        made,
        clips=replace(made.clips, clips=tuple(clips)),
        cached=replace(made.cached, examples=tuple(examples)),
    )

    with zipfile.ZipFile(write(other)) as archive:
        assert json.loads(archive.read("x 0_mask.json")) == [[0.125, 0.5]]
