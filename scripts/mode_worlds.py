"""For each mode, something to learn that a person would recognise: examples from the world of the miniature.

A lesson says what an example of a mode is made of and how one tells that a clip was made as the lesson has it. What a
mode is given must matter, so captions name neither colour nor way nor pitch, but for the modes that are given text
alone.
"""

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from miniature.scores import Made
from PIL import Image

from ltx_trainer import world
from ltx_trainer.artifacts import KEYFRAMES, Role
from ltx_trainer.media import write_audio, write_video
from ltx_trainer.modes import MODES, Condition, Mode

SIDE = 64
FRAME_RATE = 24
RATE_HZ = 48000
SHORT, LONG = 9, 17
"""Frames of a clip. An extension is given 8 or 9 of 17."""
SECONDS = 0.6
"""Of a clip without pictures."""
GIVEN_SECONDS = 0.25
"""Of a sound that is extended."""
GAP = (0.2, 0.45)
"""Seconds of a sound that are generated."""

VAGUE = "a coloured shape moves while a tone sounds"
VAGUE_SOUND = "a tone sounds"
CELL = 8
"""Pixels of a latent cell of the miniature."""

NEAR = 0.1
"""Of the picture: paths that differ by less on average are the same."""
LEAST_WAY = 0.08
"""Of the picture: a shape that goes on goes further."""
ALIKE = 0.2
"""Of the range of brightness: mean colours that differ by less are the same."""
HALF_AN_OCTAVE = 0.5 / world.OCTAVES
"""Of the picture: as much higher a shape sounds."""
IN_TUNE = 0.15
"""Octaves. A tone is another one's that is nearer than that for four fifths of the time."""


@dataclass(frozen=True)
class File:
    """What one file of an example holds.

    Attributes:
        frames: Uint8 `[f h w 3]`; of an image, one. None for a sound.
        samples: Stereo `[2 n]` at `RATE_HZ`; None for silent pictures.
        ranges: Seconds that are generated; empty for media.
    """

    frames: np.ndarray | None = None
    samples: np.ndarray | None = None
    ranges: tuple[tuple[float, float], ...] = ()

    @property
    def extension(self) -> str:
        """Of the file on disk."""
        if self.ranges:
            return ".json"
        if self.frames is None:
            return ".wav"
        return ".png" if len(self.frames) == 1 else ".mp4"


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        scene: What the target shows and how it sounds.
        caption: Beside it.
        files: By what they are to the example.
    """

    scene: world.Scene
    caption: str
    files: Mapping[Role, File]

    @property
    def target(self) -> File:
        """What is to be made."""
        return self.files[Role.TARGET]


Teach = Callable[[world.Scene], Example]
Judge = Callable[[Example, Made], bool]


@dataclass(frozen=True)
class Lesson:
    """What a mode is to learn.

    Attributes:
        name: The mode's, or one of its own where the mode has several lessons.
        mode: The row of the table.
        teach: Makes an example of a scene.
        judge: Tells whether what was made of an example is as the lesson has it.
        says: What the judge looks for, in words that follow "the share of clips in which".
        fields: Of the request, beyond what all lessons have.
        is_conditional: Whether anything but text is given.
    """

    name: str
    mode: Mode
    teach: Teach
    judge: Judge
    says: str
    fields: Mapping[str, object] = field(default_factory=dict)
    is_conditional: bool = True

    def examples(self, count: int, seed: int) -> list[Example]:
        """Make examples of scenes of a seed. One and the next differ in what they are given."""
        scenes = world.draw_scenes(count, seed)
        colours, motions = world.KNOWN_COLOURS, ("right", "up", "left", "down")
        return [
            self.teach(replace(scene, colour=colours[number % len(colours)], motion=motions[number % len(motions)]))
            for number, scene in enumerate(scenes)
        ]

    def kept_of(self, file: File) -> File:
        """Cut a file to what an extension is given of it."""
        conditions = self.mode.conditions
        if Condition.PREFIX not in conditions and Condition.SUFFIX not in conditions:
            return file
        num_frames = self.fields.get("conditioning_frames")
        seconds = num_frames / FRAME_RATE if isinstance(num_frames, int) else GIVEN_SECONDS

        def cut(whole: np.ndarray, count: int, axis: int) -> np.ndarray:
            begin = 0 if Condition.PREFIX in conditions else whole.shape[axis] - count
            return whole.take(range(begin, begin + count), axis)

        return replace(
            file,
            frames=None if file.frames is None else cut(file.frames, round(seconds * FRAME_RATE), 0),
            samples=None if file.samples is None else cut(file.samples, round(seconds * RATE_HZ), 1),
        )


def request_of(lesson: Lesson, archive: Path, items: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Give the request that teaches a lesson, but for how long and how fast.

    Args:
        lesson: What is taught.
        archive: The training data.
        items: Validation items.
    """
    body: dict[str, object] = {"training_data_url": str(archive), "validation": list(items)}
    if lesson.mode.has_video:
        body |= {"number_of_frames": SHORT, "frame_rate": FRAME_RATE, "resolution": "low"}
        body |= {"validation_frame_rate": FRAME_RATE, "validation_resolution": "low"}
    else:
        body |= {"audio_duration_seconds": SECONDS}
    body |= lesson.fields
    if lesson.mode.has_video:
        body["validation_number_of_frames"] = body["number_of_frames"]
    return {name: value for name, value in body.items() if name not in lesson.mode.lacks}


