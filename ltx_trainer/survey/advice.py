"""Advice: one sentence each, where the data will disappoint. Every rule is a function of facts, with its threshold."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from ltx_trainer.artifacts import Finding, FindingKind
from ltx_trainer.errors import counted, some_of
from ltx_trainer.geometry import FrameSize
from ltx_trainer.survey.alike import groups_of
from ltx_trainer.survey.facts import Advice, AdviceKind, Glance, LookAlikes, Overlap, SurveyedClip
from ltx_trainer.survey.sound import silent_share, speaking_share

FEWEST_CLIPS = 15
"""Of videos or sounds. Source: docs/training.md."""

FEWEST_STILLS = 20
"""Of images. Source: docs/training.md."""

LEAST_SPEECH_SECONDS = 180
"""Of a voice. Source: docs/training.md."""

VOICED_SHARE = 0.5
"""Of the clips, whose captions speak of a voice where the data is there for one."""

REPEATED_SHARE = 0.2
"""Of the clips, whose captions are those of clips of other files."""

COMMON_SHARE = 0.8
"""Of a caption's words that all captions have, from which on they are all alike."""

LOST_SHARE = 0.5
"""Of what moves in a clip, that the crop takes away."""

LOST_BEYOND = 0.1
"""How much more than its part of the picture that is: of a moving camera, a crop loses just its part."""

STILL_SHARE = 0.01
"""Of a clip's picture: where less changes, it hardly moves."""

STILL_CLIPS_SHARE = 0.1
"""Of the clips, that hardly move."""

ENLARGED = 1.1
"""Factor from a source to its clip."""

LEAST_THRESHOLD_SECONDS = 1
"""Of `split_input_duration_threshold`: a video of this length is never split."""

SILENT_SHARE = 0.25
"""Of all clips' time, that is silent."""

