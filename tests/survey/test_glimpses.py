"""A clip is looked at once, and one that cannot be costs its row."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.artifacts import Footage, PictureFacts, Role, SoundFacts, Soundtrack, SourceFacts
from ltx_trainer.geometry import FrameSize
from ltx_trainer.survey import glimpses
from ltx_trainer.survey.glimpses import Glimpses
from ltx_trainer.survey.sound import NUM_PARTS, listen_to, silent_share, speaking_share

Film = Callable[..., tuple[Footage, FrameSize]]
RATE_HZ = 16000
NUM_FRAMES = 24


@pytest.fixture
def footage(film: Film) -> Footage:
    """A second of drifting stripes, whose sound is loud in its second half."""
    drift = (np.arange(64)[None, None, :, None] * 4 + 4 * np.arange(NUM_FRAMES)[:, None, None, None]) % 256
    frames = np.broadcast_to(drift, (NUM_FRAMES, 32, 64, 3)).astype(np.uint8)
    seconds = np.arange(RATE_HZ) / RATE_HZ
    tone = 0.25 * np.sin(2 * np.pi * 400 * seconds) * (seconds >= 0.5)
    return film("x", frames, FrameSize(32, 32), np.tile(tone, (2, 1)).astype(np.float32))[0]


@pytest.fixture
def sound(footage: Footage) -> Soundtrack:
    second = Fraction(1)
    return Soundtrack(footage.source, Fraction(0), second, second, preserve_pitch=True, gain=2.0)


@pytest.fixture
def sources(footage: Footage) -> dict[str, SourceFacts]:
    pictures = PictureFacts(FrameSize(64, 32), NUM_FRAMES, Fraction(1))
    return {footage.source.sha256: SourceFacts(pictures, SoundFacts(RATE_HZ, 2, Fraction(1), None, 0.25))}


def test_a_clip_that_was_looked_at_is_recalled_without_its_file(
    footage: Footage, sound: Soundtrack, sources: dict[str, SourceFacts], tmp_path: Path
) -> None:
    first = Glimpses(tmp_path / "g").of({Role.TARGET: footage}, {Role.TARGET: sound}, sources)
    footage.source.path.unlink()

    again = Glimpses(tmp_path / "g").of({Role.TARGET: footage}, {Role.TARGET: replace(sound, gain=1.0)}, sources)

    assert again == first
    assert first.problem is None
    assert len(first.pictures[Role.TARGET].prints) == 9
    assert len(list((tmp_path / "g").rglob("*.json"))) == 1


@pytest.mark.parametrize(
    "change", [{"start_seconds": Fraction(1, 24)}, {"span_seconds": Fraction(1, 2)}, {"canvas": FrameSize(32, 64)}]
)
def test_another_span_is_looked_at_anew(
    footage: Footage, sources: dict[str, SourceFacts], tmp_path: Path, change: dict
) -> None:
    seen = Glimpses(tmp_path / "g")
    first = seen.of({Role.TARGET: footage}, {}, sources)

    assert seen.of({Role.TARGET: replace(footage, **change)}, {}, sources) != first


def test_what_is_decoded_otherwise_is_looked_at_anew(
    footage: Footage, sources: dict[str, SourceFacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Glimpses(tmp_path / "g").of({Role.TARGET: footage}, {}, sources)
    monkeypatch.setattr(glimpses, "DECODING", 0)

    Glimpses(tmp_path / "g").of({Role.TARGET: footage}, {}, sources)

    assert len(list((tmp_path / "g").rglob("*.json"))) == 2


def test_a_file_that_cannot_be_decoded_costs_its_own_part_and_is_asked_again(
    footage: Footage, sound: Soundtrack, sources: dict[str, SourceFacts], tmp_path: Path, film: Film
) -> None:
    seen = Glimpses(tmp_path / "g")
    content = footage.source.path.read_bytes()
    other, _ = film("mask", np.zeros((2, 32, 32, 3), np.uint8), FrameSize(32, 32))
    sources |= {other.source.sha256: SourceFacts(PictureFacts(FrameSize(32, 32), 2, Fraction(1, 12)))}
    parts = {Role.TARGET: footage, Role.MASK: other}

    footage.source.path.write_bytes(b"damaged")
    damaged = seen.of(parts, {Role.TARGET: sound}, sources)
    footage.source.path.write_bytes(content)
    mended = seen.of(parts, {Role.TARGET: sound}, sources)

    assert (set(damaged.pictures), set(damaged.sound)) == ({Role.MASK}, set())
    assert "x.mp4 cannot be opened" in (damaged.problem or "")
    assert (set(mended.pictures), set(mended.sound)) == ({Role.TARGET, Role.MASK}, {Role.TARGET})


def test_a_damaged_note_is_made_again(footage: Footage, sources: dict[str, SourceFacts], tmp_path: Path) -> None:
    seen = Glimpses(tmp_path / "g")
    first = seen.of({Role.TARGET: footage}, {}, sources)
    (note,) = (tmp_path / "g").rglob("*.json")
    note.write_text(note.read_text()[:-40])

    assert seen.of({Role.TARGET: footage}, {}, sources) == first


def test_keyframes_of_the_target_itself_are_not_looked_at_again(
    footage: Footage, sources: dict[str, SourceFacts], tmp_path: Path
) -> None:
    parts = {Role.TARGET: footage, Role.FIRST_KEYFRAME: footage}

    assert set(Glimpses(tmp_path / "g").of(parts, {}, sources).pictures) == {Role.TARGET}


def test_a_waveform_shows_what_is_loud_and_what_is_silent(sound: Soundtrack) -> None:
    waveform = listen_to(sound, RATE_HZ)

    assert len(waveform.peaks) == NUM_PARTS
    assert silent_share(waveform) == pytest.approx(0.5, abs=0.03)
    assert speaking_share(waveform, 1.0) == pytest.approx(0.5, abs=0.03)
    assert speaking_share(waveform, 0.01) == 0
    assert np.median(waveform.peaks[NUM_PARTS // 2 + 5 : -5]) == pytest.approx(2500, rel=0.05)


def test_what_a_sound_lacks_of_its_clip_is_silent(sound: Soundtrack) -> None:
    longer = replace(sound, start_seconds=Fraction(1, 2), span_seconds=Fraction(1, 2), preserve_pitch=False)

    peaks = listen_to(longer, RATE_HZ).peaks

    assert min(peaks[3 : NUM_PARTS // 2 - 5]) > 2000
    assert max(peaks[NUM_PARTS // 2 + 5 :]) == 0
