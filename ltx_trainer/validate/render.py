"""Previews: cached prompts to video and sound files, without disturbing the training they are rendered from."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ltx_trainer import interruption, media
from ltx_trainer.artifacts import CachedPreview, CachedSet, Render
from ltx_trainer.atomic import write_text
from ltx_trainer.models.family import Family
from ltx_trainer.models.lora import adapter_state
from ltx_trainer.processes import on_main, together
from ltx_trainer.tensorfile import read_tensors, tensors_digest
from ltx_trainer.validate.sample import sample
from ltx_trainer.validate.sampling import Sampling

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Previews:
    """The previews of a run, to be rendered at any step of its training.

    Attributes:
        family: The base model's family.
        transformer: The base with the adapter.
        cached: Holds the validation items.
        sampling: Steps, seed and guidance.
        folder: Where previews go, a folder for each step.
        accelerator: Device, and the other processes.
        base: Names the weights and precision of the transformer without the adapter.
        on_render: Told of what was rendered, on the main process.
        beside_base: Whether an item stands right of itself at step 0 where they are joined.
    """

    family: Family
    transformer: nn.Module
    cached: CachedSet
    sampling: Sampling
    folder: Path
    accelerator: Accelerator
    base: str
    on_render: Callable[[Render], None]
    beside_base: bool = True

    def render(self, step: int) -> Render | None:
        """Render the items, each process its share, and join them, unless that was done before.

        A signal that comes where stopping is deferred ends it; then the step counts as not rendered in any process.

        Returns:
            The files, on the main process; None elsewhere, in a run without validation items, and if it was stopped.
        """
        if not self.cached.previews:
            return None
        work = _Work(
            self.family,
            self.transformer,
            self.cached,
            self.sampling,
            self.folder,
            step,
            self.base,
            self.accelerator.device,
            self.beside_base,
        )
        if not on_main(work.is_done) and self._is_stopped_in(work):
            return None
        on_main(lambda: self.on_render(work.render))
        return work.render if self.accelerator.is_main_process else None

    def _is_stopped_in(self, work: "_Work") -> bool:
        """Do the work, and say whether a signal ended it in any process."""
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        own = () if on_main(work.has_items) else range(index, len(self.cached.previews), count)
        return any(together(lambda: _is_stopped(lambda: work.render_items(own)))) or on_main(
            lambda: _is_stopped(work.join_items)
        )


def render_previews(
    family: Family,
    transformer: nn.Module,
    cached: CachedSet,
    sampling: Sampling,
    folder: Path,
    *,
    step: int,
    base: str,
    device: torch.device,
    beside_base: bool = True,
) -> Render:
    """Render every validation item in this process with the adapter as it stands, or find it done.

    Args:
        family: The base model's family.
        transformer: The base with the adapter.
        cached: Holds the validation items.
        sampling: Steps, seed and guidance.
        folder: Where previews go, a folder for each step.
        step: Optimizer updates done.
        base: Names the weights and precision of the transformer without the adapter.
        device: Where the transformer is.
        beside_base: Whether an item stands right of itself at step 0 where they are joined.
    """
    work = _Work(family, transformer, cached, sampling, folder, step, base, device, beside_base)
    if not work.is_done():
        work.render_items(() if work.has_items() else range(len(cached.previews)))
        work.join_items()
    return work.render


def _is_stopped(do: Callable[[], object]) -> bool:
    """Do something, and say whether a signal kept it from its end."""
    return interruption.unless_stopped(lambda: (do(),)) is None


@dataclass(frozen=True)
class _Work:
    """The previews of one step.

    A note beside the files says what they were rendered from, so that no other run's previews are taken for this one's:
    a line of what every step has in common, a line of the adapter, and a line of how the items were joined.
    The decoders are on the device beside the transformer, one after the other, only while they are at work.
    """

    family: Family
    transformer: nn.Module
    cached: CachedSet
    sampling: Sampling
    folder: Path
    step: int
    base: str
    device: torch.device
    beside_base: bool

    @property
    def render(self) -> Render:
        """What there is in the end."""
        place = self.folder / f"step-{self.step:06d}"
        items = tuple(place / f"item-{index + 1}.mp4" for index in range(len(self.cached.previews)))
        return Render(self.step, items, joined=place / "all.mp4")

    @property
    def _note(self) -> Path:
        return self.render.joined.with_name("origin.txt")

    def is_done(self) -> bool:
        """Look for the note of exactly this work; what it says of files that are about to go is taken away."""
        if self.noted() == [*self._origin, self._joined_as]:
            return True
        if self.has_items():
            write_text(self._note, "\n".join(self._origin))
            logger.info("Joining the previews at step %d again.", self.step)
        else:
            self._note.unlink(missing_ok=True)
            logger.info("Rendering %d previews at step %d.", len(self.cached.previews), self.step)
        return False

    def has_items(self) -> bool:
        """Tell whether the items are there, joined in whatever way."""
        return self.noted()[:2] == self._origin and all(path.is_file() for path in self.render.items)

    def render_items(self, indices: Sequence[int]) -> None:
        """Write the files of some items, each the same whichever others are rendered with it."""
        if not indices:
            return
        previews = [self.cached.previews[index] for index in indices]
        with _undisturbed(self.transformer, self.device):
            latents = [self._sample(preview) for preview in previews]
            sounds, rate_hz = _decode_audio(
                self.family, [item["audio"] for item in latents if "audio" in item], self.device
            )
            with self.family.video_codec(self.device) as codec:
                for position, index in enumerate(indices):
                    media.write_video(
                        self.render.items[index],
                        codec.decode(latents[position]["video"]).numpy(),
                        previews[position].shape.frame_rate,
                        audio=sounds[position].numpy() if sounds else None,
                        audio_rate_hz=rate_hz,
                    )

    def join_items(self) -> None:
        """Write all items into one file, and then the note."""
        items, start = self.render.items, self._start
        rows = list(zip(items)) if start is None else list(zip(start.render.items, items, strict=True))
        media.join_videos(rows, self.render.joined)
        write_text(self._note, "\n".join([*self._origin, self._joined_as]))

    def noted(self) -> list[str]:
        """Read the note by lines; there are none if it is not there."""
        return self._note.read_text().splitlines() if self._note.is_file() else []

    @cached_property
    def _origin(self) -> list[str]:
        """Name what changes an item: the base, the items and how they are sampled, and the adapter."""
        previews = self.cached.previews
        asked = [(item.prompt.stem, item.first_frame and item.first_frame.stem, item.shape) for item in previews]
        facts = (self.base, asked, self.cached.negative_prompt.stem, self.cached.with_audio, self.sampling)
        in_common = hashlib.sha256(repr(facts).encode()).hexdigest()
        return [f"asked {in_common}", f"adapter {tensors_digest(adapter_state(self.transformer))}"]

    @cached_property
    def _start(self) -> "_Work | None":
        """Find step 0, if these items are to stand beside those of it and they were asked for in the same way.

        Its adapter need not be known: a run that begins renders its own step 0 over whatever is there.
        """
        start = replace(self, step=0)
        if not self.beside_base or self.step == 0 or start.noted()[:1] != self._origin[:1]:
            return None
        return start if all(path.is_file() for path in start.render.items) else None

    @property
    def _joined_as(self) -> str:
        return "joined alone" if self._start is None else f"joined beside {self._start.noted()[1]}"

    def _sample(self, preview: CachedPreview) -> dict[str, Tensor]:
        """Sample the latents of one item: video `[c f h w]`, audio `[c t m]`."""
        first_frame = None if preview.first_frame is None else read_tensors(preview.first_frame)["latents"][None]
        latents = sample(
            self.family,
            self.transformer,
            _load_prompt(preview.prompt, self.device),
            _load_prompt(self.cached.negative_prompt, self.device),
            preview.shape,
            self.sampling,
            with_audio=self.cached.with_audio,
            first_frames=first_frame,
        )
        return {name: batch[0] for name, batch in latents.items()}


@contextmanager
def _undisturbed(transformer: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave torch's random state and the transformer's mode as they were."""
    training = transformer.training
    transformer.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        transformer.train(training)


def _load_prompt(path: Path, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[None].to(device) for name, tensor in read_tensors(path).items()}


def _decode_audio(family: Family, latents: list[Tensor], device: torch.device) -> tuple[list[Tensor], int | None]:
    if not latents:
        return [], None
    with family.audio_codec(device) as codec:
        return [codec.decode(item) for item in latents], codec.output_rate_hz