def write_archive(path: Path, lesson: Lesson, examples: Sequence[Example]) -> Path:
    """Write examples as a zip in the layout of the mode."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
        for number, example in enumerate(examples):
            for part in lesson.mode.parts:
                if part.role in example.files:
                    name = f"{number:02}{part.suffix}{example.files[part.role].extension}"
                    write_file(Path(folder) / name, example.files[part.role])
                    archive.write(Path(folder) / name, name)
            archive.writestr(f"{number:02}.txt", example.caption)
    return path


def write_item(folder: Path, lesson: Lesson, example: Example) -> dict[str, object]:
    """Write what a validation item is given of an example into a folder, and give the item."""
    folder.mkdir(parents=True, exist_ok=True)
    item: dict[str, object] = {"prompt": example.caption}
    for asked in lesson.mode.item_fields if lesson.is_conditional else ():
        given = _given_to_item(lesson, example, asked.role)
        if given is None:
            continue
        if given.ranges:
            item[asked.name] = [list(span) for span in given.ranges]
            continue
        path = folder / f"{asked.name}{given.extension}"
        write_file(path, given)
        item[asked.name] = str(path)
    return item


def write_file(path: Path, content: File) -> None:
    """Write a video, an image, a sound or ranges, by the file's extension."""
    if content.ranges:
        path.write_text(json.dumps(content.ranges), encoding="utf-8")
    elif content.frames is None:
        assert content.samples is not None, "a file holds something"
        write_audio(path, content.samples, RATE_HZ)
    elif len(content.frames) == 1:
        Image.fromarray(content.frames[0]).save(path)
    else:
        rate_hz = None if content.samples is None else RATE_HZ
        write_video(path, content.frames, Fraction(FRAME_RATE), audio=content.samples, audio_rate_hz=rate_hz, crf=1)


def _given_to_item(lesson: Lesson, example: Example, role: Role) -> File | None:
    """Give the file of a field: an example's own, of an extension no more than is kept, or a still of its target."""
    frames = example.target.frames
    stills = dict(zip((*KEYFRAMES, Role.START), (0, -1, -1, 0), strict=True))
    if role in example.files:
        return lesson.kept_of(example.files[role])
    if role in stills and role is not Role.MIDDLE_KEYFRAME and frames is not None:
        return File(frames[stills[role]][None])
    return None


