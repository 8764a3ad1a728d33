"""Previews of one step, rendered in this process."""

from pathlib import Path

from torch import nn

from ltx_trainer.artifacts import CachedSet, Render
from ltx_trainer.conditions import Terms
from ltx_trainer.models.family import Family
from ltx_trainer.processes import make_accelerator
from ltx_trainer.validate import Previews, Sampling, Showing

PLAIN = Showing()


def render_previews(
    family: Family,
    transformer: nn.Module,
    cached: CachedSet,
    terms: Terms,
    sampling: Sampling,
    folder: Path,
    *,
    step: int,
    base: str = "base",
    showing: Showing = PLAIN,
) -> Render:
    """Render every validation item with the adapter as it stands, or find it done."""
    accelerator, _ = make_accelerator("fp32")
    previews = Previews(
        family,
        transformer,
        cached,
        terms,
        sampling,
        folder,
        accelerator,
        base,
        on_render=lambda _: None,
        showing=showing,
    )
    render = previews.render(step)
    assert render is not None, "nothing stops it"
    return render
