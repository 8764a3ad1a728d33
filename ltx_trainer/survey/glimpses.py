"""What decoding a little of a clip told, remembered by what was decoded so that no run decodes it again."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ltx_trainer.artifacts import Footage, Role, Soundtrack, SourceFacts
from ltx_trainer.atomic import write_text
from ltx_trainer.errors import MediaError
from ltx_trainer.media import Spool
from ltx_trainer.media.decoding import DECODING
from ltx_trainer.survey.facts import Fingerprint, Glance, Glimpse, Waveform
from ltx_trainer.survey.pictures import look_at
from ltx_trainer.survey.sound import listen_to

Part = TypeVar("Part", Footage, Soundtrack)

GLIMPSING = 2
"""Raised whenever the same clip comes to show something else."""


class Glimpses:
    """Glimpses of clips, each kept as one small file. What could not be decoded is not remembered.

    Args:
        folder: Where they lie, shared by all runs.
        spool: Where pictures may lie decoded.
    """

    def __init__(self, folder: Path, spool: Spool | None = None) -> None:
        self._folder = folder / f"v{GLIMPSING}"
        self._spool = spool

    def of(
        self,
        footage: Mapping[Role, Footage],
        soundtrack: Mapping[Role, Soundtrack],
        sources: Mapping[str, SourceFacts],
    ) -> Glimpse:
        """Look at a clip or a validation item, or recall it.

        A file that cannot be decoded any more costs its pictures or its sound, and is told as the problem.

        Args:
            footage: Its pictures by role.
            soundtrack: Its sound by role.
            sources: What its files are, by their digests.
        """
        pictures, sound = _own_parts(footage), _own_parts(soundtrack)
        note = self._note(pictures, sound)
        glimpse = _recalled(note)
        if glimpse is None:
            glimpse = _decoded(pictures, sound, sources, self._spool)
            if glimpse.problem is None:
                write_text(note, json.dumps(_written(glimpse)))
        return glimpse

    def has(self, footage: Mapping[Role, Footage], soundtrack: Mapping[Role, Soundtrack]) -> bool:
        """Say whether a clip or a validation item was looked at before."""
        return self._note(_own_parts(footage), _own_parts(soundtrack)).is_file()

    def _note(self, pictures: Mapping[Role, Footage], sound: Mapping[Role, Soundtrack]) -> Path:
        return self._folder / f"{_key(pictures, sound)}.json"


def _decoded(
    footage: Mapping[Role, Footage],
    soundtrack: Mapping[Role, Soundtrack],
    sources: Mapping[str, SourceFacts],
    spool: Spool | None,
) -> Glimpse:
    pictures: dict[Role, Glance] = {}
    sound: dict[Role, Waveform] = {}
    problems: list[str] = []
    for role, part in footage.items():
        seen = sources[part.source.sha256].pictures
        assert seen is not None, "what pictures are cut from was looked at"
        try:
            pictures[role] = look_at(part, seen.size, spool)
        except MediaError as error:
            problems.append(str(error))
    for role, track in soundtrack.items():
        heard = sources[track.source.sha256].sound
        assert heard is not None, "what sound is cut from was listened to"
        try:
            sound[role] = listen_to(track, heard.rate_hz)
        except MediaError as error:
            problems.append(str(error))
    return Glimpse(pictures, sound, " ".join(dict.fromkeys(problems)) or None)


def _key(footage: Mapping[Role, Footage], soundtrack: Mapping[Role, Soundtrack]) -> str:
    """Name everything that decides what is seen and heard: no names, captions or gains."""
    facts: dict[str, Any] = {role: part.facts for role, part in footage.items()}
    facts |= {f"sound of {role}": _sound_facts(part) for role, part in soundtrack.items()}
    return hashlib.sha256(json.dumps([DECODING, facts], sort_keys=True, default=str).encode()).hexdigest()


def _own_parts(parts: Mapping[Role, Part]) -> dict[Role, Part]:
    """Leave out what is cut from the target's own file, such as its keyframes."""
    target = parts.get(Role.TARGET)
    return {
        role: part
        for role, part in parts.items()
        if role is Role.TARGET or target is None or part.source.sha256 != target.source.sha256
    }


def _sound_facts(soundtrack: Soundtrack) -> list[str | bool]:
    span = (soundtrack.start_seconds, soundtrack.span_seconds, soundtrack.duration_seconds)
    return [soundtrack.source.sha256, soundtrack.is_stretched, *map(str, span)]


def _recalled(note: Path) -> Glimpse | None:
    """Read a note; a damaged one counts as none."""
    if not note.is_file():
        return None
    try:
        facts = json.loads(note.read_text("utf-8"))
        return Glimpse(
            {Role(role): _glance_of(glance) for role, glance in facts["pictures"].items()},
            {Role(role): Waveform(tuple(peaks)) for role, peaks in facts["sound"].items()},
        )
    except (ValueError, KeyError, TypeError):
        return None


def _written(glimpse: Glimpse) -> dict[str, Any]:
    return {
        "pictures": {role: _facts_of(glance) for role, glance in glimpse.pictures.items()},
        "sound": {role: waveform.peaks for role, waveform in glimpse.sound.items()},
    }


def _facts_of(glance: Glance) -> dict[str, Any]:
    return {
        "thumbnails": [b64encode(jpeg).decode() for jpeg in glance.thumbnails],
        "prints": [[f"{each.bits:016x}", each.colours.hex()] for each in glance.prints],
        "moving": glance.moving,
        "lost": glance.lost,
        "cut_off": glance.cut_off,
    }


def _glance_of(facts: Mapping[str, Any]) -> Glance:
    return Glance(
        thumbnails=tuple(b64decode(jpeg) for jpeg in facts["thumbnails"]),
        prints=tuple(Fingerprint(int(bits, 16), bytes.fromhex(colours)) for bits, colours in facts["prints"]),
        moving=facts["moving"],
        lost=facts["lost"],
        cut_off=facts["cut_off"],
    )
