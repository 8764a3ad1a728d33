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

from ltx_trainer.artifacts import CachedSet, Clip, Clips, Role
from ltx_trainer.cache import fill_cache
from ltx_trainer.config import Settings
from ltx_trainer.errors import MediaError, OutOfResources
from ltx_trainer.export import write_debug_dataset
from ltx_trainer.geometry import midpoint_times
from ltx_trainer.media import decode_audio, decode_frames, read_pictures, read_sound, write_exact_audio
from ltx_trainer.models.family import Family
from ltx_trainer.pipeline import Space, look
from ltx_trainer.processes import make_accelerator
from ltx_trainer.tensorfile import read_tensors

CPU = torch.device("cpu")
Load = Callable[..., Settings]


@dataclass(frozen=True)
class Data:
    """What a run trains on, and its record."""

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
    return Data(clips, cached, record)


def with_a_scene(clips: Clips) -> Clips:
    """Cut a second clip out of the first one's file, as splitting into scenes does."""
    first, *rest = clips.clips
    footage, sound = first.footage[Role.TARGET], first.soundtrack[Role.TARGET]
    scene = replace(
        first,
        name=f"{first.name}#scene-002",
        footage={Role.TARGET: replace(footage, start_seconds=Fraction(2, 24))},
        soundtrack={Role.TARGET: replace(sound, start_seconds=Fraction(2, 24))},
    )
    return replace(clips, clips=(first, scene, *rest))


@pytest.fixture(scope="session")
def data(
    tmp_path_factory: pytest.TempPathFactory, family: Family, load: Load, write_clip: Any, write_archive: Any
) -> Data:
    """Two videos with sound, one of them in a folder and in two scenes."""
    folder = tmp_path_factory.mktemp("data")
    one, two = (write_clip(folder / f"{seed}.mp4", seed=seed) for seed in (1, 2))
    archive = write_archive(
        folder / "clips.zip", {"birds/a finch.mp4": one, "birds/a finch.txt": "TOK a finch", "zoo.mp4": two}
    )
    settings = load(f"input.training_data_url={archive}", "input.trigger_phrase=TOK", "input.number_of_frames=9")
    return prepare(folder, family, settings, with_a_scene)


@pytest.fixture
def write(data: Data, family: Family, tmp_path: Path) -> Callable[..., Path]:
    def run(of: Data = data, source: Any = "sources", folder: Path = tmp_path) -> Path:
        return write_debug_dataset(of.clips, of.cached, family, folder, source=source, record=of.record, device=CPU)

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


def test_latents_are_shown_as_the_codecs_decode_them(
    write: Callable[..., Path], data: Data, family: Family, tmp_path: Path
) -> None:
    folder = unpacked(write(source="latents"), tmp_path / "archive")
    example = next(example for example in data.cached.examples if example.name == "zoo")
    assert example.video is not None
    assert example.audio is not None
    assert example.shape is not None

    with family.audio_codec(CPU) as codec:
        heard, rate_hz = codec.decode(read_tensors(example.audio)["latents"]).numpy(), codec.output_rate_hz
    with family.video_codec(CPU) as codec:
        seen = codec.decode(read_tensors(example.video)["latents"]).numpy()

    span = Fraction(heard.shape[1], rate_hz)
    found = decode_audio(folder / "zoo.wav", start_seconds=Fraction(0), span_seconds=span, rate_hz=rate_hz)
    assert np.array_equal(found, heard)
    times = midpoint_times(Fraction(0), Fraction(9, 24), 9)
    pictures = decode_frames(folder / "zoo.mp4", times, example.shape.size).astype(int)
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


@pytest.mark.parametrize("source", ["sources", "latents"])
def test_the_same_clips_are_packed_as_the_same_bytes(write: Callable[..., Path], tmp_path: Path, source: str) -> None:
    first, second = (write(source=source, folder=tmp_path / name) for name in ("first", "second"))

    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["debug_dataset.zip"]


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
