"""What the miniatures of all families have in common: seeds, sizes, sample texts, and the file of trained weights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ltx_trainer import world
from ltx_trainer.errors import ModelError
from ltx_trainer.tensorfile import write_tensors

Built = TypeVar("Built", bound=nn.Module)

SEED = 20

VIDEO_LATENT_CHANNELS = 16
SPACE_FACTOR, TIME_FACTOR = 8, 4

NUM_BLOCKS = 4
VIDEO_HEADS, VIDEO_HEAD_WIDTH = 4, 32
TEXT_WIDTH, TEXT_LAYERS = 32, 2
MAX_TEXT_TOKENS = 64
NUM_SAMPLE_SCENES = 200

RESOLUTIONS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "low": {"16:9": (96, 64), "1:1": (64, 64), "9:16": (64, 96)},
    "medium": {"16:9": (128, 64), "1:1": (96, 96), "9:16": (64, 128)},
    "high": {"16:9": (160, 96), "1:1": (128, 128), "9:16": (96, 160)},
}

FROZEN = "text_encoder"
STATISTICS = ("latents_mean", "latents_std")
VOCABULARY = "vocabulary"
"""Where a file of trained weights keeps what its tokenizer is built of."""
REMEDY = "Install the package again, or train the miniature with scripts/train_miniature.py."

SAMPLE_TEXTS = (
    "a red ball rolls across a green table while a bell rings",
    "a person walks through a quiet forest, birds sing in the trees",
    "waves crash on a rocky shore at sunset, slow camera movement to the right",
    "the camera follows a blue car down a city street at night in the rain",
    "close-up of a hand that draws a circle on white paper",
    "worst quality, inconsistent motion, blurry, jittery, distorted",
)


def sample_captions() -> list[str]:
    """Give captions with every word of the world, the same every time."""
    return [world.caption(scene) for scene in world.draw_scenes(NUM_SAMPLE_SCENES, SEED)]


def seeded(build: Callable[[], Built]) -> Built:
    """Build a component from our own seed, whatever else is built; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        return build()


def fill_statistics(vae: nn.Module) -> None:
    """Give a VAE latent statistics that are not neutral, so that forgetting to normalise shows."""
    vae.get_buffer("latents_mean").normal_(std=0.1)
    vae.get_buffer("latents_std").uniform_(0.5, 1.5)


def read_trained(pipeline: Any, names: Sequence[str], file: Path) -> Mapping[str, str]:
    """Give components the weights of a file, as `write_trained` writes it.

    Args:
        pipeline: With random weights.
        names: Of the components.
        file: The weights.

    Returns:
        What goes with them.

    Raises:
        ModelError: The file cannot be read, lacks a tensor or the vocabulary, or was made for other classes than those
            of the pipeline.
    """
    try:
        weights = load_file(file)
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read: {error}. {REMEDY}") from error
    if VOCABULARY not in metadata:
        raise ModelError(f"{file} has no vocabulary in its metadata. {REMEDY}")
    own = _shipped(pipeline, names)
    found, expected = ({key: [*tensor.shape] for key, tensor in side.items()} for side in (weights, own))
    for key in sorted({*found, *expected}):
        if found.get(key) != expected.get(key):
            raise ModelError(
                f"{file} was made for another version: {key} is {found.get(key, 'absent')} in it, and "
                f"{expected.get(key, 'absent')} here. {REMEDY}"
            )
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(weights[key])
    return metadata


def write_trained(
    pipeline: Any, names: Sequence[str], vocabulary: str, file: Path, metadata: Mapping[str, str]
) -> None:
    """Write what `read_trained` reads; what is the same whatever was trained is not written.

    Trained parameters are in bfloat16. The text encoder, which is random, and the latents' statistics are as they are.

    Args:
        pipeline: Trained.
        names: Of the components that are written.
        vocabulary: What the tokenizer is built of.
        file: Whole or absent.
        metadata: Goes with it.
    """
    tensors = {
        key: tensor.detach() if key.startswith(f"{FROZEN}.") or key.endswith(STATISTICS) else tensor.bfloat16()
        for key, tensor in _shipped(pipeline, names).items()
    }
    write_tensors(file, tensors, {"format": "pt", VOCABULARY: vocabulary, **metadata})


def _shipped(pipeline: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """Give the pipeline's own tensors that training decides, and the text encoder, by component and name."""
    tensors: dict[str, Tensor] = {}
    for name in names:
        module: nn.Module = getattr(pipeline, name)
        tensors |= {f"{name}.{key}": parameter for key, parameter in module.named_parameters()}
        tensors |= {f"{name}.{key}": buffer for key, buffer in module.named_buffers() if key in STATISTICS}
    return tensors