_SPEECH = re.compile(
    r"\b(says?|said|saying|speaks?|speaking|spoken|speech|talks?|talking|voices?|narrat\w*|whispers?|whispering|"
    r"shouts?|shouting|sings?|singing|dialogue|monologue|interview\w*)\b|[\"\u201c][^\"\u201d]*\w\s+\w[^\"\u201d]*[\"\u201d]",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")


def few_clips(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that there are fewer clips than a LoRA learns from."""
    trained = [clip for clip in clips if not clip.held_out]
    if trained and all(clip.is_still for clip in trained):
        if len(trained) >= FEWEST_STILLS:
            return None
        return Advice(
            AdviceKind.FEW_CLIPS,
            f"There {_are(len(trained), 'image')}, and 20 to 50 are a good number: add more, or the LoRA will repeat "
            "them.",
        )
    if len(trained) >= FEWEST_CLIPS:
        return None
    return Advice(
        AdviceKind.FEW_CLIPS,
        f"There {_are(len(trained), 'clip')}, and 15 to 40 are a good number: add more, or the LoRA will repeat them.",
    )


def little_speech(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that there is less speech than a voice is learnt from, where captions speak of a voice."""
    heard = [clip for clip in clips if clip.waveform is not None and not clip.held_out]
    voiced = [clip for clip in heard if _SPEECH.search(clip.clip.caption)]
    if not voiced or len(voiced) < VOICED_SHARE * len(heard):
        return None
    seconds = sum(
        float(clip.duration_seconds) * speaking_share(clip.waveform, clip.gain)
        for clip in voiced
        if clip.waveform is not None
    )
    if seconds >= LEAST_SPEECH_SECONDS:
        return None
    return Advice(
        AdviceKind.LITTLE_SPEECH,
        f"The captions of {counted(len(voiced), 'clip')} speak of a voice, and in {_minutes(seconds)} of them one may "
        "be heard; to learn a voice takes 3 to 6 minutes.",
    )


def empty_captions(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that clips are trained on the empty text."""
    empty = tuple(clip.name for clip in _captioned(clips) if not clip.clip.caption.strip())
    if not empty:
        return None
    which = "No clip has a caption" if len(empty) == len(clips) else f"{_have(len(empty))} no caption"
    return Advice(
        AdviceKind.EMPTY_CAPTIONS,
        f"{which}, and the LoRA will show whatever is asked for: write captions, or set input.trigger_phrase.",
        () if len(empty) == len(clips) else empty,
    )


def alike_captions(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that captions differ in few words or none, so that no word says what a clip shows."""
    captions = [clip.clip.caption for clip in _captioned(clips)]
    words = [[word.lower() for word in _WORD.findall(caption)] for caption in captions]
    if len(captions) < 2 or not all(words):
        return None
    if len(set(captions)) == 1:
        return Advice(
            AdviceKind.ALIKE_CAPTIONS,
            "All clips have the same caption, so that no word can be told to mean one thing and not another: say what "
            "differs from clip to clip.",
        )
    common = set(words[0]).intersection(*words[1:])
    kept = sum(word in common for caption in words for word in caption)
    share = kept / sum(map(len, words))
    if share < COMMON_SHARE:
        return None
    return Advice(
        AdviceKind.ALIKE_CAPTIONS,
        f"Of the words of a caption, {_percent(share)} stand in all captions: say more of what differs from clip to "
        "clip.",
    )


def repeated_captions(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that clips of several files have one caption; scenes of one file share theirs."""
    files: dict[str, set[str]] = {}
    captioned = _captioned(clips)
    for clip in captioned:
        files.setdefault(clip.clip.caption, set()).add(clip.file)
    again = [clip for clip in captioned if clip.clip.caption.strip() and len(files[clip.clip.caption]) > 1]
    if len(files) == 1 or not again or len(again) < REPEATED_SHARE * len(clips):
        return None
    caption, count = Counter(clip.clip.caption for clip in again).most_common(1)[0]
    return Advice(
        AdviceKind.REPEATED_CAPTIONS,
        f"{_have(len(again))} the caption of another; {_short(caption)} is that of {count}: say what differs.",
        tuple(clip.name for clip in again),
    )


def _captioned(clips: Sequence[SurveyedClip]) -> list[SurveyedClip]:
    return [clip for clip in clips if not clip.lacks_caption]


def cuts_in_clips(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that clips show more than one scene, which teaches the model to cut."""
    cut = [clip for clip in clips if _shows_a_cut(clip)]
    if not cut:
        return None
    remedy = "cut them out yourself"
    if any(clip.source.pictures.duration_seconds > LEAST_THRESHOLD_SECONDS for clip in cut if clip.source.pictures):
        remedy = f"with {LEAST_THRESHOLD_SECONDS}, their scenes become clips, where they are long enough"
    return Advice(
        AdviceKind.CUTS,
        f"{_have(len(cut), 'shows', 'show')} more than one scene, and the LoRA will learn to cut: videos of up to "
        f"input.split_input_duration_threshold seconds are not split; {remedy}.",
        tuple(clip.name for clip in cut),
    )


def _shows_a_cut(clip: SurveyedClip) -> bool:
    """Say whether the frames of a clip, each in the middle of its time, lie on both sides of a cut or in a dissolve."""
    pictures, footage = clip.source.pictures, clip.footage
    if pictures is None or footage is None:
        return False
    half = footage.span_seconds / (2 * footage.shape.num_frames)
    first, last = footage.start_seconds + half, footage.start_seconds + footage.span_seconds - half
    return any(first < next_begin and end <= last for end, next_begin in pictures.cuts)


def lost_motion(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that the crop takes away most of what moves."""
    losing = tuple(clip.name for clip in clips if _loses_motion(clip.glance))
    if not losing:
        return None
    return Advice(
        AdviceKind.LOST_MOTION,
        f"In {counted(len(losing), 'clip')}, most of what moves is cut off by the crop: take the input.aspect_ratio of "
        "the files, or crop them yourself.",
        losing,
    )


def hardly_moves(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that videos stand still, which teaches the model to; not of those that stand still because of the crop."""
    videos = [(clip.name, clip.glance) for clip in clips if clip.glance is not None and clip.glance.moving is not None]
    still = tuple(name for name, glance in videos if _stands_still(glance) and not _loses_motion(glance))
    if not still or len(still) < STILL_CLIPS_SHARE * len(videos):
        return None
    return Advice(
        AdviceKind.HARDLY_MOVES,
        f"{_have(len(still), 'hardly moves', 'hardly move')}: less than {_percent(STILL_SHARE)} of the picture "
        "changes, and the LoRA will learn to stand still.",
        still,
    )


def _loses_motion(glance: Glance | None) -> bool:
    if glance is None or glance.lost is None:
        return False
    return glance.lost >= max(LOST_SHARE, glance.cut_off + LOST_BEYOND)


def _stands_still(glance: Glance) -> bool:
    return glance.moving is not None and glance.moving < STILL_SHARE


def enlarged(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that files are smaller than what they become, which teaches the model to be soft."""
    factors = {clip.name: factor for clip in clips if (factor := enlargement(clip)) is not None and factor >= ENLARGED}
    if not factors:
        return None
    worst = max(clips, key=lambda clip: factors.get(clip.name, 0))
    pictures, footage = worst.source.pictures, worst.footage
    assert pictures is not None, "what is enlarged has a size"
    assert footage is not None, "what is enlarged is seen"
    return Advice(
        AdviceKind.ENLARGED,
        f"{_have(len(factors), 'is enlarged', 'are enlarged')}, {worst.file} {factors[worst.name]:.1f} times (from "
        f"{pictures.size} to {footage.shape.size}): the LoRA will be soft. A lower input.resolution or larger files "
        "help.",
        tuple(factors),
    )


def enlargement(clip: SurveyedClip) -> float | None:
    """Give the factor by which the pictures of a clip are scaled; below 1 they are made smaller."""
    pictures, footage = clip.source.pictures, clip.footage
    if pictures is None or footage is None:
        return None
    return _scale(footage.canvas or pictures.size, footage.shape.size)


def much_silence(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that much of what is heard is silence."""
    shares = {clip.name: silent_share(clip.waveform) for clip in clips if clip.waveform is not None}
    if not shares:
        return None
    seconds = {clip.name: float(clip.duration_seconds) for clip in clips}
    total = sum(seconds[name] for name in shares)
    silent = sum(share * seconds[name] for name, share in shares.items())
    if silent < SILENT_SHARE * total:
        return None
    return Advice(
        AdviceKind.SILENCE,
        f"{_percent(silent / total)} of the sound is silence (under -60 dBFS), and the LoRA will learn to be silent: "
        "cut it out, or leave such files out.",
        tuple(name for name, share in shares.items() if share >= SILENT_SHARE),
    )


def lost_sound(clips: Sequence[SurveyedClip]) -> Advice | None:
    """Say that clips with sound are trained on without, because of others that have none."""
    if any(clip.clip.soundtrack for clip in clips):
        return None
    heard = tuple(clip.name for clip in clips if clip.source.sound is not None)
    silent = sorted({clip.file for clip in clips if clip.source.sound is None})
    if not heard or not silent:
        return None
    return Advice(
        AdviceKind.LOST_SOUND,
        f"{_have(len(heard))} sound and nothing of it is trained on, because {some_of(silent)} "
        f"{'has' if len(silent) == 1 else 'have'} none: take {'it' if len(silent) == 1 else 'them'} out, or set "
        "input.with_audio to false if that is meant.",
        heard,
    )


def clipping(clips: Sequence[SurveyedClip], findings: Sequence[Finding]) -> Advice | None:
    """Say that files have clipped sound."""
    files = {finding.file for finding in findings if finding.kind is FindingKind.CLIPPED}
    if not files:
        return None
    return Advice(
        AdviceKind.CLIPPING,
        f"{_have(len(files), 'has', 'have', 'file')} clipped sound, and the LoRA will learn its crackle: take a "
        "recording at a lower level.",
        tuple(clip.name for clip in clips if files & {part.source.name for part in clip.clip.soundtrack.values()}),
    )


def near_duplicates(pairs: Sequence[LookAlikes]) -> Advice | None:
    """Say that clips show nearly the same."""
    groups = groups_of(pairs)
    if not groups:
        return None
    names = tuple(name for group in groups for name in group)
    which = "in one group " if len(groups) == 1 else f"in {len(groups)} groups "
    return Advice(
        AdviceKind.LOOK_ALIKES,
        f"{len(names)} clips {which if len(names) > 2 else ''}show nearly the same, which counts more than "
        "once then: keep one of each, or see that the captions say what differs.",
        names,
    )


def validation_in_training(overlaps: Sequence[Overlap]) -> Advice | None:
    """Say that validation inputs are trained on."""
    items = sorted({overlap.item + 1 for overlap in overlaps})
    if not items:
        return None
    which = f"item{'s' * (len(items) != 1)} {', '.join(map(str, items))}"
    return Advice(
        AdviceKind.IN_VALIDATION,
        f"The input of validation {which} stands in the training data, so that the preview shows what was learnt by "
        "heart: give one that the LoRA has not seen.",
        tuple(sorted({name for overlap in overlaps for name in overlap.clips})),
    )


OF_CLIPS: Sequence[Callable[[Sequence[SurveyedClip]], Advice | None]] = (
    few_clips,
    little_speech,
    empty_captions,
    alike_captions,
    repeated_captions,
    cuts_in_clips,
    lost_motion,
    hardly_moves,
    enlarged,
    lost_sound,
    much_silence,
)
"""The rules that ask the clips alone."""


def advise(
    clips: Sequence[SurveyedClip],
    findings: Sequence[Finding],
    pairs: Sequence[LookAlikes],
    overlaps: Sequence[Overlap],
) -> tuple[Advice, ...]:
    """Give all advice that there is, in the order of the rules."""
    given = [
        *(rule(clips) for rule in OF_CLIPS),
        clipping(clips, findings),
        near_duplicates(pairs),
        validation_in_training(overlaps),
    ]
    return tuple(advice for advice in given if advice is not None)


def _scale(own: FrameSize, target: FrameSize) -> float:
    return max(target.width / own.width, target.height / own.height)


def _are(number: int, noun: str) -> str:
    return f"{'is' if number == 1 else 'are'} {counted(number, noun)}"


def _have(number: int, one: str = "has", more: str = "have", noun: str = "clip") -> str:
    return f"{counted(number, noun)} {one if number == 1 else more}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _short(caption: str) -> str:
    text = " ".join(caption.split())
    return f'"{text}"' if len(text) <= 60 else f'"{text[:57]}..."'
