"""The survey of a whole dataset, and what is said of it once everything is encoded."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ltx_trainer.artifacts import Clip, Clips, Footage, LeftOut, PictureFacts, Preview, Role, SourceFacts
from ltx_trainer.geometry import FrameSize
from ltx_trainer.survey import AdviceKind, Survey, after_encoding, survey_data

Film = Callable[..., tuple[Footage, FrameSize]]


@pytest.fixture
def clips(film: Film, draw: Callable[..., np.ndarray]) -> Clips:
    """Two clips that show the same, one that shows something else, and one whose file is gone."""
    found: list[Clip] = []
    sources: dict[str, SourceFacts] = {}
    for name, seed, side in (("a", 1, 64), ("b", 1, 96), ("c", 2, 64), ("gone", 3, 64)):
        still = draw(seed, side, side)
        frames = np.stack([np.roll(still, step, axis=1) for step in range(9)])
        footage, own = film(name, frames, FrameSize(32, 32))
        found.append(Clip(name, f"what {name} shows", {Role.TARGET: footage}, {}))
        sources[footage.source.sha256] = SourceFacts(PictureFacts(own, 9, Fraction(9, 24)))
    found[-1].footage[Role.TARGET].source.path.unlink()
    return Clips(tuple(found), (), with_audio=False, sources=sources)


@pytest.fixture
def survey(clips: Clips, tmp_path: Path) -> Callable[..., Survey]:
    def look(*, decoded: bool = True) -> Survey:
        given = clips.clips[0]
        asked = Preview(
            "a prompt", given.shape, Fraction(1), {Role.START: given.footage[Role.TARGET]}, {}, sources=clips.sources
        )
        return survey_data(
            clips,
            [LeftOut("x", "is empty.")],
            [asked],
            tmp_path / "glimpses",
            title="an endpoint",
            run="a run",
            shape=given.shape,
            audio_rate_hz=None,
            decoded=decoded,
        )

    return look


def kinds(survey: Survey) -> set[AdviceKind]:
    return {advice.kind for advice in survey.advice}


def test_everything_is_looked_at_compared_and_judged(survey: Callable[..., Survey]) -> None:
    found = survey()

    assert [clip.name for clip in found.clips] == ["a", "b", "c", "gone"]
    assert [len(clip.glance.thumbnails) if clip.glance else 0 for clip in found.clips] == [3, 3, 3, 0]
    assert "gone.mp4 does not exist" in (found.clips[3].glimpse.problem or "")
    assert [pair.clips for pair in found.look_alikes] == [("a", "b")]
    assert [(overlap.clips, overlap.same_bytes) for overlap in found.overlaps] == [(("a",), True)]
    assert kinds(found) >= {AdviceKind.FEW_CLIPS, AdviceKind.LOOK_ALIKES, AdviceKind.IN_VALIDATION}


def test_without_a_look_only_what_is_known_is_said(survey: Callable[..., Survey], tmp_path: Path) -> None:
    found = survey(decoded=False)

    assert [clip.glance for clip in found.clips] == [None] * 4
    assert found.look_alikes == ()
    assert [overlap.clips for overlap in found.overlaps] == [("a",)]
    assert not (tmp_path / "glimpses").exists()


def test_what_was_not_encoded_is_not_there_and_what_is_held_out_is_not_trained_on(
    survey: Callable[..., Survey],
) -> None:
    before = survey()
    kept = [replace(each.clip, caption=f"now {each.name}") for each in before.clips if each.name in "ac"]

    after = after_encoding(before, kept, [LeftOut("b", "is damaged.")], {"a"})

    assert [(each.name, each.clip.caption, each.held_out) for each in after.clips] == [
        ("a", "now a", True),
        ("c", "now c", False),
    ]
    assert after.left_out == (LeftOut("b", "is damaged."),)
    assert (after.look_alikes, after.overlaps) == ((), ())
    assert not kinds(after) & {AdviceKind.LOOK_ALIKES, AdviceKind.IN_VALIDATION}
    assert "is 1 clip" in next(advice.sentence for advice in after.advice if advice.kind is AdviceKind.FEW_CLIPS)
