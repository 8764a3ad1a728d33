"""Captions of clips that have none: written once for the same pictures, model and question, and part of the run."""

import json
import logging
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from ltx_trainer.artifacts import Clips, Footage
from ltx_trainer.caption.fill import caption_clips
from ltx_trainer.config import Settings, load_settings
from ltx_trainer.continuation import run_identity
from ltx_trainer.errors import DatasetError, MediaError, OutOfResources
from ltx_trainer.media import read_pictures, write_video
from ltx_trainer.models.vision import CaptionWriter
from ltx_trainer.pipeline import Plan, Space, Stage, look, run
from ltx_trainer.processes import make_accelerator
from ltx_trainer.report import track
from tests.conftest import ArchiveWriter

Load = Callable[..., Settings]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def silent_archive(tmp_path_factory: pytest.TempPathFactory, write_archive: ArchiveWriter) -> Path:
    """Three short clips of coloured blocks, of which the last has a caption."""
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0)
    clips = {f"{name}.mp4": folder / f"{name}.mp4" for name in "abc"}
    for path in clips.values():
        blocks = noise.integers(0, 256, (1, 4, 4, 3), np.uint8)
        write_video(path, blocks.repeat(12, 0).repeat(16, 1).repeat(16, 2), Fraction(24))
    return write_archive(folder / "clips.zip", {**clips, "c.txt": "the third"})


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, silent_archive: Path, seeing_base: Path) -> Load:
    """Load settings of a tiny run whose captions are written by the base model, some of them changed."""
    body = {
        "training_data_url": str(silent_archive),
        "number_of_frames": 9,
        "resolution": "low",
        "trigger_phrase": "TOK",
    }
    config = {
        "endpoint": "fal-ai/ltx23-trainer-v2/t2v",
        "input": {**body, "number_of_steps": 1},
        "model": {"base": str(seeing_base)},
        "captions": {"auto": True, "prompt": "What?", "frames": 3, "batch_size": 2, "max_tokens": 8},
    }
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return lambda *overrides: load_settings(path, overrides=list(overrides))


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return Space(tmp_path / "out", tmp_path / "cache")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each batch that a model writes of has."""
    sizes: list[int] = []
    write = CaptionWriter.write

    def counted(self: CaptionWriter, clips: list[object], prompt: str, *, max_tokens: int) -> list[str]:
        sizes.append(len(clips))
        return write(self, clips, prompt, max_tokens=max_tokens)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(CaptionWriter, "write", counted)
    return sizes


def fill(settings: Settings, space: Space, plan: Plan) -> Clips:
    assert plan.captioner is not None
    return caption_clips(
        plan.clips,
        plan.lacking,
        plan.captioner,
        settings.captions,
        settings.input,
        space.cache,
        accelerator=make_accelerator("fp32")[0],
        track=track(QUIET),
    )


def captions(clips: Clips) -> Mapping[str, str]:
    return {clip.name: clip.caption for clip in clips.clips}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}


def test_a_clip_without_a_caption_gets_one_with_the_trigger_phrase_and_the_others_keep_theirs(
    load: Load, space: Space
) -> None:
    plan = look(load(), space)
    found = captions(fill(load(), space, plan))

    assert plan.lacking == {"a", "b"}
    assert found["c"] == "TOK the third"
    assert all(found[name].startswith("TOK ") and len(found[name]) > len("TOK ") for name in "ab")
    assert found["a"] != found["b"]


def test_a_second_run_writes_none_and_has_the_same(load: Load, space: Space, written: list[int]) -> None:
    first = fill(load(), space, look(load(), space))
    kept = files_in(space.cache / "captions")
    second = fill(load(), space, look(load(), space))

    assert second == first
    assert files_in(space.cache / "captions") == kept
    assert (written, len(kept)) == ([2], 2)


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ("captions.prompt=Which colour is it?", True),
        ("captions.frames=2", True),
        ("captions.max_tokens=9", True),
        ("input.aspect_ratio='16:9'", True),
        ("captions.batch_size=1", False),
        ("input.trigger_phrase=XX", False),
        ("input.learning_rate=0.1", False),
    ],
)
def test_a_caption_is_written_again_only_where_something_that_changes_it_has_changed(
    load: Load, space: Space, written: list[int], monkeypatch: pytest.MonkeyPatch, change: str, is_new: bool
) -> None:
    def write(_: CaptionWriter, clips: list[object], *__: object, **___: object) -> list[str]:
        written.append(len(clips))
        return ["words"] * len(clips)

    monkeypatch.setattr(CaptionWriter, "write", write)
    fill(load(), space, look(load(), space))
    written.clear()
    fill(load(change), space, look(load(change), space))

    assert bool(written) is is_new


def test_what_a_stopped_run_lacks_is_written_as_it_would_have_been(
    load: Load, space: Space, written: list[int]
) -> None:
    fill(load(), space, look(load(), space))
    whole = files_in(space.cache / "captions")
    path = next((space.cache / "captions").rglob("*.json"))
    path.unlink()
    fill(load(), space, look(load(), space))

    assert files_in(space.cache / "captions") == whole
    # The batch that the missing one was in, as it was.
    assert written == [2, 2]


def test_a_model_sees_frames_spread_over_the_whole_clip(
    load: Load, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def write(_: CaptionWriter, clips: list, *__: object, **___: object) -> list[str]:
        seen.extend(frame.mean() for clip in clips for frame in clip)
        return ["words"] * len(clips)

    monkeypatch.setattr(CaptionWriter, "write", write)
    settings = load("captions.frames=9")
    fill(settings, space, look(settings, space))
    each, few = list(seen), load("captions.frames=3")
    seen.clear()
    fill(few, space, look(few, space))

    assert sorted(seen) == sorted(each[1::3])


def test_each_scene_of_a_split_video_has_a_caption_of_its_own(
    load: Load, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.zeros((60, 64, 64, 3), np.uint8)
    frames[30:] = 200
    write_video(tmp_path / "data/x.mp4", frames, Fraction(24))
    settings = load(
        f"input.training_data_url={tmp_path / 'data'}",
        "input.split_input_duration_threshold=1",
        "input.trigger_phrase=''",
    )
    monkeypatch.setattr(CaptionWriter, "write", lambda _, clips, *__, **___: [str(clip.max() > 99) for clip in clips])
    clips = fill(settings, space, look(settings, space))

    assert captions(clips) == {"x#scene-001": "False", "x#scene-002": "True"}


def test_a_clip_of_which_nothing_is_said_is_left_out_by_name(
    load: Load, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CaptionWriter, "write", lambda *_, **__: ["words", ""])
    clips = fill(load(), space, look(load(), space))

    assert len(clips.clips) == 2
    (left_out,) = clips.left_out
    assert left_out.name in {"a", "b"}
    assert "says nothing of it. Write its caption, or ask otherwise by captions.prompt" in left_out.reason


def test_a_file_that_changed_ends_the_run(load: Load, space: Space) -> None:
    plan = look(load(), space)
    (damaged,) = (space.cache / "archives").rglob("*-a.mp4")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")

    with pytest.raises(DatasetError, match=r"a\.mp4 has changed since it was first read"):
        fill(load(), space, plan)


def test_a_file_that_cannot_be_decoded_costs_its_clip(
    load: Load, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(footage: Footage) -> np.ndarray:
        if footage.source.name == "a.mp4":
            raise MediaError("a.mp4 is damaged.")
        return read_pictures(footage)

    monkeypatch.setattr("ltx_trainer.media.read_pictures", read)
    clips = fill(load(), space, look(load(), space))

    assert [clip.name for clip in clips.clips] == ["b", "c"]
    assert [(item.name, item.reason) for item in clips.left_out] == [("a", "a.mp4 is damaged.")]


def test_nothing_to_train_on_is_refused_with_every_reason(
    load: Load, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CaptionWriter, "write", lambda _, clips, *__, **___: [""] * len(clips))
    plan = look(load(), space)
    silent = Plan(**{**vars(plan), "clips": Clips(plan.clips.clips[:2], (), with_audio=True)})

    with pytest.raises(DatasetError, match=r"None of the 2 clips could be captioned:\n  a: .* says nothing"):
        fill(load(), space, silent)


def test_memory_that_runs_out_is_told_with_the_settings_that_need_less(
    load: Load, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object, **__: object) -> list[str]:
        raise MemoryError("none left")

    monkeypatch.setattr(CaptionWriter, "write", write)
    with pytest.raises(OutOfResources, match=r"while captions were written.*captions\.batch_size"):
        fill(load(), space, look(load(), space))


def test_the_whole_road_knows_the_captions(load: Load, space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load("input.debug_dataset=true")
    run(settings, space, Stage.INSPECT, Console(width=200))
    said = capsys.readouterr().out
    run(settings, space, Stage.PREPARE, QUIET)
    record = json.loads((space.output / "dataset.json").read_text())
    found = {clip["name"]: clip["caption"] for clip in record["trained_on"]}
    plan = look(settings, space)

    assert "2 clips have no caption of their own; the text encoder" in said
    assert found == captions(fill(settings, space, plan))
    assert "clips" not in plan.identity
    assert set(run_identity(settings, plan.clips, 1)) - set(plan.identity) == {"clips"}


def test_no_model_is_asked_for_where_every_clip_has_a_caption(
    load: Load, space: Space, clip_archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plan = look(load(f"input.training_data_url={clip_archive}", "captions.model=nobody/nothing"), space)

    assert (plan.captioner, plan.lacking) == (None, frozenset())
    assert "clips" in plan.identity


def test_captions_of_sound_alone_are_refused(load: Load) -> None:
    with pytest.raises(Exception, match=r"captions\.auto needs pictures to describe, and t2a has only sound"):
        load("endpoint=fal-ai/ltx23-trainer-v2/t2a", "input.number_of_frames=null", "input.resolution=null")


def test_a_clip_without_a_caption_or_trigger_phrase_is_told_of_the_setting(
    load: Load, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    look(load("captions.auto=false", "input.trigger_phrase=''"), space)
    told = [record.getMessage() for record in caplog.records if "empty text" in record.getMessage()]
    caplog.clear()
    look(load("input.trigger_phrase=''"), space)

    assert [text.partition(" clips ")[0] for text in told] == ["2 of 3"]
    assert "captions.auto: true lets a model write captions" in told[0]
    assert "empty text" not in caplog.text
