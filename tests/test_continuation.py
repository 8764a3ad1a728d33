"""Which runs are one: what must agree before a checkpoint is continued."""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ltx_trainer.artifacts import (
    CachedExample,
    CachedMedia,
    CachedSet,
    Clip,
    Clips,
    Footage,
    MediaKind,
    Role,
    Soundtrack,
    SourceFile,
)
from ltx_trainer.config import Settings
from ltx_trainer.continuation import check_newest, encoded_identity, newest_whole, refuse_other_run, run_identity
from ltx_trainer.errors import CheckpointError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.modes import ENDPOINT, MODES
from ltx_trainer.pipeline import Space, look
from ltx_trainer.tensorfile import write_sealed_tensors, write_tensors
from ltx_trainer.train.state import TrainingState, write_checkpoint

Load = Callable[..., Settings]

NAMED = {mode.name: mode.endpoint for mode in MODES}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, load: Load) -> Clips:
    folder = tmp_path_factory.mktemp("look")
    return look(load(), Space(folder / "out", folder / "cache")).clips


@pytest.mark.parametrize(
    "change",
    [
        "training.checkpoint_interval=7",
        "training.keep_checkpoints=9",
        "validation.steps=3",
        "validation.still_crf=20",
        "validation.beside_input=false",
        "validation.composite=false",
        "input.validation=[]",
        "input.validation_number_of_frames=17",
        "input.validation_frame_rate=12",
        "input.validation_resolution=high",
        "input.stg_scale=0",
        "input.number_of_steps=9",
        "held_out.sigmas=[0.5]",
        "report.wandb_project=mine",
        "downloads.max_gigabytes=1",
        "data.max_left_out=1",
        "paths.cache=/elsewhere",
        "model.base=elsewhere",
    ],
)
def test_what_does_not_change_the_adapter_does_not_part_two_runs(load: Load, clips: Clips, change: str) -> None:
    assert run_identity(load(change), clips, 1) == run_identity(load(), clips, 1)


@pytest.mark.parametrize(
    "change",
    [
        "input.frame_rate=12",
        "input.auto_scale_input=true",
        "input.rank=16",
        "lora.alpha=4",
        "lora.targets=[attn1]",
        "noise.uniform_fraction=0.5",
        "noise.levels=per_stream",
        "training.seed=7",
        "training.batch_size=2",
        "training.video_loss_weight=2",
        "training.audio_loss_weight=2",
        "training.ema_decay=0.9",
        "optimizer.weight_decay=0.1",
        "optimizer.name=adamw_8bit",
        "optimizer.power=3",
    ],
)
def test_what_changes_the_adapter_parts_two_runs(load: Load, clips: Clips, change: str) -> None:
    name = change.partition("=")[0]
    here, there = run_identity(load(change), clips, 1), run_identity(load(), clips, 1)

    assert here[name] != there[name]
    # Alpha follows the rank where it is not given.
    assert {key for key in here if here[key] != there[key]} <= {name, "lora.alpha"}


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("v2v", "reference_downscale_factor=1", "reference_downscale_factor=2"),
        ("av2av", "reference_temporal_scale_factor=1", "reference_temporal_scale_factor=2"),
        ("v2v", "first_frame_conditioning_p=0.1", "first_frame_conditioning_p=0.2"),
        ("outpaint", "crop_top_left=[8, 8]", "crop_top_left=[0, 8]"),
        ("outpaint", "crop_bottom_right=[48, 48]", "crop_bottom_right=[56, 48]"),
        ("interpolate", "include_middle_keyframe=false", "include_middle_keyframe=true"),
        ("extend-prefix", "conditioning_frames=9", "conditioning_frames=17"),
        ("audio-extend-suffix", "conditioning_seconds=1", "conditioning_seconds=2"),
        ("t2a", "audio_duration_seconds=5", "audio_duration_seconds=4"),
        ("ltx-video-trainer", "first_frame_conditioning_p=0.1", "first_frame_conditioning_p=0.2"),
        ("ltx-video/v2v", "reference_downscale_factor=1", "reference_downscale_factor=2"),
    ],
)
def test_every_condition_of_a_mode_parts_two_runs(mode: str, before: str, after: str) -> None:
    """A checkpoint holds the identity as JSON."""
    found = [identity_in(mode, change) for change in (before, after)]

    assert {name for name in found[0] if found[0][name] != found[1][name]} == {f"input.{after.partition('=')[0]}"}
    assert found[0] == json.loads(json.dumps(found[0]))
    refuse_other_run(Path("same"), found[0], identity_in(mode, before))


def identity_in(mode: str, change: str) -> dict[str, Any]:
    """Give the identity of a run without clips, as a checkpoint holds it."""
    body = {"training_data_url": "clips.zip", "number_of_frames": 25}
    if mode == "outpaint":
        body |= {"crop_top_left": [8, 8], "crop_bottom_right": [48, 48]}
    name, _, value = change.partition("=")
    endpoint = NAMED.get(mode, ENDPOINT + mode)
    settings = Settings.model_validate({"endpoint": endpoint, "input": {**body, name: yaml.safe_load(value)}})
    return json.loads(json.dumps(run_identity(settings, Clips((), (), with_audio=settings.mode.needs_audio), 1)))


