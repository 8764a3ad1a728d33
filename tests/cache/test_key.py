"""What tensors are named by, and the digests of files."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ltx_trainer.artifacts import Footage, MediaKind, Soundtrack, SourceFile
from ltx_trainer.cache import key
from ltx_trainer.cache.key import audio_key, mask_key, prompt_key, tensor_key, video_key
from ltx_trainer.digests import FileDigests
from ltx_trainer.geometry import ClipShape, FrameSize, ScaleFactors


def test_equal_facts_give_equal_keys_in_any_order() -> None:
    found = tensor_key("video", start=Fraction(1, 3), num_frames=9, still_crf=None)

    assert found == tensor_key("video", still_crf=None, num_frames=9, start=Fraction(2, 6))
    assert len(found) == 64


@pytest.mark.parametrize(
    "facts",
    [
        {"start": Fraction(1, 3), "num_frames": 17},
        {"start": Fraction(1, 4), "num_frames": 9},
        {"begin": Fraction(1, 3), "num_frames": 9},
        {"start": Fraction(1, 3)},
        {"start": Fraction(1, 3), "num_frames": None},
    ],
)
def test_every_fact_counts(facts: dict[str, Fraction | int | None]) -> None:
    assert tensor_key("video", **facts) != tensor_key("video", start=Fraction(1, 3), num_frames=9)


def test_the_kind_of_content_counts() -> None:
    assert tensor_key("video", source="0") != tensor_key("audio", source="0")


def test_the_version_of_the_encoding_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_key("a bell", "weights")

    monkeypatch.setattr(key, "ENCODING", key.ENCODING + 1)

    assert prompt_key("a bell", "weights") != before


SOURCE = SourceFile("a.mp4", Path("a.mp4"), "0" * 64, MediaKind.VIDEO)
FOOTAGE = Footage(SOURCE, Fraction(1, 3), Fraction(9, 24), ClipShape(9, FrameSize(64, 96), Fraction(24)))
SOUND = Soundtrack(SOURCE, Fraction(1, 3), Fraction(9, 24), Fraction(9, 24), preserve_pitch=True, gain=0.5)


def test_names_of_what_is_in_caches_already_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded with libraries that have no version."""
    monkeypatch.setattr(key, "_releases", lambda *names: ", ".join(names))
    monkeypatch.setattr(key, "DECODING", 1)
    monkeypatch.setattr(key, "ENCODING", 1)

    assert video_key(FOOTAGE, "weights", None).startswith("ea5b0eea2bee17eb8949")
    assert video_key(FOOTAGE, "weights", 33).startswith("0faa1c6f7a7aa4356ed0")
    assert audio_key(SOUND, "weights", 9).startswith("fe2eace18db634bd985c")
    assert prompt_key("a bell", "weights").startswith("c32376d89db109e3492a")


def test_how_sound_is_stretched_names_only_what_is_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    stretched = replace(SOUND, span_seconds=Fraction(1))
    before = [audio_key(sound, "weights", 9) for sound in (SOUND, stretched)]

    monkeypatch.setattr(key, "STRETCHING", key.STRETCHING + 1)

    assert audio_key(SOUND, "weights", 9) == before[0]
    assert audio_key(stretched, "weights", 9) != before[1]


@pytest.mark.parametrize(
    "change",
    [
        {"start_seconds": Fraction(1, 2)},
        {"span_seconds": Fraction(1, 2)},
        {"source": replace(SOURCE, sha256="1" * 64)},
        {"shape": replace(FOOTAGE.shape, num_frames=17)},
        {"shape": replace(FOOTAGE.shape, size=FrameSize(96, 64))},
        {"canvas": FrameSize(64, 96)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_fact_of_a_mask_counts(change: dict[str, Any]) -> None:
    """Nothing of the weights does."""
    factors = ScaleFactors(8, 32, 32)
    changed = replace(FOOTAGE, **change)

    assert mask_key(changed, factors) != mask_key(FOOTAGE, factors) != mask_key(FOOTAGE, ScaleFactors(4, 32, 32))
    assert video_key(changed, "weights", None) != video_key(FOOTAGE, "weights", None)


def test_a_digest_changes_with_the_bytes(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    first = digests.of_file(path)

    path.write_bytes(b"longer")
    longer = digests.of_file(path)
    path.write_bytes(b"first")
    os.utime(path, ns=(0, 0))

    assert longer != first
    assert digests.of_file(path) == first


def test_bytes_of_the_same_length_count_once_the_time_of_change_differs(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    one = digests.of_file(path)

    path.write_bytes(b"two")
    os.utime(path, ns=(1, 2))

    assert digests.of_file(path) != one


def test_a_file_is_read_once_and_the_note_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    os.utime(path, ns=(1, 1))
    first = FileDigests(tmp_path / "digests").of_file(path)
    path.write_bytes(b"fir5t")
    os.utime(path, ns=(1, 1))

    assert FileDigests(tmp_path / "digests").of_file(path) == first
    assert FileDigests(tmp_path / "elsewhere").of_file(path) != first


def test_a_link_has_the_digest_of_what_it_leads_to(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    path, link = tmp_path / "weights", tmp_path / "link"
    path.write_bytes(b"first")
    link.symlink_to(path)

    assert digests.of([link]) == digests.of([path])
    assert len(list((tmp_path / "digests").iterdir())) == 1


def test_the_order_of_files_counts(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "digests")
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"one")
    two.write_bytes(b"two")

    assert digests.of([one, two]) != digests.of([two, one])
