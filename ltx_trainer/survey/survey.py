"""The room's verb: look at everything that will be trained on, and say what a person should know of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ltx_trainer.artifacts import Clip, Clips, LeftOut, Preview, SourceFacts
from ltx_trainer.geometry import ClipShape
from ltx_trainer.media import Spool
from ltx_trainer.survey.advice import advise
from ltx_trainer.survey.alike import find_look_alikes, find_overlaps
from ltx_trainer.survey.facts import Glimpse, Survey, SurveyedClip
from ltx_trainer.survey.glimpses import Glimpses
from ltx_trainer.workers import Tracker, all_ahead


def survey_data(
    clips: Clips,
    left_out: Sequence[LeftOut],
    previews: Sequence[Preview],
    folder: Path,
    *,
    title: str,
    run: str,
    shape: ClipShape | None,
    audio_rate_hz: int | None,
    conditions: Sequence[Mapping[str, Any]] = (),
    lacking: Collection[str] = (),
    decoded: bool = True,
    spool: Spool | None = None,
    workers: int | None = None,
    track: Tracker | None = None,
) -> Survey:
    """Look at a little of every clip and validation input, unless that was done before, and compare them.

    A clip that cannot be decoded stands there without pictures and with the reason.

    Args:
        clips: What is trained on.
        left_out: Everything that is not, and why.
        previews: The validation items.
        folder: Of what was seen, shared by all runs.
        title: What the data is for: the endpoint.
        run: Name of the run.
        shape: What every video becomes; None in a mode without video.
        audio_rate_hz: Sample rate of the model; None if it has no sound.
        conditions: What is given of every clip, as `describe_conditions` says it.
        lacking: Names of the clips whose captions a model is still to write.
        decoded: Look at frames and sound; if not, only what is known already is said.
        spool: Where pictures may lie decoded, and are left for who looks at all of them.
        workers: Processes that look. None: as the work and the cores allow.
        track: Shows how far it is.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    glimpses = Glimpses(folder, spool)

    def glimpse_of(part: Clip | Preview, sources: Mapping) -> Glimpse:
        return glimpses.of(part.footage, part.soundtrack, sources) if decoded else Glimpse()

    if decoded:
        _look_ahead(glimpses, clips, workers, track)
    surveyed = tuple(
        SurveyedClip(clip, clips.sources, glimpse_of(clip, clips.sources), lacks_caption=clip.name in lacking)
        for clip in clips.clips
    )
    seen_previews = [glimpse_of(preview, preview.sources) for preview in previews]
    survey = Survey(
        title=title,
        run=run,
        clips=surveyed,
        left_out=tuple(left_out),
        with_audio=clips.with_audio,
        audio_rate_hz=audio_rate_hz,
        shape=shape,
        conditions=tuple(conditions),
        findings=clips.findings,
        look_alikes=find_look_alikes(surveyed),
        overlaps=find_overlaps(surveyed, previews, seen_previews),
        was_decoded=decoded,
    )
    return _advised(survey)


@dataclass(frozen=True)
class _Looking:
    """Looks at one clip, and leaves what that tells in a note."""

    glimpses: Glimpses

    def __call__(self, seen: tuple[Clip, Mapping[str, SourceFacts]]) -> None:
        """Look.

        Args:
            seen: A clip, and what its files are, by their digests.
        """
        clip, sources = seen
        self.glimpses.of(clip.footage, clip.soundtrack, sources)


def _look_ahead(glimpses: Glimpses, clips: Clips, workers: int | None, track: Tracker | None) -> None:
    """Look at the clips that were not looked at before."""
    waiting = [clip for clip in clips.clips if not glimpses.has(clip.footage, clip.soundtrack)]
    files = [{part.source for part in (*clip.footage.values(), *clip.soundtrack.values())} for clip in waiting]
    paths = [source.path for own in files for source in own]
    # Each with its own, because all of them go to another process.
    seen = [
        (clip, {source.sha256: clips.sources[source.sha256] for source in own})
        for clip, own in zip(waiting, files, strict=True)
    ]
    all_ahead(_Looking(glimpses), seen, paths, workers=workers, track=track, what="Looking at clips")


def after_encoding(
    survey: Survey, clips: Sequence[Clip], left_out: Sequence[LeftOut], held_out: Collection[str]
) -> Survey:
    """Say of a survey what is known once everything is encoded.

    Args:
        survey: Of what was to be encoded.
        clips: What was, with the captions that it was encoded with.
        left_out: Everything that was not, and why.
        held_out: Names of the clips that are only measured on.
    """
    seen = {each.name: each for each in survey.clips}
    encoded = tuple(
        replace(seen[clip.name], clip=clip, held_out=clip.name in held_out, lacks_caption=False) for clip in clips
    )
    names = {clip.name for clip in clips}
    trained = names.difference(held_out)
    overlaps = (
        replace(overlap, clips=tuple(name for name in overlap.clips if name in trained)) for overlap in survey.overlaps
    )
    return _advised(
        replace(
            survey,
            clips=encoded,
            left_out=tuple(left_out),
            look_alikes=tuple(pair for pair in survey.look_alikes if names.issuperset(pair.clips)),
            overlaps=tuple(overlap for overlap in overlaps if overlap.clips),
        )
    )


def _advised(survey: Survey) -> Survey:
    return replace(survey, advice=advise(survey.clips, survey.findings, survey.look_alikes, survey.overlaps))
