"""Judges the sound of a file by what scanning it told: what will disappoint, in findings that any reader can show."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from ltx_trainer.artifacts import Finding, FindingKind, Range
from ltx_trainer.media import AudioScan, VideoScan
from ltx_trainer.prepare.lengths import told

_SILENT_SHARE = Fraction(95, 100)
"""Of a clip's span, from which on the clip counts as silent."""

_MAX_NAMED = 5


def judge_sound(
    name: str,
    track: AudioScan,
    spans: Mapping[str, Range],
    *,
    video: VideoScan | None = None,
    needs_loudness: bool = False,
) -> tuple[Finding, ...]:
    """Judge the sound of one file.

    Args:
        name: Of the file.
        track: What it holds.
        spans: Begin and end of each clip that hears it, by the clip's name, on the file's clock.
        video: The pictures that the track belongs to; None of a sound alone.
        needs_loudness: Whether it is to be brought to a loudness.
    """
    findings = [_silence(name, track, spans), _clipping(name, track)]
    if video is not None:
        findings.append(_offset(name, track, video))
    if needs_loudness:
        findings.append(_lacking_loudness(name, track))
    return tuple(finding for finding in findings if finding is not None)


def silent_seconds(track: AudioScan, span: Range) -> Fraction:
    """Say how much of a span is silence: found in the track, or before its begin or after its end."""
    begin, end = span
    before = max(Fraction(0), min(end, track.start_seconds) - begin)
    after = max(Fraction(0), end - max(begin, track.end_seconds))
    within = sum(max(Fraction(0), min(end, stop) - max(begin, start)) for start, stop in track.silences)
    return before + after + within


def _silence(name: str, track: AudioScan, spans: Mapping[str, Range]) -> Finding | None:
    """Name a silent track, else the clips that hear nothing of it, else the pauses that clips hear."""
    seconds, silences = track.duration_seconds, track.silences
    if track.is_silent:
        sentence = f"{name} has a silent audio track: all of its {told(seconds)} s are under -60 dBFS."
        return Finding(FindingKind.SILENT_TRACK, name, sentence, {"seconds": float(seconds)}, tuple(spans), silences)
    silent = tuple(clip for clip, span in spans.items() if _is_silent(track, span))
    total = sum((end - begin for begin, end in silences), Fraction(0))
    numbers = {"silent_seconds": float(total), "seconds": float(seconds)}
    if silent:
        which = "its only clip" if len(spans) == 1 else f"{len(silent)} of its {len(spans)} clips ({_listed(silent)})"
        sentence = f"{name} is silent, under -60 dBFS, in {which}.{_where(silences)}"
        return Finding(FindingKind.SILENT_CLIPS, name, sentence, numbers, silent, silences)
    heard = tuple(pause for pause in silences if any(max(pause[0], b) < min(pause[1], e) for b, e in spans.values()))
    if heard:
        sentence = f"{name} has {told(total)} s of silence in {told(seconds)} s.{_where(heard)}"
        return Finding(FindingKind.PAUSES, name, sentence, numbers, (), heard)
    return None


def _is_silent(track: AudioScan, span: Range) -> bool:
    return silent_seconds(track, span) >= _SILENT_SHARE * (span[1] - span[0])


def _clipping(name: str, track: AudioScan) -> Finding | None:
    if not track.clipped:
        return None
    places = "1 place" if track.clipped == 1 else f"{track.clipped} places"
    sentence = f"{name} has clipped sound: it stays at full scale in {places} of its {told(track.duration_seconds)} s."
    numbers = {"clipped": track.clipped, "seconds": float(track.duration_seconds)}
    return Finding(FindingKind.CLIPPED, name, sentence, numbers)


def _offset(name: str, track: AudioScan, video: VideoScan) -> Finding | None:
    """Tell of sound that begins or ends more than a frame away from its pictures."""
    frame = video.duration_seconds / video.num_frames
    begin = track.start_seconds - video.start_seconds
    end = track.end_seconds - (video.start_seconds + video.duration_seconds)
    parts = [
        f"{verb} {told(abs(offset))} s {'after' if offset > 0 else 'before'}"
        for verb, offset in (("begins", begin), ("ends", end))
        if abs(offset) > frame
    ]
    if not parts:
        return None
    last = "them" if len(parts) > 1 else "its pictures"
    filled = " Silence stands where there is no sound." if begin > frame or end < -frame else ""
    numbers = {"begin_seconds": float(begin), "end_seconds": float(end), "frame_seconds": float(frame)}
    return Finding(
        FindingKind.OFFSET, name, f"The sound of {name} {' its pictures and '.join(parts)} {last}.{filled}", numbers
    )


def _lacking_loudness(name: str, track: AudioScan) -> Finding | None:
    if track.loudness_lufs is not None or track.is_silent:
        return None
    why, done = "no 0.4 s of it are above -70 LUFS", "its level is left as it is"
    if track.is_too_short:
        why = f"it lasts {told(track.duration_seconds)} s, and 0.4 s are needed"
        done = "its true peak is brought to audio.true_peak_dbfs"
    sentence = f"The loudness of {name} cannot be measured: {why}; {done}."
    numbers = {"seconds": float(track.duration_seconds), "true_peak": track.true_peak}
    return Finding(FindingKind.NO_LOUDNESS, name, sentence, numbers)


def _where(silences: Sequence[Range]) -> str:
    spans = [f"{told(begin)} to {told(end)} s" for begin, end in silences]
    return f" Silence: {_listed(spans)}." if spans else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
