"""Which clips a model is to write a caption of: those of which no text speaks."""

from fractions import Fraction
from pathlib import Path

from ltx_trainer.artifacts import Clip, Clips, Example, Footage, Manifest, MediaKind, PieceCaption, Role, SourceFile
from ltx_trainer.caption import find_lacking
from ltx_trainer.geometry import ClipShape, FrameSize

SHAPE = ClipShape(9, FrameSize(32, 32), Fraction(24))


def test_a_scene_lacks_a_caption_where_neither_it_nor_its_video_has_one() -> None:
    examples, clips = [], []
    for name, caption in (("a", None), ("b", "words")):
        source = SourceFile(f"{name}.mp4", Path("nowhere"), name, MediaKind.VIDEO)
        pieces = {"#scene-002": PieceCaption("its own", "a table")}
        examples.append(Example(name, {Role.TARGET: source}, caption, pieces=pieces))
        footage = {Role.TARGET: Footage(source, Fraction(0), SHAPE.duration_seconds, SHAPE)}
        clips += [Clip(f"{name}#scene-{number:03d}", "TOK", footage, {}) for number in (1, 2)]

    lacking = find_lacking(Manifest(tuple(examples), ()), Clips(tuple(clips), (), with_audio=False))

    assert lacking == {"a#scene-001"}
