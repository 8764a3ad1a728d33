"""Which clips have no caption of their own."""

from ltx_trainer.artifacts import Clips, Manifest, Role


def find_lacking(manifest: Manifest, clips: Clips) -> frozenset[str]:
    """Name the clips of examples without a caption; a trigger phrase is none."""
    silent = {example.files[Role.TARGET].name for example in manifest.examples if example.caption is None}
    return frozenset(
        clip.name
        for clip in clips.clips
        if Role.TARGET in clip.footage and clip.footage[Role.TARGET].source.name in silent
    )
