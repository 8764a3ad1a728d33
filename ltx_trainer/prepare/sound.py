"""Whether a run has sound, and which span of a track goes with which pictures."""

import logging
from collections.abc import Mapping, Sequence
from fractions import Fraction

from ltx_trainer.artifacts import (
    Clip,
    Example,
    Finding,
    FindingKind,
    LeftOut,
    MediaKind,
    Range,
    Role,
    Soundtrack,
    SourceFile,
)
from ltx_trainer.config import AudioSection, Request
from ltx_trainer.errors import ConfigError, DatasetError, MediaError
from ltx_trainer.media import AudioScan
from ltx_trainer.modes import Mode, Presence
from ltx_trainer.prepare.cutting import Take
from ltx_trainer.prepare.hearing import judge_sound
from ltx_trainer.prepare.lengths import early_end, told
from ltx_trainer.prepare.scans import Scans

logger = logging.getLogger(__name__)

PEAK = 10 ** (-1 / 20)
"""-1 dBFS, below which lossy codecs do not clip: what `peak` brings files to."""

SILENCE = 1e-6
"""Peaks under it (-120 dBFS) are no sound, and are not made louder."""

MAX_TOLD = 20
"""Findings of one kind that are told one by one."""

Track = AudioScan | MediaError | None
"""What a file has: a track, a track that cannot be decoded, or none."""


def check_model(mode: Mode, rate_hz: int | None) -> None:
    """Refuse a mode that cannot do without sound on a model that has none.

    Raises:
        ConfigError: It is so.
    """
    if mode.needs_audio and rate_hz is None:
        raise ConfigError(f"{mode.name} needs sound, and the base model has none. Take a model that has it.")


def hears(request: Request, mode: Mode) -> bool:
    """Say whether the sound of files is asked for, if they have any."""
    return mode.audio is not Presence.ABSENT and (mode.needs_audio or request.with_audio is not False)


def find_tracks(
    request: Request, mode: Mode, takes: Sequence[Take], scans: Scans, *, rate_hz: int | None
) -> Mapping[str, AudioScan | MediaError] | None:
    """Decide whether the run has sound; if so, give the track of every file that is heard, by the file's digest.

    Sources that no take comes from have no say.

    Args:
        request: `with_audio` None is on if every video has a track, and a damaged one is one.
        mode: May need sound, or have none, whatever the request says.
        takes: What will be trained on.
        scans: Of the sources.
        rate_hz: Sample rate of the model; None if it has no sound.

    Returns:
        None if the run is silent.

    Raises:
        ConfigError: Sound is required of a model that has none.
        DatasetError: Sound is required of images, or of videos of which some have none.
    """
    if mode.audio is Presence.ABSENT:
        if any(source.kind is MediaKind.VIDEO for take in takes for source in take.example.files.values()):
            logger.info("The run is silent: %s trains no sound. Tracks that videos have are left alone.", mode.name)
        return None
    if not hears(request, mode):
        return None
    if rate_hz is None:
        if request.with_audio:
            raise ConfigError("with_audio is true, and the base model has no sound. false and null work.")
        return None
    heard = [source for take in takes for source in heard_files(take.example)]
    sources = {source.sha256: source for source in heard}
    stills = [source.name for source in sources.values() if source.kind is MediaKind.IMAGE]
    if stills and not mode.needs_audio:
        if request.with_audio:
            raise DatasetError(f"with_audio is true, and images such as {stills[0]!r} have no sound. false works.")
        if len(stills) < len(sources):
            logger.info("The run is silent: %d images have no sound, the first is %s.", len(stills), stills[0])
        return None
    tracks = {digest: track_of(source, scans, rate_hz) for digest, source in sources.items()}
    if mode.needs_audio:
        _check_all_heard(mode, takes, tracks)
    silent = sorted({source.name for source in heard if tracks[source.sha256] is None})
    if silent and request.with_audio:
        raise DatasetError(
            f"with_audio is true, and {len(silent)} videos have no audio track: {', '.join(silent)}. "
            "Take them out, or set with_audio to false."
        )
    if silent:
        logger.info("The run is silent: %d videos have no audio track, the first is %s.", len(silent), silent[0])
        return None
    return {digest: track for digest, track in tracks.items() if track is not None}


def add_sound(
    request: Request, audio: AudioSection, take: Take, tracks: Mapping[str, AudioScan | MediaError] | None
) -> dict[Role, Soundtrack] | LeftOut:
    """Give the sound of a take by role: none in a silent run.

    The track of a video is heard with its pictures; a sound of its own is laid over the take from its first sample.

    Returns:
        The sound, or the reason to leave the take out: a track is damaged, or a sound of its own is too short.
    """
    if tracks is None:
        return {}
    sound: dict[Role, Soundtrack] = {}
    for role, part in _heard_parts(take.example).items():
        source = take.example.files[part]
        track = tracks[source.sha256]
        if isinstance(track, MediaError):
            return LeftOut(take.name, str(track))
        begin = take.begins.get(part, track.start_seconds + take.offset_seconds)
        left = track.start_seconds + track.duration_seconds - begin
        if left < take.span_seconds - _lacking_allowed(take, part):
            file = source.name if part is Role.TARGET else f"its {part} {source.name}"
            return LeftOut(
                take.name,
                f"needs {told(take.span_seconds)} s of sound, and {file} has {told(max(left, Fraction(0)))} s from "
                f"{told(take.offset_seconds)} s on",
            )
        sound[role] = Soundtrack(
            source=source,
            start_seconds=begin,
            span_seconds=take.span_seconds,
            duration_seconds=take.duration_seconds,
            preserve_pitch=request.audio_preserve_pitch,
            gain=gain_of(request, audio, track),
        )
    return sound


