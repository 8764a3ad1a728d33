"""Train the miniature of LTX-2.3 from scratch, on two cores in some hours or on a GPU in some minutes.

python scripts/train_miniature.py --work outputs/miniature

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
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TypeVar

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2Pipeline, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2VocoderWithBWE
from miniature import audio_vae, scores, transformer, video_vae, vocoder
from miniature.parts import train_part
from rich.console import Console
from torch import nn

from ltx_trainer.errors import TrainerError
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.miniature import TRAINED_LTX23, random_ltx23, trained_ltx23, write_trained_ltx23
from ltx_trainer.models.own_timesteps import modulate_by_own_timesteps
from ltx_trainer.prepare.sound import PEAK
from ltx_trainer.tensorfile import tensors_digest

Part = TypeVar("Part", bound=nn.Module)

FAMILY = "ltx-2.3"
PARTS = ("video-vae", "audio-vae", "vocoder", "transformer")
NEEDED = {"vocoder": ("audio-vae",), "transformer": ("video-vae", "audio-vae")}
"""What a part is trained on top of."""

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
    parser.add_argument("--work", type=Path, default=Path("outputs/miniature"), help="where the state is kept")
    parser.add_argument("--part", choices=PARTS, help="train only this; without it, all of them, and write the weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; tiny tensors gain little from more")
    parser.add_argument("--weights", type=Path, default=TRAINED_LTX23, help="the file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True)
    try:
        training = Training(options.work, torch.device(options.device), console)
        for part in (*NEEDED.get(options.part, ()), options.part) if options.part else PARTS:
            training.train(part)
        if not options.part:
            training.write(options.weights)
    except TrainerError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        console.print(f"Stopped. {options.work} has the state up to the last minute; give the same command to go on.")
        sys.exit(128 + signal.SIGINT)


class Training:
    """The parts of one miniature; each is trained in its turn and stays in the pipeline."""

    def __init__(self, work: Path, device: torch.device, console: Console) -> None:
        self._work = work
        self._device = device
        self._console = console
        self._pipeline = random_ltx23()

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
        self._train_vae("video-vae", video_vae, self._part(AutoencoderKLLTX2Video), seed=1, score_every=1500)

    def _train_audio_vae(self) -> None:
        self._train_vae("audio-vae", audio_vae, self._part(AutoencoderKLLTX2Audio), seed=2, score_every=500)

    def _train_vae(self, name: str, code: ModuleType, vae: nn.Module, *, seed: int, score_every: int) -> None:
        """Train a VAE by the module of its part, and measure the statistics that its latents are normalised by."""
        code.prepare(vae)
        train_part(
            name,
            vae,
            code.RECIPE,
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
        model = self._part(LTX2VideoTransformer3DModel)
        trained = transformer.Trained(model, self._part(LTX2TextConnectors))
        texts = transformer.Texts(self._pipeline.text_encoder, self._pipeline.tokenizer)
        family = _read_as_engine(self._pipeline, self._work / "model")
        # Only here, because a family installs it on what it loads.
        modulate_by_own_timesteps(model)
        for stage in transformer.STAGES:
            self._train_stage(stage, trained, texts, family)
        _rounded(trained)

    def _train_stage(
        self, stage: transformer.Stage, trained: transformer.Trained, texts: transformer.Texts, family: Family
    ) -> None:
        scenes = transformer.draw_trained_scenes(SCENE_SEED, twins=stage.twins)
        parts = {
            "video VAE": _digest_of_weights(self._part(AutoencoderKLLTX2Video)),
            "audio VAE": _digest_of_weights(self._part(AutoencoderKLLTX2Audio)),
            "scenes": _digest_of_text(repr(scenes)),
        }
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

    def _part(self, model_class: type[Part]) -> Part:
        """Give the part of the pipeline that is of a class, on the device."""
        found = next(part for part in self._pipeline.components.values() if isinstance(part, model_class))
        return found.to(self._device)

    def write(self, file: Path) -> None:
        """Write the weights of the package, with their scores as they are read from a file."""
        with TemporaryDirectory() as folder:
            scratch = Path(folder)
            write_trained_ltx23(self._pipeline, scratch / "unscored.safetensors", {})
            self._console.print(f"sampling and scoring {NUM_SCORED} clips on the CPU")
            found = _score(scratch / "unscored.safetensors", scratch)
        self._console.print_json(data=found)
        write_trained_ltx23(self._pipeline, file, {"script": source_digest(), "scores": json.dumps(found)})
        self._console.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def _score(file: Path, scratch: Path) -> dict[str, Mapping[str, float]]:
    """Score a file of weights, on the CPU.

    The transformer is scored on compositions that it was not trained on, the VAEs and the vocoder on scenes and sounds
    that were not trained on; the video VAE has seen all compositions.
    """
    pipeline = trained_ltx23(file)
    family = _read_as_engine(pipeline, scratch / "model")
    made, scenes = scores.sample_held_out(family, scores.SHAPE, NUM_SCORED, scratch, scores.defaults(family))
    with family.video_codec(torch.device("cpu")) as codec:
        reconstruction = scores.reconstruction(codec, scores.held_out_scenes(NUM_SCORED), scores.SHAPE)
    return {
        "reconstruction": reconstruction,
        "held-out compositions": scores.share(made, scenes),
        "captions of others": scores.against_others(made, scenes),
        "audio VAE": audio_vae.measure(pipeline.audio_vae.eval()),
        "vocoder": vocoder.measure(pipeline.vocoder.eval(), pipeline.audio_vae.eval()),
    }


def _rounded(module: nn.Module) -> None:
    """Round weights to what is shipped, so that what is trained on them and scored is what is shipped."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def _read_as_engine(pipeline: LTX2Pipeline, folder: Path) -> Family:
    pipeline.save_pretrained(folder)
    return open_family(read_model(folder, FAMILY))


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
