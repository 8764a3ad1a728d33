"""Train a miniature from scratch, on two cores in some hours or on a GPU in some minutes.

python scripts/train_miniature.py
python scripts/train_miniature.py --model ltx-video --work outputs/miniature/ltx-video

It can be stopped anywhere and given again; each part goes on from its last minute. On a CPU with the same number of
threads the weights come out the same; a GPU promises no such thing. What `--work` has of other code, other parts or
another recipe is refused. The exit status after Ctrl-C is 130.

`--part` trains one part, so that parts that do not wait for each other can be trained side by side: the vocoder waits
for the audio VAE, the transformer for both VAEs. The whole writes the weights of the package, with the digest of the
code that makes them and their scores.
"""

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeVar

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    DiffusionPipeline,
    LTX2VideoTransformer3DModel,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2VocoderWithBWE
from miniature import audio_vae, scores, transformer, video_vae, vocoder
from miniature.parts import Recipe, train_part
from rich.console import Console
from torch import nn

from ltx_trainer.errors import TrainerError
from ltx_trainer.models import read_model
from ltx_trainer.models.attention_values import perturb_by_values
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import (
    TRAINED_LTX23,
    random_ltx23,
    save_miniature,
    trained_ltx23,
    write_trained_ltx23,
)
from ltx_trainer.models.miniature_ltx_video import (
    TRAINED_LTX_VIDEO,
    random_ltx_video,
    trained_ltx_video,
    write_trained_ltx_video,
)
from ltx_trainer.models.own_timesteps import modulate_by_own_timesteps
from ltx_trainer.prepare.sound import PEAK
from ltx_trainer.tensorfile import tensors_digest

Part = TypeVar("Part", bound=nn.Module)


@dataclass(frozen=True)
class Miniature:
    """One miniature: how it is built, trained and shipped.

    Attributes:
        weights: The file that comes with the package.
        build: Makes it with random weights.
        read: Makes it with those of a file.
        write: Writes such a file, with metadata.
        parts: In the order of their training.
        recipe: Of the video VAE.
        texts: Gives its prompts.
        correct: Installs on its transformer what the engine does on what it loads.
        stages: Of the transformer's training.
    """

    weights: Path
    build: Callable[[], DiffusionPipeline]
    read: Callable[[Path], DiffusionPipeline]
    write: Callable[[Any, Path, Mapping[str, str]], None]
    parts: tuple[str, ...]
    recipe: Recipe
    texts: Callable[[Any], transformer.Texts]
    correct: Callable[[nn.Module], None]
    stages: tuple[transformer.Stage, ...]


MINIATURES: Mapping[str, Miniature] = {
    "ltx-2.3": Miniature(
        TRAINED_LTX23,
        random_ltx23,
        trained_ltx23,
        write_trained_ltx23,
        parts=("video-vae", "audio-vae", "vocoder", "transformer"),
        recipe=video_vae.RECIPE,
        texts=lambda of: transformer.Ltx2Texts(of.text_encoder, of.tokenizer, of.connectors),
        correct=modulate_by_own_timesteps,
        stages=transformer.STAGES,
    ),
    "ltx-video": Miniature(
        TRAINED_LTX_VIDEO,
        random_ltx_video,
        trained_ltx_video,
        write_trained_ltx_video,
        parts=("video-vae", "transformer"),
        recipe=video_vae.RECIPE_OF_FINER,
        texts=lambda of: transformer.T5Texts(of.text_encoder.eval(), of.tokenizer),
        correct=perturb_by_values,
        stages=transformer.SILENT_STAGES,
    ),
}
"""By family."""

PARTS = MINIATURES["ltx-2.3"].parts
"""All that there are."""
NEEDED = {"vocoder": ("audio-vae",), "transformer": ("video-vae", "audio-vae")}
"""What a part is trained on top of, as far as a miniature has it."""
VIDEO_VAES = (AutoencoderKLLTX2Video, AutoencoderKLLTXVideo)
TRANSFORMERS = (LTX2VideoTransformer3DModel, LTXVideoTransformer3DModel)

ROOT = Path(__file__).parents[1]
SHARED_SOURCES = ("scripts/miniature/parts.py", "ltx_trainer/world/*.py", "ltx_trainer/models/miniature*.py")
SOUND_SOURCES = ("ltx_trainer/models/log_mel.py",)
SOURCES = {
    "video-vae": ("scripts/miniature/video_vae.py", *SHARED_SOURCES),
    "audio-vae": ("scripts/miniature/audio_vae.py", *SHARED_SOURCES, *SOUND_SOURCES),
    "vocoder": ("scripts/miniature/vocoder.py", *SHARED_SOURCES, *SOUND_SOURCES),
    "transformer": (
        "scripts/miniature/transformer.py",
        "ltx_trainer/diffusion/*.py",
        *SHARED_SOURCES,
        *SOUND_SOURCES,
    ),
}
"""The code that decides a part."""