def gain_of(request: Request, audio: AudioSection, track: AudioScan) -> float:
    """Give the factor that brings a whole file to the level that is asked for.

    By `loudness`, a file that is too short to have one is brought to the true peak, and one in which no 0.4 s are above
    -70 LUFS is left as it is.
    """
    if not request.audio_normalize or track.peak < SILENCE:
        return 1.0
    if audio.normalize == "peak":
        return PEAK / track.peak
    limit = _factor(audio.true_peak_dbfs) / track.true_peak
    if track.loudness_lufs is None:
        return limit if track.is_too_short else 1.0
    return min(limit, _factor(audio.loudness_lufs - track.loudness_lufs))


def judge_clips(
    request: Request,
    audio: AudioSection,
    clips: Sequence[Clip],
    tracks: Mapping[str, AudioScan | MediaError],
    scans: Scans,
) -> tuple[Finding, ...]:
    """Judge the sound of every file that a clip hears, in the order of names.

    Args:
        request: Says whether levels are changed.
        audio: Says how.
        clips: What will be trained on.
        tracks: From `find_tracks`.
        scans: What was looked at: a file whose pictures were, is judged beside them.
    """
    sources: dict[str, SourceFile] = {}
    spans: dict[str, dict[str, Range]] = {}
    for clip in clips:
        for sound in clip.soundtrack.values():
            end = sound.start_seconds + (sound.span_seconds if sound.is_stretched else sound.duration_seconds)
            sources[sound.source.name] = sound.source
            spans.setdefault(sound.source.name, {})[clip.name] = (sound.start_seconds, end)
    findings: list[Finding] = []
    for name, source in sorted(sources.items()):
        track = tracks[source.sha256]
        assert isinstance(track, AudioScan), "a clip whose track is damaged is left out"
        needs_loudness = request.audio_normalize and audio.normalize == "loudness"
        video = scans.seen_video(source)
        findings += judge_sound(name, track, spans[name], video=video, needs_loudness=needs_loudness)
    return tuple(findings)


def tell_findings(findings: Sequence[Finding]) -> None:
    """Warn of what was found in sound, one line a file; of pauses, which may be meant, it only informs."""
    for kind in FindingKind:
        level = logging.INFO if kind is FindingKind.PAUSES else logging.WARNING
        found = [finding.sentence for finding in findings if finding.kind is kind]
        for sentence in found[:MAX_TOLD]:
            logger.log(level, "%s", sentence)
        if len(found) > MAX_TOLD:
            logger.log(level, "%s: likewise %d more files.", kind.capitalize(), len(found) - MAX_TOLD)


def _factor(decibels: float) -> float:
    return 10 ** (decibels / 20)


def _lacking_allowed(take: Take, part: Role) -> Fraction:
    """Say how many seconds of silence may fill up the sound of a take.

    The track of a video often ends a little before its pictures; a sound that is laid over a take does not.
    """
    if part in (Role.TARGET, Role.REFERENCE) and take.footage:
        return max(take.slack_seconds, early_end(take.span_seconds))
    return take.slack_seconds


def _heard_parts(example: Example) -> dict[Role, Role]:
    """Say which file of an example each sound of its clips is the track of."""
    files = example.files
    parts = {Role.TARGET: next(role for role in (Role.SOUND, Role.START, Role.TARGET) if role in files)}
    for role in (Role.REFERENCE_SOUND, Role.REFERENCE):
        if role in files:
            return {**parts, Role.REFERENCE_SOUND: role}
    return parts


def heard_files(example: Example) -> list[SourceFile]:
    """List the files of an example that its clips hear."""
    return [example.files[part] for part in _heard_parts(example).values()]


def _check_all_heard(mode: Mode, takes: Sequence[Take], tracks: Mapping[str, Track]) -> None:
    silent = [
        f"{take.example.name} ({source.name})"
        for take in takes
        for source in heard_files(take.example)
        if tracks[source.sha256] is None
    ]
    # A split video has many takes.
    named = list(dict.fromkeys(silent))
    if named:
        added = [f", add a sound named x{part.suffix}" for part in mode.parts if part.role is Role.SOUND]
        raise DatasetError(
            f"{mode.name} needs sound, and {len(named)} files have no audio track: {', '.join(named)}. "
            f"Give them one{''.join(added)}, or take them out."
        )


def track_of(source: SourceFile, scans: Scans, rate_hz: int) -> Track:
    """Scan a soundtrack; give None if the file has none, and the error if it cannot be read."""
    if source.kind is MediaKind.IMAGE:
        return None
    try:
        return scans.audio(source, rate_hz=rate_hz)
    except MediaError as error:
        return error
