"""The versions of LTX-Video and what each is trained and sampled with: one table, without torch.

Source: Lightricks' own pipeline configs and the folders of diffusers; the tests hold the schedules to the latter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Vae(StrEnum):
    """Which video VAE a version has, told by its config."""

    PLAIN = "without timestep conditioning"
    CONDITIONED = "with timestep conditioning and convolutions that downsample"
    DEEP = "with timestep conditioning and cells that are folded into channels"


class Size(StrEnum):
    """Which transformer a version has."""

    SMALL = "2B"
    LARGE = "13B"


class Schedule(StrEnum):
    """How the noise levels of sampling fall."""

    SHIFTED = "shifted by the number of tokens, the last but one being 0.1"
    LINEAR_QUADRATIC = "slowly along a line, then faster and faster"


@dataclass(frozen=True)
class Guided:
    """How sampling is guided over a range of noise levels.

    Attributes:
        down_to: The lowest noise level at which it holds; above it, what stands before it does.
        cfg: Against the negative prompt; 1 is off.
        stg: Against the model without self-attention in some blocks; 0 is off.
        rescale: How far guidance may not raise contrast; 0 is off.
        stg_blocks: Blocks whose self-attention STG replaces by its values.
    """

    down_to: float
    cfg: float
    stg: float
    rescale: float
    stg_blocks: tuple[int, ...]


@dataclass(frozen=True)
class Version:
    """One row: versions that nothing but their weights tells apart.

    Attributes:
        names: What Lightricks calls them.
        vae: Their video VAE.
        size: Their transformer.
        causal: Whether a latent frame stands where its pixel frames begin with frame 0 alone in the first, or at
            `factors.frames` times its index.
        schedule: Of sampling.
        num_steps: Of sampling.
        guided: By falling noise level; the last holds down to 0.
        fits_negative: Whether the negative prediction is first scaled to come as near to the positive one as it can.
    """

    names: tuple[str, ...]
    vae: Vae
    size: Size
    causal: bool
    schedule: Schedule
    num_steps: int
    guided: tuple[Guided, ...]
    fits_negative: bool = False

    @property
    def label(self) -> str:
        """What to call the row."""
        return " or ".join(self.names)


SMALL_GUIDANCE = (Guided(0.0, cfg=3.0, stg=1.0, rescale=0.7, stg_blocks=(19,)),)
LARGE_GUIDANCE = (
    Guided(1.0, cfg=1.0, stg=0.0, rescale=1.0, stg_blocks=()),
    Guided(0.996, cfg=1.0, stg=0.0, rescale=1.0, stg_blocks=(11, 25, 35, 39)),
    Guided(0.9933, cfg=6.0, stg=4.0, rescale=0.5, stg_blocks=(22, 35, 39)),
    Guided(0.985, cfg=8.0, stg=4.0, rescale=0.5, stg_blocks=(28,)),
    Guided(0.9767, cfg=6.0, stg=4.0, rescale=1.0, stg_blocks=(28,)),
    Guided(0.9008, cfg=1.0, stg=2.0, rescale=1.0, stg_blocks=(28,)),
    Guided(0.0, cfg=1.0, stg=1.0, rescale=1.0, stg_blocks=(28,)),
)

VERSIONS: tuple[Version, ...] = (
    Version(
        ("0.9.0",),
        Vae.PLAIN,
        Size.SMALL,
        causal=False,
        schedule=Schedule.SHIFTED,
        num_steps=40,
        guided=SMALL_GUIDANCE,
    ),
    Version(
        ("0.9.1",),
        Vae.CONDITIONED,
        Size.SMALL,
        causal=False,
        schedule=Schedule.SHIFTED,
        num_steps=40,
        guided=SMALL_GUIDANCE,
    ),
    Version(
        ("0.9.5", "0.9.6-dev"),
        Vae.DEEP,
        Size.SMALL,
        causal=True,
        schedule=Schedule.LINEAR_QUADRATIC,
        num_steps=40,
        guided=SMALL_GUIDANCE,
    ),
    Version(
        ("0.9.7-dev", "0.9.8-dev"),
        Vae.DEEP,
        Size.LARGE,
        causal=True,
        schedule=Schedule.LINEAR_QUADRATIC,
        num_steps=30,
        guided=LARGE_GUIDANCE,
        fits_negative=True,
    ),
)

SIZES: Mapping[tuple[int, int], Size] = {(28, 64): Size.SMALL, (48, 128): Size.LARGE}
"""By blocks and width of a head; models of other sizes do not say which they are."""

DEEP_BLOCK = "LTXVideo095DownBlock3D"


def known_names() -> tuple[str, ...]:
    """Name every version."""
    return tuple(name for row in VERSIONS for name in row.names)


def row_of(version: str | None) -> Version:
    """Give the row of a version by one of its names, or by the label of the row."""
    return next(row for row in VERSIONS if version == row.label or version in row.names)


def candidates(transformer: Mapping[str, Any], vae: Mapping[str, Any], *, causal: bool | None) -> list[Version]:
    """List the rows that configs allow, as arguments of the library's classes.

    Args:
        transformer: Of the transformer.
        vae: Of the video VAE.
        causal: What a file says of its positions; None where nothing is said.
    """
    size = SIZES.get((transformer.get("num_layers", 28), transformer.get("attention_head_dim", 64)))
    return [
        row for row in VERSIONS if row.vae is _vae(vae) and size in (None, row.size) and causal in (None, row.causal)
    ]


def _vae(config: Mapping[str, Any]) -> Vae | None:
    is_deep = DEEP_BLOCK in config.get("down_block_types", ())
    if not config.get("timestep_conditioning"):
        return None if is_deep else Vae.PLAIN
    return Vae.DEEP if is_deep else Vae.CONDITIONED
