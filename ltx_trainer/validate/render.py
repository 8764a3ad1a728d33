"""Previews: cached prompts to video and sound files, without disturbing the training they are rendered from."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ltx_trainer import interruption, media
from ltx_trainer.artifacts import CachedMedia, CachedPreview, CachedSet, Render, Role
from ltx_trainer.atomic import write_text
from ltx_trainer.conditions import Terms
from ltx_trainer.conditions.masks import spread_cells
from ltx_trainer.conditions.streams import Latents, read_latents
from ltx_trainer.models.family import AudioCodec, Family, VideoCodec
from ltx_trainer.models.lora import adapter_state
from ltx_trainer.processes import on_main, together
from ltx_trainer.tensorfile import read_tensors, tensors_digest
from ltx_trainer.validate.sample import given_streams, sample
from ltx_trainer.validate.sampling import Sampling
from ltx_trainer.validate.shown import composed_pictures, composed_sound, given_pictures, kept_samples

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Showing:
    """How previews are shown.

    Attributes:
        beside_base: Whether an item stands right of itself at step 0 where they are joined.
        beside_input: Whether what an item is given stands left of it there; of sounds, before it.
        composite: Whether what is kept of an input is the input's own, decoded from its latents, and not decoded from
            the sampled ones, which say the same there but are decoded with what surrounds them.
        reverse: Whether pictures are shown backwards in time, those of what an item is given too.
    """

    beside_base: bool = True
    beside_input: bool = True
    composite: bool = True
    reverse: bool = False


@dataclass(frozen=True)
class Previews:
    """The previews of a run, to be rendered at any step of its training.

    Attributes:
        family: The base model's family.
        transformer: The base with the adapter.
        cached: Holds the validation items.
        terms: What is given of them.
        sampling: Steps, seed and guidance.
        folder: Where previews go, a folder for each step.
        accelerator: Device, and the other processes.
        base: Names the weights and precision of the transformer without the adapter.
        on_render: Told of what was rendered, on the main process.
        showing: How they are shown.
    """

    family: Family
    transformer: nn.Module
    cached: CachedSet
    terms: Terms
    sampling: Sampling
    folder: Path
    accelerator: Accelerator
    base: str
    on_render: Callable[[Render], None]
    showing: Showing = Showing()

    def render(self, step: int) -> Render | None:
        """Render the items, each process its share, and join them, unless that was done before.

        A signal that comes where stopping is deferred ends it; then the step counts as not rendered in any process.

        Returns:
            The files, on the main process; None elsewhere, in a run without validation items, and if it was stopped.
        """
        if not self.cached.previews:
            return None
        work = _Work(self, step)
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


def _is_stopped(do: Callable[[], object]) -> bool:
    """Do something, and say whether a signal kept it from its end."""
    return interruption.unless_stopped(lambda: (do(),)) is None


@dataclass(frozen=True)
class _Item:
    """One item before it is decoded.

    Attributes:
        latents: Of every stream: video `[c f h w]`, audio `[c t m]`.
        given: What it was given, in batches of one.
        kept: Where the target is given, by stream: cells `[f h w]`, tokens `[n]`.
        audio_coordinates: Bounds of the audio tokens in seconds `[1 n 2]`; None in a silent run.
    """

    latents: Mapping[str, Tensor]
    given: Latents
    kept: Mapping[str, Tensor]
    audio_coordinates: Tensor | None


@dataclass(frozen=True)
class _Heard:
    """The sound of one item: stereo `[2 s]`, what was made and what was given, at one rate."""

    made: Tensor
    given: Tensor | None
    rate_hz: int


@dataclass(frozen=True)
class _Work:
    """The previews of one step.

    A note beside the files says what they were rendered from, so that no other run's previews are taken for this one's:
    a line of what every step has in common, a line of the adapter, and a line of how the items were joined.
    The decoders are on the device beside the transformer, one after the other, only while they are at work; a decoder
    without a stream of its own is never loaded.
    """

    previews: Previews
    step: int

    @property
    def render(self) -> Render:
        """What there is in the end."""
        items = self._sounds if self.previews.terms.shape is None else self._pictures
        return Render(self.step, items, joined=self._place / ("all.mp4" if self._makes_pictures else "all.wav"))

    @property
    def _place(self) -> Path:
        return self.previews.folder / f"step-{self.step:06d}"

    @property
    def _makes_pictures(self) -> bool:
        """Whether pictures are generated; if not, what is rendered is sound, perhaps with the pictures given."""
        return self.previews.terms.shape is not None and "video" not in self.previews.terms.frozen

    @property
    def _note(self) -> Path:
        return self._place / "origin.txt"

    @property
    def _pictures(self) -> tuple[Path, ...]:
        """The items as videos; none in a mode without video."""
        return () if self.previews.terms.shape is None else self._files("item-{}.mp4")

    @property
    def _sounds(self) -> tuple[Path, ...]:
        """The items as sounds; none in a mode that generates pictures."""
        return () if self._makes_pictures else self._files("item-{}.wav")

    @property
    def _inputs(self) -> tuple[Path | None, ...]:
        """What each item is given, as a file; None if nothing is, or if it is not shown."""
        files = self._files("input-{}.mp4" if self._makes_pictures else "input-{}.wav")
        pairs = zip(files, self.previews.cached.previews, strict=True)
        return tuple(path if self._shows_input(preview.media) else None for path, preview in pairs)

    def _files(self, name: str) -> tuple[Path, ...]:
        return tuple(self._place / name.format(index + 1) for index in range(len(self.previews.cached.previews)))

    def _shows_input(self, given: CachedMedia) -> bool:
        return self.previews.showing.beside_input and bool(given.video if self._makes_pictures else given.audio)

    def is_done(self) -> bool:
        """Look for the note of exactly this work; what it says of files that are about to go is taken away."""
        if self.noted() == [*self._origin, self._joined_as]:
            return True
        if self.has_items():
            write_text(self._note, "\n".join(self._origin))
            logger.info("Joining the previews at step %d again.", self.step)
        else:
            self._note.unlink(missing_ok=True)
            logger.info("Rendering %d previews at step %d.", len(self.previews.cached.previews), self.step)
        return False

    def has_items(self) -> bool:
        """Tell whether the items are there, joined in whatever way."""
        return self.noted()[:2] == self._origin and self._has_files()

    def _has_files(self) -> bool:
        inputs = [path for path in self._inputs if path is not None]
        return all(path.is_file() for path in (*self._pictures, *self._sounds, *inputs))

    def render_items(self, indices: Sequence[int]) -> None:
        """Write the files of some items, each the same whichever others are rendered with it."""
        if not indices:
            return
        with _undisturbed(self.previews.transformer, self.previews.accelerator.device):
            items = {index: self._sample(self.previews.cached.previews[index]) for index in indices}
            heard = self._decode_sounds(items)
            if self.previews.terms.shape is not None:
                with self.previews.family.video_codec(self.previews.accelerator.device) as codec:
                    for index, item in items.items():
                        self._write_pictures(index, item, codec, heard.get(index))

    def join_items(self) -> None:
        """Write all items into one file, and then the note."""
        start = self._start
        if start is None and self._wants_start:
            logger.info("Previews at step %d stand alone: those at step 0 were made otherwise, or are gone.", self.step)
        columns = [self._inputs] if any(self._inputs) else []
        columns += [each.joined_items for each in (start, self) if each is not None]
        rows = [[path for path in row if path is not None] for row in zip(*columns, strict=True)]
        if self._makes_pictures:
            media.join_videos(rows, self.render.joined)
        else:
            media.join_sounds([path for row in rows for path in row], self.render.joined)
        write_text(self._note, "\n".join([*self._origin, self._joined_as]))

    def noted(self) -> list[str]:
        """Read the note by lines; there are none if it is not there."""
        return self._note.read_text().splitlines() if self._note.is_file() else []

    @property
    def joined_items(self) -> tuple[Path, ...]:
        """What is joined of the items."""
        return self._pictures if self._makes_pictures else self._sounds

    @cached_property
    def _origin(self) -> list[str]:
        """Name what changes an item: the base, the items and how they are sampled, and the adapter."""
        asked = [(item.prompt.stem, _named(item.media), item.shape) for item in self.previews.cached.previews]
        facts = (
            self.previews.base,
            asked,
            self.previews.cached.negative_prompt.stem,
            self.previews.cached.with_audio,
            self.previews.sampling,
            self.previews.terms,
            self.previews.showing.composite,
            self.previews.showing.reverse,
            self.previews.showing.beside_input,
        )
        in_common = hashlib.sha256(repr(facts).encode()).hexdigest()
        return [f"asked {in_common}", f"adapter {tensors_digest(adapter_state(self.previews.transformer))}"]

    @cached_property
    def _start(self) -> "_Work | None":
        """Find step 0, if these items are to stand beside those of it and they were asked for in the same way.

        Its adapter need not be known: a run that begins renders its own step 0 over whatever is there.
        """
        start = replace(self, step=0)
        if not self._wants_start or start.noted()[:1] != self._origin[:1]:
            return None
        return start if all(path.is_file() for path in start.joined_items) else None

    @property
    def _wants_start(self) -> bool:
        return self.previews.showing.beside_base and self.step > 0

    @property
    def _joined_as(self) -> str:
        base = "alone" if self._start is None else f"beside {self._start.noted()[1]}"
        return f"joined {base}{' and what is given' if any(self._inputs) else ''}"

    def _sample(self, preview: CachedPreview) -> _Item:
        """Sample the latents of one item."""
        with_audio = self.previews.cached.with_audio
        given = read_latents([preview.media], torch.device("cpu"), with_audio=with_audio)
        streams = given_streams(self.previews.family, self.previews.terms, given, 1, with_audio=with_audio)
        latents = sample(
            self.previews.family,
            self.previews.transformer,
            _load_prompt(preview.prompt, self.previews.accelerator.device),
            _load_prompt(self.previews.cached.negative_prompt, self.previews.accelerator.device),
            self.previews.terms,
            streams,
            self.previews.sampling,
        )
        kept: dict[str, Tensor] = {}
        if Role.TARGET in given.video:
            stream = streams["video"]
            kept["video"] = stream.given[0, : stream.num_target].unflatten(0, latents["video"].shape[2:])
        if Role.TARGET in given.audio:
            stream = streams["audio"]
            kept["audio"] = stream.given[0, : stream.num_target]
        num_tokens = latents["audio"].shape[2] if "audio" in latents else None
        return _Item(
            {name: batch[0] for name, batch in latents.items()},
            given,
            kept,
            None if num_tokens is None else self.previews.family.audio_coordinates(num_tokens),
        )

    def _decode_sounds(self, items: Mapping[int, _Item]) -> dict[int, _Heard]:
        """Decode what is heard of each item, and write it where that is all there is."""
        heard: dict[int, _Heard] = {}
        if any("audio" in item.latents for item in items.values()):
            with self.previews.family.audio_codec(self.previews.accelerator.device) as codec:
                heard = {index: self._decode_sound(codec, item) for index, item in items.items()}
        for index, sound in heard.items():
            if self._sounds:
                media.write_audio(self._sounds[index], sound.made.numpy(), sound.rate_hz)
            if (path := self._inputs[index]) is not None and path.suffix == ".wav" and sound.given is not None:
                media.write_audio(path, sound.given.numpy(), sound.rate_hz)
        return heard

    def _decode_sound(self, codec: AudioCodec, item: _Item) -> _Heard:
        made, rate_hz, given = codec.decode(item.latents["audio"]), codec.output_rate_hz, None
        if Role.REFERENCE_SOUND in item.given.audio:
            given = codec.decode(item.given.audio[Role.REFERENCE_SOUND][0])
        if Role.TARGET in item.given.audio and item.audio_coordinates is not None:
            own = made if "audio" in self.previews.terms.frozen else codec.decode(item.given.audio[Role.TARGET][0])
            kept = kept_samples(item.kept["audio"], item.audio_coordinates, own.shape[1], rate_hz)
            given = composed_sound(torch.zeros_like(own), own, kept, rate_hz)
            made = composed_sound(made, own, kept, rate_hz) if self.previews.showing.composite else made
        return _Heard(made, given, rate_hz)

    def _write_pictures(self, index: int, item: _Item, codec: VideoCodec, heard: _Heard | None) -> None:
        """Decode and write one item, and what it is given."""
        shows_input, composite = self._inputs[index] is not None, self.previews.showing.composite
        made, given, kept = codec.decode(item.latents["video"]), dict[Role, Tensor](), None
        if self._makes_pictures:
            wanted = set(item.given.video) & {Role.TARGET, Role.START} if composite else set[Role]()
            if shows_input:
                wanted = set(item.given.video) - {Role.MASK}
            given = {role: codec.decode(item.given.video[role][0]) for role in sorted(wanted)}
        if Role.TARGET in given:
            kept = spread_cells(item.kept["video"], self.previews.family.facts.factors)
            made = composed_pictures(made, given[Role.TARGET], kept) if composite else made
        if Role.START in given and composite:
            made = torch.cat([given[Role.START], made[1:]])
        self._write_video(self._pictures[index], made, None if heard is None else heard.made, heard)
        path = self._inputs[index]
        shown = given_pictures(self.previews.terms, given, kept)
        if path is not None and path.suffix == ".mp4" and shown is not None:
            self._write_video(path, shown, None if heard is None else heard.given, heard)

    def _write_video(self, path: Path, frames: Tensor, sound: Tensor | None, heard: _Heard | None) -> None:
        assert self.previews.terms.shape is not None, "asked of a mode with video"
        media.write_video(
            path,
            (frames.flip(0) if self.previews.showing.reverse else frames).numpy(),
            self.previews.terms.shape.frame_rate,
            audio=None if sound is None else sound.numpy(),
            audio_rate_hz=None if heard is None else heard.rate_hz,
        )


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


def _named(given: CachedMedia) -> tuple[object, ...]:
    """Name what is given by what it was made from, wherever it lies."""
    parts = ({str(role): path.stem for role, path in sorted(part.items())} for part in (given.video, given.audio))
    return (*parts, given.ranges)


def _load_prompt(path: Path, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[None].to(device) for name, tensor in read_tensors(path).items()}