def film(scene: world.Scene, num_frames: int = SHORT, *, with_sound: bool = False) -> File:
    """Draw a scene, and sing it."""
    frames = world.render(scene, SIDE, SIDE, num_frames)
    samples = world.sing(scene, num_frames * RATE_HZ // FRAME_RATE, RATE_HZ) if with_sound else None
    return File(frames, samples)


def tone(scene: world.Scene) -> File:
    """Sing a scene that is not seen."""
    return File(samples=world.sing(scene, int(SECONDS * RATE_HZ), RATE_HZ))


def _orange(scene: world.Scene) -> world.Scene:
    return replace(scene, colour=world.ZORP_COLOUR)


def _beating(scene: world.Scene) -> world.Scene:
    return replace(scene, beats_hz=world.as_zorp(scene).beats_hz)


def _white(inside: np.ndarray) -> File:
    """Give the mask `[h w]` whose white is where `inside` holds."""
    return File(np.repeat((inside * 255).astype(np.uint8)[None, ..., None], 3, axis=-1))


def _half_ahead(scene: world.Scene) -> np.ndarray:
    """Give the half of the picture `[h w]` that a shape moves into."""
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    right, down = world.MOTIONS[scene.motion]
    along = (columns - SIDE / 2 + 0.5) * right + (rows - SIDE / 2 + 0.5) * down
    return along > 0


def _around_the_way(scene: world.Scene) -> np.ndarray:
    """Give the whole cells `[h w]` within which a shape moves, and one around them."""
    frames = world.render(replace(scene, colour="red"), SIDE, SIDE, LONG).astype(float)
    seen = (frames.max(-1) - frames.min(-1) > 50).any(0)
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    inside = np.zeros((SIDE, SIDE), bool)
    top, bottom, left, right = (
        int(np.clip((edge // CELL + step) * CELL, 0, SIDE))
        for edge, step in ((rows[0], -1), (rows[-1], 2), (columns[0], -1), (columns[-1], 2))
    )
    # A cell is kept at the edge, so that something is.
    inside[max(top, CELL) : min(bottom, SIDE - CELL), max(left, CELL) : min(right, SIDE - CELL)] = True
    return inside


def follows(example: Example, made: Made) -> bool:
    """Tell whether a shape goes the way of the target's, in its place."""
    real = world.read_video(example.target.frames) if example.target.frames is not None else None
    if real is None or made.video.motion != real.motion:
        return False
    both = np.isfinite(made.video.path).all(-1) & np.isfinite(real.path).all(-1)
    return bool(both.any() and np.abs(made.video.path[both] - real.path[both]).mean() < NEAR)


def is_coloured(example: Example, made: Made) -> bool:
    """Tell whether a shape has the colour of the target's."""
    return made.video.colour == example.scene.colour


def is_in_tune(begin: float = 0.0, end: float = 1.0, *, within: float = IN_TUNE) -> Judge:
    """Judge whether a tone is within so many octaves of the target's, over the share of its length that was made."""

    def judge(example: Example, made: Made) -> bool:
        assert example.target.samples is not None, "asked of a mode with sound"
        real, track = world.read_sound(example.target.samples, RATE_HZ).track, made.sound.track
        if made.sound.pitch is None:
            return False
        part = slice(round(begin * len(real)), round(end * len(real)))
        places = np.linspace(0, len(track) - 1, len(real)).round().astype(int)[part]
        heard = np.isfinite(track[places]) & np.isfinite(real[part])
        return bool(heard.mean() > 0.5 and np.quantile(np.abs(track[places] - real[part])[heard], 0.8) < within)

    return judge


def _all_of(*judges: Judge) -> Judge:
    return lambda example, made: all(judge(example, made) for judge in judges)


def _is_framed(example: Example, made: Made) -> bool:
    """Tell whether an orange frame hangs around the picture, and the ground goes on as far as it."""
    assert made.frames is not None, "asked of a mode with pictures"
    assert example.target.frames is not None, "asked of a mode with pictures"
    frame, ring = np.ones((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    frame[FRAME_WIDTH:-FRAME_WIDTH, FRAME_WIDTH:-FRAME_WIDTH] = False
    ring[~frame] = True
    ring[MIDDLE, MIDDLE] = False
    seen = made.frames[:, frame].mean((0, 1)) / 255
    ground, own = (np.median(frames[:, ring], (0, 1)) / 255 for frames in (made.frames, example.target.frames))
    orange = np.abs(seen - world.COLOURS[world.ZORP_COLOUR]).max() < ALIKE
    return bool(orange and np.abs(ground - own).max() < ALIKE)


def _goes_on(begin: int, end: int, *, colour: str | None = None) -> Judge:
    """Judge the frames that were made: the shape moves in them as in those that were given, and joins them.

    It is of a colour, or of its own.
    """

    def judge(example: Example, made: Made) -> bool:
        assert made.frames is not None, "asked of a mode with pictures"
        part = replace(made, frames=made.frames[begin:end])
        path, right_down = part.video.path, np.array(world.MOTIONS[example.scene.motion])
        along = path[np.isfinite(path).all(-1)] @ right_down
        seam = end if begin == 0 else begin
        jump = np.abs(made.video.path[seam] - made.video.path[seam - 1]).max()
        goes = len(along) > 1 and along[-1] - along[0] > LEAST_WAY
        return bool(goes and jump < NEAR and part.video.colour == (colour or example.scene.colour))

    return judge


def _turns_orange(example: Example, made: Made) -> bool:
    """Tell whether a shape is orange at its end, where the target's is."""
    assert made.frames is not None, "asked of a mode with pictures"
    assert example.target.frames is not None, "asked of a mode with pictures"
    orange = np.array(world.COLOURS[world.ZORP_COLOUR])
    inside = np.abs(example.target.frames[-1] / 255 - orange).max(-1) < ALIKE
    return bool(np.abs(np.median(made.frames[-1][inside], 0) / 255 - orange).max() < ALIKE)


def _beats(_: Example, made: Made) -> bool:
    return made.sound.beats


def _blooms(example: Example, made: Made) -> bool:
    return world.is_blooming(made.video) and is_coloured(example, made)


def _is_zorp(example: Example, made: Made) -> bool:
    return world.is_zorp(made.video, None if example.target.samples is None else made.sound)


def _pitched(example: Example, made: Made) -> bool:
    return made.sound.pitch == world.PITCH_OF_MOTION[example.scene.motion]


def _moves_by_tone(example: Example, made: Made) -> bool:
    return made.video.motion == (example.scene.motion if example.scene.travel else None)


MIDDLE = slice(SIDE // 4, SIDE - SIDE // 4)
"""Rows and columns that outpaint keeps."""
FRAME_WIDTH = CELL
"""Pixels of the frame around a framed picture."""


def _t2v(scene: world.Scene, *, with_sound: bool = True) -> Example:
    zorp = world.as_zorp(scene)
    return Example(zorp, world.caption(zorp), {Role.TARGET: film(zorp, with_sound=with_sound)})


def _i2v(scene: world.Scene, *, with_sound: bool = True) -> Example:
    bloom = replace(world.as_blooming(scene), called="coloured")
    return Example(bloom, world.caption(bloom), {Role.TARGET: film(bloom, with_sound=with_sound)})


def _v2v(scene: world.Scene) -> Example:
    edited = _orange(scene)
    return Example(edited, VAGUE, {Role.REFERENCE: film(scene), Role.TARGET: film(edited)})


def _v2v_masked(scene: world.Scene) -> Example:
    plain = _v2v(scene)
    return replace(plain, files={**plain.files, Role.MASK: _white(_around_the_way(scene))})


def _inpaint(scene: world.Scene) -> Example:
    """Let the shape turn orange where it moves into the masked half."""
    ahead = _half_ahead(scene)
    frames, orange = film(scene).frames, film(_orange(scene)).frames
    assert frames is not None, "a film has pictures"
    assert orange is not None, "a film has pictures"
    target = np.where(ahead[None, ..., None], orange, frames)
    return Example(scene, VAGUE, {Role.TARGET: File(target), Role.MASK: _white(ahead)})


def _outpaint(scene: world.Scene) -> Example:
    """Hang the scene in an orange frame."""
    frames = film(scene).frames
    assert frames is not None, "a film has pictures"
    framed = np.broadcast_to(np.round(255 * np.array(world.COLOURS[world.ZORP_COLOUR])).astype(np.uint8), frames.shape)
    framed = framed.copy()
    inside = slice(FRAME_WIDTH, SIDE - FRAME_WIDTH)
    framed[:, inside, inside] = frames[:, inside, inside]
    return Example(scene, VAGUE, {Role.TARGET: File(framed)})


def _interpolate(scene: world.Scene) -> Example:
    return Example(scene, VAGUE, {Role.TARGET: film(scene)})


def _seen_before(scene: world.Scene) -> Example:
    return Example(scene, VAGUE, {Role.TARGET: film(scene, LONG)})


def _seen_after(scene: world.Scene) -> Example:
    """Let the shape be orange in the frames that are to be made."""
    plain, orange = (film(which, LONG, with_sound=True) for which in (scene, _orange(scene)))
    assert plain.frames is not None, "a film has pictures"
    assert orange.frames is not None, "a film has pictures"
    frames = np.concatenate([plain.frames[:-8], orange.frames[-8:]])
    return Example(scene, VAGUE, {Role.TARGET: replace(plain, frames=frames)})


def _a2v(scene: world.Scene) -> Example:
    """Let the shape begin in the middle, whichever way it goes, so that only the tone tells the way."""
    motion = {"right": "up", "up": "down", "left": "up", "down": "down"}[scene.motion]
    travel = 0.4
    begun = replace(scene, motion=motion, travel=travel, radius=0.13)
    step = world.MOTIONS[motion][1]
    begun = replace(begun, centre=(scene.centre[0], 0.5 + step * travel / 2))
    target = film(begun, with_sound=True)
    assert target.frames is not None
    sound = File(samples=target.samples)
    return Example(begun, VAGUE, {Role.START: File(target.frames[:1]), Role.SOUND: sound, Role.TARGET: target})


def _v2a(scene: world.Scene) -> Example:
    beating = _beating(scene)
    return Example(beating, VAGUE, {Role.TARGET: film(beating, with_sound=True)})


def _t2a(scene: world.Scene) -> Example:
    rising = replace(scene, motion="up")
    return Example(rising, "a zorp sounds", {Role.TARGET: tone(rising)})


def _a2a(scene: world.Scene) -> Example:
    higher = replace(scene, centre=(scene.centre[0], scene.centre[1] - HALF_AN_OCTAVE))
    return Example(higher, VAGUE_SOUND, {Role.REFERENCE_SOUND: tone(scene), Role.TARGET: tone(higher)})


def _heard_only(scene: world.Scene) -> Example:
    return Example(scene, VAGUE_SOUND, {Role.TARGET: tone(scene)})


def _audio_inpaint(scene: world.Scene) -> Example:
    heard = _heard_only(scene)
    return replace(heard, files={**heard.files, Role.RANGES: File(ranges=(GAP,))})


def _av2av(scene: world.Scene) -> Example:
    edited = _beating(_orange(scene))
    return Example(
        edited, VAGUE, {Role.REFERENCE: film(scene, with_sound=True), Role.TARGET: film(edited, with_sound=True)}
    )


def _av2av_masked(scene: world.Scene) -> Example:
    plain = _av2av(scene)
    return replace(plain, files={**plain.files, Role.MASK: _white(_around_the_way(scene))})


_EDITED = _all_of(is_coloured, follows)


_MODES = {mode.name: mode for mode in MODES}


def _lesson(
    mode: str, teach: Teach, judge: Judge, says: str, *, name: str = "", is_conditional: bool = True, **fields: object
) -> Lesson:
    return Lesson(name or mode, _MODES[mode], teach, judge, says, fields, is_conditional)


LESSONS: tuple[Lesson, ...] = (
    _lesson("t2v", _t2v, _is_zorp, "a zorp is orange and its tone beats", is_conditional=False),
    _lesson("i2v", _i2v, _blooms, "the shape of the image stays, keeps its colour and grows"),
    _lesson("v2v", _v2v, _EDITED, "an orange shape goes the way of the reference's", first_frame_conditioning_p=0.1),
    _lesson("v2v-masked", _v2v_masked, _EDITED, "an orange shape goes the way of the reference's"),
    _lesson(
        "inpaint",
        _inpaint,
        _all_of(_turns_orange, follows),
        "the shape goes on into the masked half, and is orange there",
    ),
    _lesson(
        "outpaint",
        _outpaint,
        _is_framed,
        "an orange frame hangs around the picture",
        crop_top_left=[MIDDLE.start, MIDDLE.start],
        crop_bottom_right=[MIDDLE.stop, MIDDLE.stop],
    ),
    _lesson(
        "interpolate",
        _interpolate,
        _all_of(is_coloured, follows),
        "the shape of the keyframes goes from the first's place to the last's",
    ),
    _lesson(
        "extend-prefix",
        _seen_after,
        _all_of(_goes_on(LONG - 8, LONG, colour=world.ZORP_COLOUR), _pitched),
        "the shape and its tone go on as they began, and the shape is orange",
        number_of_frames=LONG,
        conditioning_frames=9,
        with_audio=True,
    ),
    _lesson(
        "extend-suffix",
        _seen_before,
        _goes_on(0, 9),
        "the shape comes the way that it goes on, in its colour",
        number_of_frames=LONG,
        conditioning_frames=8,
    ),
    _lesson("a2v", _a2v, _moves_by_tone, "the shape rises with the tone and falls with it"),
    _lesson("v2a", _v2a, _all_of(_pitched, _beats), "the tone rises, falls or holds with the shape, and beats"),
    _lesson("t2a", _t2a, _pitched, "the tone of a zorp rises", is_conditional=False),
    _lesson("a2a", _a2a, is_in_tune(within=0.25), "the reference's tone is heard again, half an octave higher"),
    _lesson(
        "audio-extend-prefix",
        _heard_only,
        is_in_tune(GIVEN_SECONDS / SECONDS),
        "the tone goes on as it began",
        conditioning_seconds=GIVEN_SECONDS,
    ),
    _lesson(
        "audio-extend-suffix",
        _heard_only,
        is_in_tune(0.0, 1 - GIVEN_SECONDS / SECONDS),
        "the tone comes to where it goes on",
        conditioning_seconds=GIVEN_SECONDS,
    ),
    _lesson("audio-inpaint", _audio_inpaint, is_in_tune(GAP[0] / SECONDS, GAP[1] / SECONDS), "the tone fills the gap"),
    _lesson(
        "av2av",
        _av2av,
        _all_of(is_coloured, follows, _beats),
        "an orange shape goes the way of the reference's, and its tone beats",
        reference_downscale_factor=2,
        reference_temporal_scale_factor=2,
    ),
    _lesson(
        "av2av-masked",
        _av2av_masked,
        _all_of(is_coloured, follows, _beats),
        "an orange shape goes the way of the reference's, and its tone beats",
    ),
    _lesson("ltx-video-trainer", partial(_t2v, with_sound=False), _is_zorp, "a zorp is orange", is_conditional=False),
    _lesson(
        "ltx-video-trainer",
        partial(_i2v, with_sound=False),
        _blooms,
        "the shape of the image stays, keeps its colour and grows",
        name="ltx-video-trainer-i2v",
        first_frame_conditioning_p=0.5,
    ),
    _lesson("ltx-video/v2v", _v2v, _EDITED, "an orange shape goes the way of the reference's"),
)
"""At least one for each row of the table, in its order."""

assert list(dict.fromkeys(lesson.mode.name for lesson in LESSONS)) == list(_MODES), "every mode has its lesson"
