"""How previews are sampled: the settings, and what the model family does where they leave it open."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ltx_trainer.config import Settings
from ltx_trainer.diffusion import GuidanceScales, LevelGuidance
from ltx_trainer.models.family import Family

LEVEL_TOLERANCE = 1e-6
"""Noise levels that differ by less are the same one."""


@dataclass(frozen=True)
class Sampling:
    """How previews are sampled.

    Attributes:
        num_steps: Denoising steps.
        seed: Of the noise that every preview starts from.
        scales: Guidance of each stream.
        stg_blocks: Blocks whose self-attention STG leaves out.
        levels: What holds in place of both at higher noise levels, the highest first.
    """

    num_steps: int
    seed: int
    scales: Mapping[str, GuidanceScales]
    stg_blocks: tuple[int, ...]
    levels: tuple[LevelGuidance, ...] = ()

    def at(self, sigma: float) -> LevelGuidance:
        """Give the guidance that holds at a noise level."""
        higher = (level for level in self.levels if sigma > level.down_to - LEVEL_TOLERANCE)
        return next(higher, LevelGuidance(0.0, self.scales, self.stg_blocks))


def sampling_of(settings: Settings, family: Family) -> Sampling:
    """Fill what the settings leave open from the family's own defaults."""
    chosen, own = settings.validation, family.sampling
    lowest = _chosen(settings, LevelGuidance(0.0, own.scales, own.stg_blocks))
    return Sampling(
        num_steps=own.num_steps if chosen.steps is None else chosen.steps,
        seed=chosen.seed,
        scales=lowest.scales,
        stg_blocks=lowest.stg_blocks,
        levels=tuple(_chosen(settings, level) for level in own.levels),
    )


def _chosen(settings: Settings, own: LevelGuidance) -> LevelGuidance:
    """Put what the settings say in the place of what the family says at a noise level."""
    blocks = settings.validation.stg_blocks
    return replace(
        own,
        scales={name: _scales(settings, name, scales) for name, scales in own.scales.items()},
        stg_blocks=own.stg_blocks if blocks is None else blocks,
    )


def _scales(settings: Settings, stream: str, own: GuidanceScales) -> GuidanceScales:
    chosen = settings.validation
    asked = {
        "cfg": {"video": chosen.video_cfg, "audio": chosen.audio_cfg}[stream],
        "stg": settings.input.stg_scale,
        "modality": chosen.modality,
        "rescale": chosen.rescale,
    }
    return replace(own, **{name: value for name, value in asked.items() if value is not None})