SCENE_SEED = 20_000
NUM_SCORED = 64

SHOWN = 16
"""Characters of a digest that name a part."""


def main() -> None:
    """Train what is asked for, then assemble, score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MINIATURES, default="ltx-2.3", help="the family whose miniature it is")
    parser.add_argument("--work", type=Path, help="where the state is kept; by default outputs/miniature/MODEL")
    parser.add_argument("--part", choices=PARTS, help="train only this; without it, all of them, and write the weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; tiny tensors gain little from more")
    parser.add_argument("--weights", type=Path, help="the file to write; by default the package's own")
    options = parser.parse_args()
    work: Path = options.work or Path("outputs/miniature") / options.model
    model = MINIATURES[options.model]
    if options.part and options.part not in model.parts:
        parser.error(f"{options.model} has no {options.part}; its parts are {', '.join(model.parts)}")
    torch.set_num_threads(options.threads)
    work.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True)
    try:
        training = Training(options.model, work, torch.device(options.device), console)
        wanted = (*NEEDED.get(options.part, ()), options.part) if options.part else model.parts
        for part in model.parts:
            if part in wanted:
                training.train(part)
        if not options.part:
            training.write(options.weights or model.weights)
    except TrainerError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        console.print(f"Stopped. {work} has the state up to the last minute; give the same command to go on.")
        sys.exit(128 + signal.SIGINT)


class Training:
    """The parts of one miniature; each is trained in its turn and stays in the pipeline."""

    def __init__(self, family: str, work: Path, device: torch.device, console: Console) -> None:
        self._family = family
        self._model = MINIATURES[family]
        self._work = work
        self._device = device
        self._console = console
        self._pipeline = self._model.build()

    def train(self, part: str) -> None:
        """Train a part, or what is left of it."""
        train: Mapping[str, Callable[[], None]] = {
            "video-vae": self._train_video_vae,
            "audio-vae": self._train_audio_vae,
            "vocoder": self._train_vocoder,
            "transformer": self._train_transformer,
        }
        train[part]()

    def _train_video_vae(self) -> None:
        recipe = self._model.recipe
        self._train_vae("video-vae", video_vae, self._part(*VIDEO_VAES), recipe, seed=1, score_every=1500)

    def _train_audio_vae(self) -> None:
        vae = self._part(AutoencoderKLLTX2Audio)
        self._train_vae("audio-vae", audio_vae, vae, audio_vae.RECIPE, seed=2, score_every=500)

    def _train_vae(
        self, name: str, code: ModuleType, vae: nn.Module, recipe: Recipe, *, seed: int, score_every: int
    ) -> None:
        """Train a VAE by the module of its part, and measure the statistics that its latents are normalised by."""
        code.prepare(vae)
        train_part(
            name,
            vae,
            recipe,
            code.Loss(vae, seed=seed),
            self._work,
            seed=seed,
            basis=self._basis(name),
            console=self._console,
            opening=f"{name}: drawing {code.NUM_SCENES} scenes",
            score=lambda: code.measure(vae, 16),
            score_every=score_every,
        )
        _rounded(vae)
        self._console.print(f"{name}: measuring the statistics of its latents")
        code.fill_statistics(vae)

    def _train_vocoder(self) -> None:
        model, vae = self._part(LTX2VocoderWithBWE), self._part(AutoencoderKLLTX2Audio)
        vocoder.prepare(model)
        train_part(
            "vocoder",
            model,
            vocoder.RECIPE,
            vocoder.Loss(model, vae, seed=3),
            self._work,
            seed=3,
            basis=self._basis("vocoder", {"audio VAE": _digest_of_weights(vae)}),
            console=self._console,
            opening=f"vocoder: drawing {vocoder.NUM_SOUNDS} tones",
            score=lambda: vocoder.measure(model, vae, 16),
            score_every=500,
        )
        _rounded(model)

    def _train_transformer(self) -> None:
        model, texts = self._part(*TRANSFORMERS), self._model.texts(self._pipeline)
        trained = transformer.Trained(model, texts).to(self._device)
        family = _read_as_engine(self._pipeline, self._family, self._work / "model")
        # Only here, because a family installs it on what it loads.
        self._model.correct(model)
        for stage in self._model.stages:
            self._train_stage(stage, trained, texts, family)
        _rounded(trained)

    def _train_stage(
        self, stage: transformer.Stage, trained: transformer.Trained, texts: transformer.Texts, family: Family
    ) -> None:
        scenes = transformer.draw_trained_scenes(SCENE_SEED, twins=stage.twins)
        parts = {"video VAE": _digest_of_weights(self._part(*VIDEO_VAES)), "scenes": _digest_of_text(repr(scenes))}
        if "audio-vae" in self._model.parts:
            parts["audio VAE"] = _digest_of_weights(self._part(AutoencoderKLLTX2Audio))
        kept = f"latents-{_digest_of_text(repr((parts, transformer.BUCKETS, transformer.SIDE, PEAK)))}.pt"
        doing = "reading the latents of" if (self._work / kept).exists() else "encoding"
        self._console.print(f"{stage.name}: {doing} {len(scenes)} scenes")
        pools = transformer.encode_pools(family, scenes, self._work / kept, self._device)
        train_part(
            stage.name,
            trained,
            stage.recipe,
            transformer.Loss(family, trained, texts, scenes, pools, stage),
            self._work,
            seed=stage.seed,
            basis=self._basis(
                "transformer",
                {**parts, "stage": _digest_of_text(repr(stage)), "start": _digest_of_weights(trained)},
            ),
            console=self._console,
            score=lambda: transformer.measure(family, trained, texts),
            score_every=500,
        )

    def _basis(self, part: str, parts: Mapping[str, str] | None = None) -> str:
        """Say what decides a part beside its recipe and seed: its code, and the digests of what it is built on."""
        digests = {"code": _digest_of_files(SOURCES[part])[:SHOWN]} | dict(parts or {})
        basis = ", ".join(f"{name} {digest}" for name, digest in digests.items())
        self._console.print(f"{part}: built on {basis}")
        return basis

    def _part(self, *model_classes: type[Part]) -> Part:
        """Give the part of the pipeline that is of one of these classes, on the device."""
        found = next(part for part in self._pipeline.components.values() if isinstance(part, model_classes))
        return found.to(self._device)

    def write(self, file: Path) -> None:
        """Write the weights of the package, with their scores as they are read from a file."""
        with TemporaryDirectory() as folder:
            scratch = Path(folder)
            self._model.write(self._pipeline, scratch / "unscored.safetensors", {})
            self._console.print(f"sampling and scoring {NUM_SCORED} clips on the CPU")
            found = _score(self._family, scratch / "unscored.safetensors", scratch)
        self._console.print_json(data=found)
        self._model.write(self._pipeline, file, {"script": source_digest(), "scores": json.dumps(found)})
        self._console.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def _score(name: str, file: Path, scratch: Path) -> dict[str, Mapping[str, float]]:
    """Score a file of weights, on the CPU.

    The transformer is scored on compositions that it was not trained on, the VAEs and the vocoder on scenes and sounds
    that were not trained on; the video VAE has seen all compositions.
    """
    pipeline: Any = MINIATURES[name].read(file)
    family = _read_as_engine(pipeline, name, scratch / "model")
    made, scenes = scores.sample_held_out(family, scores.SHAPE, NUM_SCORED, scratch, scores.defaults(family))
    with family.video_codec(torch.device("cpu")) as codec:
        reconstruction = scores.reconstruction(codec, scores.held_out_scenes(NUM_SCORED), scores.SHAPE)
    found: dict[str, Mapping[str, float]] = {
        "reconstruction": reconstruction,
        "held-out compositions": scores.share(made, scenes),
        "captions of others": scores.against_others(made, scenes),
    }
    if family.facts.audio is None:
        return found
    return found | {
        "audio VAE": audio_vae.measure(pipeline.audio_vae.eval()),
        "vocoder": vocoder.measure(pipeline.vocoder.eval(), pipeline.audio_vae.eval()),
    }


def _rounded(module: nn.Module) -> None:
    """Round weights to what is shipped, so that what is trained on them and scored is what is shipped."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def _read_as_engine(pipeline: DiffusionPipeline, family: str, folder: Path) -> Family:
    save_miniature(pipeline, family, folder)
    return open_family(read_model(folder, family))


def source_digest() -> str:
    """Give the SHA-256 of the code that decides the weights and their scores."""
    own = ("scripts/train_miniature.py", "scripts/miniature/*.py")
    return _digest_of_files({*own, *(pattern for patterns in SOURCES.values() for pattern in patterns)})


def _digest_of_files(patterns: Iterable[str]) -> str:
    """Give the SHA-256 of the names and the contents of files of this project."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in ROOT.glob(pattern)}):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _digest_of_weights(module: nn.Module) -> str:
    """Give the first of the SHA-256 of a module's parameters, which decide its statistics too."""
    return tensors_digest(dict(module.named_parameters()))[:SHOWN]


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:SHOWN]


if __name__ == "__main__":
    main()
