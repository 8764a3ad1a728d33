"""How previews are sampled: the settings, and what the model family does where they leave it open."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ltx_trainer.config import Settings
from ltx_trainer.diffusion import GuidanceScales
from ltx_trainer.models.family import Family


@dataclass(frozen=True)
class Sampling:
    """How previews are sampled.

    Attributes:
        num_steps: Denoising steps.
        seed: Of the noise that every preview starts from.
        scales: Guidance of each stream.
        stg_blocks: Blocks whose self-attention STG leaves out.
    """

    num_steps: int
    seed: int
    scales: Mapping[str, GuidanceScales]
    stg_blocks: tuple[int, ...]


def sampling_of(settings: Settings, family: Family) -> Sampling:
    """Fill what the settings leave open from the family's own defaults."""
    chosen, own = settings.validation, family.sampling
    shared = {"stg": settings.input.stg_scale, "modality": chosen.modality, "rescale": chosen.rescale}
    asked = {"video": {"cfg": chosen.video_cfg, **shared}, "audio": {"cfg": chosen.audio_cfg, **shared}}
    return Sampling(
        num_steps=chosen.steps,
        seed=chosen.seed,
        scales={
            name: replace(own.scales[name], **{key: value for key, value in wishes.items() if value is not None})
            for name, wishes in asked.items()
        },
        stg_blocks=own.stg_blocks if chosen.stg_blocks is None else chosen.stg_blocks,
    )