@pytest.mark.parametrize("mode", ["ltx-video-trainer", "ltx-video/v2v"])
def test_previews_that_play_the_other_way_do_not_part_two_runs(mode: str) -> None:
    assert identity_in(mode, "validation_reverse=true") == identity_in(mode, "validation_reverse=false")


def test_an_older_name_of_the_endpoint_is_the_same_run() -> None:
    assert identity_in("ic-lora/v2v", "rank=8") == identity_in("v2v", "rank=8")


@pytest.mark.parametrize("role", [Role.REFERENCE, Role.MASK, Role.START, Role.LAST_KEYFRAME])
def test_pictures_of_every_role_tell_two_clips_apart(load: Load, clips: Clips, role: Role) -> None:
    first, other = clips.clips[:2]
    target = first.footage[Role.TARGET]

    def identity(footage: Footage) -> object:
        return run_identity(load(), replace(clips, clips=(with_footage(first, role, footage),)), 1)["clips"]

    changed = [
        replace(target, source=other.footage[Role.TARGET].source),
        replace(target, start_seconds=Fraction(1, 24)),
        replace(target, shape=replace(target.shape, size=FrameSize(32, 32))),
        replace(target, canvas=FrameSize(64, 48)),
    ]
    found = [identity(footage) for footage in (target, *changed)]
    assert all(one != other for one, other in combinations(found, 2))
    assert found[0] != run_identity(load(), replace(clips, clips=(first,)), 1)["clips"]


def with_footage(clip: Clip, role: Role, footage: Footage) -> Clip:
    return replace(clip, footage={**clip.footage, role: footage})


def test_a_reference_sound_and_ranges_tell_two_clips_apart(load: Load, clips: Clips) -> None:
    first = clips.clips[0]
    sound = first.soundtrack[Role.TARGET]
    variants = [
        first,
        replace(first, soundtrack={**first.soundtrack, Role.REFERENCE_SOUND: sound}),
        replace(first, soundtrack={**first.soundtrack, Role.REFERENCE_SOUND: replace(sound, gain=0.5)}),
        replace(first, ranges=((Fraction(0), Fraction(1, 8)),)),
        replace(first, ranges=((Fraction(0), Fraction(1, 4)),)),
    ]

    found = [run_identity(load(), replace(clips, clips=(clip,)), 1)["clips"] for clip in variants]

    assert all(one != other for one, other in combinations(found, 2))


def test_clips_of_pictures_and_sound_alone_keep_the_digest_that_checkpoints_hold(load: Load) -> None:
    """Recorded from the release before masks and references."""
    source = SourceFile("a.mp4", Path("a.mp4"), "0" * 64, MediaKind.VIDEO)
    shape = ClipShape(9, FrameSize(64, 96), Fraction(24))
    footage = Footage(source, Fraction(1, 3), Fraction(9, 24), shape)
    sound = Soundtrack(source, Fraction(1, 3), Fraction(9, 24), Fraction(9, 24), preserve_pitch=True, gain=0.5)
    clip = Clip("a", "a bell", {Role.TARGET: footage}, {Role.TARGET: sound})

    identity = run_identity(load(), Clips((clip,), (), with_audio=True), 1)

    assert identity["clips"] == {"a": "98122517afbc96c7"}


def test_every_tensor_of_a_clip_enters_what_it_became() -> None:
    def named(**files: str) -> object:
        video = {Role[role.upper()]: Path(stem) for role, stem in files.items()}
        media = CachedMedia(video, {Role.TARGET: Path("sound")})
        example = CachedExample("a", "a.mp4", "a bell", None, media, Path("prompt"))
        return encoded_identity(CachedSet((example,), (), Path("empty"), Path("no"), (), with_audio=True, computed=0))

    variants = [{"target": "1"}, {"target": "1", "mask": "2"}, {"target": "1", "mask": "3"}]
    found = [named(**files) for files in variants]
    assert all(one != other for one, other in combinations(found, 2))


def test_held_out_clips_part_two_runs_but_not_when_they_are_measured(load: Load, clips: Clips) -> None:
    def identity(*changes: str) -> object:
        return run_identity(load("held_out.fraction=0.25", *changes), clips, 1)

    assert identity() != run_identity(load(), clips, 1)
    assert identity() != identity("held_out.sigmas=[0.5]")
    assert identity() == identity("held_out.interval=7")


def test_an_edited_caption_is_named_by_its_clip(load: Load, clips: Clips, tmp_path: Path) -> None:
    first, *others = clips.clips
    edited = replace(clips, clips=(replace(first, caption="something else"), *others[:-1]))
    write_checkpoint(
        tmp_path, TrainingState(2, {}, {"state": {}, "param_groups": []}, ()), run_identity(load(), clips, 1)
    )

    with pytest.raises(CheckpointError, match=r"clips: 1 gone \(clip-3\); 1 changed \(clip-0\)"):
        check_newest(tmp_path, run_identity(load(), edited, 1), num_steps=4)


