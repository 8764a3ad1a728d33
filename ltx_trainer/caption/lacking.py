"""Which clips have no caption of their own."""

from ltx_trainer.artifacts import Clips, Manifest, Role


def find_lacking(manifest: Manifest, clips: Clips) -> frozenset[str]:
    """Name the clips that have no caption, neither of their own nor of their example; a trigger phrase is none."""
    examples = {example.files[Role.TARGET].name: example for example in manifest.examples}
    return frozenset(
        clip.name
        for clip in clips.clips
        if Role.TARGET in clip.footage and examples[clip.footage[Role.TARGET].source.name].caption_of(clip.name) is None
    )
