"""Cuts every example of a Manifest to what the model sees, hears and reads."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ltx_trainer.artifacts import Clip, Clips, Example, LeftOut, Manifest, Role
from ltx_trainer.conditions import Terms
from ltx_trainer.config import AudioSection, DataSection, Request
from ltx_trainer.errors import DatasetError
from ltx_trainer.geometry import SoundGrid
from ltx_trainer.media import Spool, cut_rule
from ltx_trainer.modes import Mode
from ltx_trainer.prepare.ahead import Scanning, scan_ahead
from ltx_trainer.prepare.cutting import Cutting, Take, cut_example
from ltx_trainer.prepare.scans import Scans
from ltx_trainer.prepare.sound import add_sound, check_model, find_tracks, hears, judge_clips, tell_findings
from ltx_trainer.workers import Tracker

logger = logging.getLogger(__name__)

MAX_ROWS = 20
"""Reasons that a message lists."""

MAX_NAMES = 3
"""Clips that a reason names."""


def prepare_clips(
    request: Request,
    mode: Mode,
    terms: Terms,
    manifest: Manifest,
    folder: Path,
    *,
    audio: AudioSection,
    audio_rate_hz: int | None,
    sound_grid: SoundGrid | None,
    frames_factor: int,
    data: DataSection,
    spool: Spool | None = None,
    track: Tracker | None = None,
    captions_follow: bool = False,
) -> Clips:
    """Decide the exact span of every clip and its caption, in the order of names.

    Every source is decoded once to be counted and timed; what that told is kept in `folder`. The pictures of clips are
    kept on the way.

    Args:
        request: Says how to split, scale, and treat sound and captions.
        mode: Of the run.
        terms: Say what every video or sound becomes, and what is given beside it; an image becomes one frame of the
            size and rate of a video.
        manifest: The examples.
        folder: Of the scans, shared by all runs.
        audio: Says which level sound is brought to.
        audio_rate_hz: Sample rate of the model; None if it has no sound.
        sound_grid: Its tokens; None if it has no sound.
        frames_factor: Pixel frames of one latent frame, by which too short a clip is told what length it would do for.
        data: Says how cuts are found, how many windows are taken, and how many processes decode.
        spool: Where pictures are kept. None: they are not.
        track: Shows how far the scanning is.
        captions_follow: Whether a model will write the captions that lack.

    Raises:
        ConfigError: Sound is required of a model that has none.
        DatasetError: Sound is required and some example has none, ranges do not fit their sound, or no
            clip is left, or two have one name.
    """
    check_model(mode, audio_rate_hz)
    _tell_of_unused_rate(request, mode, terms)
    rule = cut_rule(data.scene_detector, data.scene_threshold)
    scans = Scans(folder, rule)
    cutting = Cutting(request, terms, frames_factor, audio_rate_hz, sound_grid, spread=data.windows == "spread")
    examples = sorted(manifest.examples, key=lambda example: example.name)
    scanning = Scanning(cutting, hears(request, mode), folder, rule, spool)
    dead = scan_ahead(scanning, examples, workers=data.workers, track=track)
    cut = [*dead.values()]
    cut += [item for example in examples if example.name not in dead for item in _cut(cutting, example, scans)]
    takes = [item for item in cut if isinstance(item, Take)]
    left_out = [item for item in cut if isinstance(item, LeftOut)]
    _check_names(takes)

    tracks = find_tracks(request, mode, takes, scans, rate_hz=audio_rate_hz) if takes else None
    clips: list[Clip] = []
    for take in takes:
        sound = add_sound(request, audio, take, tracks)
        if isinstance(sound, LeftOut):
            left_out.append(sound)
            continue
        caption = request.with_trigger(take.example.caption_of(take.name))
        clips.append(Clip(take.name, caption, take.footage, sound, take.ranges))
    left_out.sort(key=lambda item: item.name)
    if not clips:
        raise DatasetError(_none_left(mode, left_out))
    if not captions_follow:
        _warn_of_empty_captions(clips, mode)
    findings = () if tracks is None else judge_clips(request, audio, clips, tracks, scans)
    tell_findings(findings)
    sources = scans.facts_of(part for clip in clips for part in (*clip.footage.values(), *clip.soundtrack.values()))
    return Clips(tuple(clips), tuple(left_out), with_audio=tracks is not None, findings=findings, sources=sources)


def _cut(cutting: Cutting, example: Example, scans: Scans) -> list[Take | LeftOut]:
    """Cut one example, and tell which of its captions are of clips that it does not give; none where it gives none."""
    cut = cut_example(cutting, example, scans)
    if not any(isinstance(item, Take) for item in cut):
        return cut
    names = [item.name for item in cut]
    missing = [piece for piece in example.pieces if not any(_is_of(name, example.name + piece) for name in names)]
    return [*cut, *(_without_clip(example, piece, names) for piece in missing)]


def _is_of(clip: str, name: str) -> bool:
    """Say whether a clip has a name, or is a window of the scene that has it."""
    return clip == name or clip.startswith(f"{name}#")


def _without_clip(example: Example, piece: str, names: Sequence[str]) -> LeftOut:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    reason = (
        f"has a caption ({example.pieces[piece].where}) and is no clip: {example.files[Role.TARGET].name} gives "
        f"{', '.join(names[:MAX_NAMES])}{more}"
    )
    return LeftOut(example.name + piece, reason, is_incomplete=True)


def _tell_of_unused_rate(request: Request, mode: Mode, terms: Terms) -> None:
    """Say that the rate that is asked for is not that of the clips, where scaling has one of its own."""
    shape, rate = terms.shape, mode.auto_scale_rate
    if request.auto_scale_input and shape is not None and rate not in (None, request.frame_rate):
        logger.info(
            "auto_scale_input makes every video %d frames at %d fps in %s; frame_rate %d is not used.",
            shape.num_frames,
            rate,
            mode.name,
            request.frame_rate,
        )


def _check_names(takes: Sequence[Take]) -> None:
    """Refuse two clips of one name, which a file called like another one's scene, window or part makes."""
    name, count = Counter(take.name for take in takes).most_common(1)[0] if takes else ("", 0)
    if count > 1:
        raise DatasetError(
            f"{count} clips are named {name!r}: a file is named like a scene, a window or a part of another. Rename "
            "the file."
        )


def _none_left(mode: Mode, left_out: Sequence[LeftOut]) -> str:
    rows = [f"  {item.name}: {item.reason}" for item in left_out[:MAX_ROWS]]
    if len(left_out) > MAX_ROWS:
        rows.append(f"  ... and {len(left_out) - MAX_ROWS} more")
    return f"No clip is left to train {mode.name} on; all {len(left_out)} were left out:\n" + "\n".join(rows)


def _warn_of_empty_captions(clips: Sequence[Clip], mode: Mode) -> None:
    num_empty = sum(not clip.caption for clip in clips)
    if num_empty:
        logger.warning(
            "%d of %d clips have neither a caption nor a trigger phrase, and are trained on the empty text.%s",
            num_empty,
            len(clips),
            " captions.auto: true lets a model write captions." if mode.has_video else "",
        )