@pytest.mark.parametrize("change", [{"gain": 0.5}, {"preserve_pitch": False}], ids=["gain", "preserve_pitch"])
def test_a_sound_made_otherwise_parts_two_runs(load: Load, clips: Clips, change: dict[str, Any]) -> None:
    first, *others = clips.clips
    sound = first.soundtrack[Role.TARGET]
    changed = replace(first, soundtrack={Role.TARGET: replace(sound, **change)})
    assert changed != first

    here = run_identity(load(), replace(clips, clips=(changed, *others)), 1)
    there = run_identity(load(), clips, 1)

    assert {name for name in here if here[name] != there[name]} == {"clips"}
    assert {name for name in here["clips"] if here["clips"][name] != there["clips"][name]} == {first.name}


def test_a_checkpoint_of_another_base_model_is_refused(load: Load, clips: Clips, tmp_path: Path) -> None:
    identity = dict(run_identity(load(), clips, 1))
    state = TrainingState(2, {}, {"state": {}, "param_groups": []}, ())
    write_checkpoint(tmp_path, state, {**identity, "model.base": "one"})

    check_newest(tmp_path, {**identity, "model.base": "one"}, num_steps=4)
    with pytest.raises(CheckpointError, match=r'model\.base: "one" there, "another" here'):
        check_newest(tmp_path, {**identity, "model.base": "another"}, num_steps=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small checkpoint."""
    state = TrainingState(4, {"a": torch.arange(6.0)}, {"state": {0: {"m": torch.ones(3)}}, "param_groups": []}, ())
    return write_checkpoint(tmp_path_factory.mktemp("whole"), state, {"input.rank": 8}).read_bytes()


def damage_seen(path: Path, content: bytes) -> bool:
    """Tell whether a file of this content is found to be damaged."""
    path.write_bytes(content)
    newest = newest_whole(path.parent)
    assert newest.path is None or not newest.damaged
    return newest.path is None and list(newest.damaged) == [path]


def test_every_changed_byte_is_found(checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "step-000004.safetensors"
    assert not damage_seen(path, checkpoint)

    for place in range(len(checkpoint)):
        changed = bytearray(checkpoint)
        changed[place] ^= 1 << place % 8
        assert damage_seen(path, bytes(changed)), f"byte {place}"


def test_every_cut_and_anything_added_is_found(checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "step-000004.safetensors"

    assert all(damage_seen(path, checkpoint[:length]) for length in range(len(checkpoint)))
    assert damage_seen(path, checkpoint + b"\0")
    assert damage_seen(path, b"\xff" * len(checkpoint))
    assert damage_seen(path, (20000).to_bytes(8, "little") + b"[" * 20000)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        path = write_checkpoint(tmp_path, TrainingState(step, {}, {"state": {}, "param_groups": []}, ()), {})
        path.write_bytes(path.read_bytes()[: None if step == 2 else 20])

    assert check_newest(tmp_path, {}, num_steps=6) == 2
    assert len(newest_whole(tmp_path).damaged) == 2


def test_a_checkpoint_that_the_disk_does_not_give_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, TrainingState(2, {}, {"state": {}, "param_groups": []}, ()), {})

    def refuse_to_read(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse_to_read)
    with pytest.raises(CheckpointError, match=r"step-000002\.safetensors cannot be read: Input/output error"):
        check_newest(tmp_path, {}, num_steps=4)
    assert path.is_file()


def test_damaged_checkpoints_alone_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "step-000002.safetensors").touch()

    assert check_newest(tmp_path, {}, num_steps=4) == 0


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({"step": "2", "identity": "{}"}, "names no format"), ({"format": "99", "sha256": "0" * 64}, "has the format 99")],
)
def test_a_checkpoint_of_another_release_is_refused(tmp_path: Path, metadata: dict[str, str], said: str) -> None:
    path = tmp_path / "step-000002.safetensors"
    if "sha256" in metadata:
        write_sealed_tensors(path, {"a": torch.zeros(4)}, metadata, placeholder=metadata["sha256"])
    else:
        write_tensors(path, {"a": torch.zeros(4)}, metadata)

    with pytest.raises(CheckpointError, match=rf"{said}; this release continues checkpoints of format 1\. Continue it"):
        check_newest(tmp_path, {}, num_steps=4)


def test_the_newest_of_more_than_a_million_steps_is_found(tmp_path: Path) -> None:
    for step in (999999, 1000000):
        path = write_checkpoint(tmp_path, TrainingState(step, {}, {"state": {}, "param_groups": []}, ()), {})

    assert newest_whole(tmp_path).path == path


def test_a_warm_start_from_another_file_parts_two_runs(load: Load, clips: Clips, tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("first", "copy", "other"))
    for path, content in ((first, b"a"), (copy, b"a"), (other, b"b")):
        path.write_bytes(content)

    def identity(path: Path) -> object:
        return run_identity(load(f"model.lora={path}"), clips, 1)

    assert identity(first) == identity(copy)
    assert identity(first) != identity(other)
    assert identity(first) != run_identity(load(), clips, 1)
    with pytest.raises(CheckpointError, match=r"model\.lora .*absent cannot be read: No such file"):
        identity(tmp_path / "absent")
