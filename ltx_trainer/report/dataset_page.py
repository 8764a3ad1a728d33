"""`dataset.html`: one page that shows what is trained on, and where the data will disappoint. It needs no network."""

import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ltx_trainer.artifacts import Footage, MediaKind, Role, SoundFacts, Soundtrack, SourceFacts
from ltx_trainer.atomic import write_bytes
from ltx_trainer.errors import counted
from ltx_trainer.report.charts import WAVE_HEIGHT, Histogram, histogram, ranked, wave_outline
from ltx_trainer.survey import Survey, SurveyedClip, groups_of

PAGE = "dataset.html"
"""Name of the page in a run's folder."""

CLIPS_OF_A_GROUP = 60
"""Clips that are unfolded together."""

MOST_PICTURES = 12
"""Of a group of near-duplicates; the others are named."""

LONG_CAPTION = 280
"""Letters from which on a caption is folded."""


@dataclass(frozen=True)
class _Strip:
    """Pictures or a sound of a clip.

    Attributes:
        label: What they are; empty for the target's own.
        images: As data URIs.
        wave: The outline of a sound, as a path.
        num_peaks: Width of that path's drawing.
    """

    label: str
    images: tuple[str, ...] = ()
    wave: str = ""
    num_peaks: int = 0


@dataclass(frozen=True)
class _Card:
    """A clip as the page shows it.

    Attributes:
        anchor: Of links to it.
        name: Of the clip.
        caption: What the model reads.
        badges: What to know of it, in a word or two.
        strips: What it shows and sounds like.
        width: Of its pictures.
        height: Of its pictures.
        begin: Of its span, as a share of its file; None of a still.
        length: Of its span, likewise.
        facts: Its numbers, by what they are of.
        problem: Why pictures or sound are missing.
    """

    anchor: str
    name: str
    caption: str
    badges: tuple[str, ...]
    strips: tuple[_Strip, ...]
    width: int
    height: int
    begin: float | None
    length: float
    facts: Mapping[str, str]
    problem: str | None

    @property
    def thumbnail(self) -> str | None:
        """The middle one of its pictures."""
        images = self.strips[0].images if self.strips else ()
        return images[len(images) // 2] if images else None


def write_page(folder: Path, survey: Survey) -> Path:
    """Write the page into a run's folder; equal surveys have equal bytes.

    Raises:
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    path = folder / PAGE
    # A file name may hold what is no text.
    write_bytes(path, render_page(survey).encode(errors="backslashreplace"))
    return path


def render_page(survey: Survey) -> str:
    """Give the page as HTML."""
    badges = _badges(survey)
    cards = [_card(each, index, survey, badges.get(each.name, ())) for index, each in enumerate(survey.clips, start=1)]
    by_name = {card.name: card for card in cards}
    return _template().render(
        survey=survey,
        summary=_summary(survey),
        cards=by_name,
        groups=[cards[first : first + CLIPS_OF_A_GROUP] for first in range(0, len(cards), CLIPS_OF_A_GROUP)],
        charts=[chart for chart in _charts(survey) if chart is not None],
        look_alikes=groups_of(survey.look_alikes),
        most_pictures=MOST_PICTURES,
        conditions=[_condition(condition) for condition in survey.conditions],
        wave_height=WAVE_HEIGHT,
        long_caption=LONG_CAPTION,
    )


@cache
def _template() -> Template:
    loader = PackageLoader("ltx_trainer.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["counted"] = counted
    return environment.get_template("dataset.html.j2")


def _summary(survey: Survey) -> dict[str, str]:
    """Give the numbers that the page begins with, by what they are of."""
    trained = [clip for clip in survey.clips if not clip.held_out]
    seconds = float(sum(clip.duration_seconds for clip in survey.clips))
    rows = {"trained on": counted(len(trained), "clip")}
    if len(trained) < len(survey.clips):
        rows["held out"] = counted(len(survey.clips) - len(trained), "clip")
    rows["left out"] = str(len(survey.left_out) or "nothing")
    rows["from"] = counted(len({clip.file for clip in survey.clips}), "file")
    rows["in all"] = _length(seconds)
    if survey.shape is not None:
        rate = f" at {_number(survey.shape.frame_rate)} fps" if survey.shape.num_frames > 1 else ""
        rows["become"] = f"{survey.shape.size}, {counted(survey.shape.num_frames, 'frame')}{rate}"
    rows["sound"] = "trained" if survey.with_audio else "none"
    return rows


def _badges(survey: Survey) -> dict[str, tuple[str, ...]]:
    """Say by which advice each clip is concerned."""
    badges: dict[str, tuple[str, ...]] = {}
    for advice in survey.advice:
        for name in advice.clips:
            badges[name] = (*badges.get(name, ()), str(advice.kind))
    return badges


def _card(each: SurveyedClip, number: int, survey: Survey, badges: Sequence[str]) -> _Card:
    target = each.footage or each.clip.soundtrack[Role.TARGET]
    shape = each.clip.shape
    begin, length = _place(each, target)
    own = [
        name
        for name, is_so in (("only measured on", each.held_out), ("caption to be written", each.lacks_caption))
        if is_so
    ]
    return _Card(
        anchor=f"clip-{number}",
        name=each.name,
        caption=each.clip.caption,
        badges=(*own, *badges),
        strips=tuple(_strips(each)),
        width=16 if shape is None else shape.size.width,
        height=9 if shape is None else shape.size.height,
        begin=begin,
        length=length,
        facts=dict(_facts(each, target, survey)),
        problem=each.glimpse.problem,
    )


def _strips(each: SurveyedClip) -> Iterator[_Strip]:
    for role, glance in each.glimpse.pictures.items():
        images = tuple(f"data:image/jpeg;base64,{b64encode(jpeg).decode()}" for jpeg in glance.thumbnails)
        yield _Strip("" if role is Role.TARGET else str(role), images)
    for role, waveform in each.glimpse.sound.items():
        sound = each.clip.soundtrack[role]
        outline = wave_outline(waveform, sound.gain)
        yield _Strip("" if role is Role.TARGET else str(role), wave=outline, num_peaks=len(waveform.peaks) - 1)


def _place(each: SurveyedClip, target: Footage | Soundtrack) -> tuple[float | None, float]:
    """Say where in its file a clip is cut, in shares of the file's length."""
    whole = _whole_seconds(each, target)
    if not whole or target.source.kind is MediaKind.IMAGE:
        return None, 0.0
    begin = min(max(float(_begin_seconds(each, target)) / whole, 0.0), 1.0)
    return begin, min(float(target.span_seconds) / whole, 1.0 - begin)


def _begin_seconds(each: SurveyedClip, target: Footage | Soundtrack) -> Fraction:
    """Say where a clip begins, from the first frame or sample of its file on."""
    facts = each.source.pictures if isinstance(target, Footage) else each.heard.sound
    return target.start_seconds - (Fraction(0) if facts is None else facts.start_seconds)


def _whole_seconds(each: SurveyedClip, target: Footage | Soundtrack) -> float | None:
    facts = each.source.pictures if isinstance(target, Footage) else each.heard.sound
    return None if facts is None else float(facts.duration_seconds)


def _facts(each: SurveyedClip, target: Footage | Soundtrack, survey: Survey) -> Iterator[tuple[str, str]]:
    """Give the numbers of a clip, before and after."""
    yield "file", target.source.name
    whole = _whole_seconds(each, target)
    if target.source.kind is not MediaKind.IMAGE:
        begin = _begin_seconds(each, target)
        of_all = "" if whole is None else f" of {whole:.2f} s"
        yield "span", f"{float(begin):.2f} to {float(begin + target.span_seconds):.2f} s{of_all}"
    if isinstance(target, Footage):
        yield from _picture_facts(each, target)
    if Role.TARGET in each.clip.soundtrack:
        yield from _sound_facts(each, survey)
    if each.clip.ranges:
        yield "generated", ", ".join(f"{float(begin):g} to {float(end):g} s" for begin, end in each.clip.ranges)
    own = target.source.name
    for role, part in (*each.clip.footage.items(), *each.clip.soundtrack.items()):
        if part.source.name != own:
            yield str(role) if role is not Role.TARGET else "its sound", part.source.name


def _picture_facts(each: SurveyedClip, target: Footage) -> Iterator[tuple[str, str]]:
    shape, facts = target.shape, each.source.pictures
    if facts is None:
        yield "size", str(shape.size)
        return
    cut = "" if each.glance is None or each.glance.cut_off < 0.005 else f", {_percent(each.glance.cut_off)} cut off"
    yield "size", f"{facts.size} \u2192 {shape.size}{cut}"
    if facts.frame_rate is not None:
        yield "rate", f"{_number(facts.frame_rate)} \u2192 {_number(shape.frame_rate)} fps, {shape.num_frames} frames"
    if each.glance is not None and each.glance.moving is not None:
        lost = each.glance.lost
        away = f", {_percent(lost)} of what moves is cut off" if lost is not None and lost >= 0.05 else ""
        yield "motion", f"{_percent(each.glance.moving)} of the picture{away}"


def _sound_facts(each: SurveyedClip, survey: Survey) -> Iterator[tuple[str, str]]:
    sound, gain = each.heard.sound, each.gain
    if sound is not None:
        rate = "" if survey.audio_rate_hz is None else f" \u2192 {_number(survey.audio_rate_hz / 1000)} kHz stereo"
        yield "sound", f"{_number(sound.rate_hz / 1000)} kHz {_channels(sound)}{rate}"
    decibels = 20 * math.log10(gain)
    loudness = ""
    if sound is not None and sound.loudness_lufs is not None:
        loudness = f", {sound.loudness_lufs:.1f} \u2192 {sound.loudness_lufs + decibels:.1f} LUFS"
    yield "gain", f"{decibels:+.1f} dB{loudness}"


def _charts(survey: Survey) -> Iterator[Histogram | None]:
    """Give the distributions over files, each file counted once."""
    files: dict[str, tuple[SurveyedClip, SourceFacts]] = {}
    for each in survey.clips:
        files.setdefault(each.file, (each, each.source))
    pictures = [facts.pictures for _, facts in files.values() if facts.pictures is not None]
    sounds = [each.heard.sound for each, _ in files.values() if each.heard.sound is not None]
    lengths = [float(facts.duration_seconds) for facts in pictures if facts.duration_seconds]
    if not pictures:
        lengths = [float(facts.duration_seconds) for facts in sounds]
    yield histogram("Length of the files", lengths, "s")
    yield ranked("Size of the files", [str(facts.size) for facts in pictures])
    rates = [_number(facts.frame_rate) for facts in pictures if facts.frame_rate is not None]
    yield ranked("Frames per second", rates)
    yield histogram(
        "Loudness of the files", [sound.loudness_lufs for sound in sounds if sound.loudness_lufs is not None], "LUFS"
    )
    yield histogram("Words of a caption", [float(len(each.clip.caption.split())) for each in survey.clips], "words")


def _condition(condition: Mapping[str, Any]) -> str:
    numbers = [f"{name.replace('_', ' ')} {value}" for name, value in condition.items() if name != "condition"]
    return ", ".join([str(condition["condition"]), *numbers])


def _channels(sound: SoundFacts) -> str:
    return {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels} channels")


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _number(value: Any) -> str:
    return f"{round(float(value), 2):g}"
