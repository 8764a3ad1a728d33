"""What a cached tensor is named by: everything that changes it, and nothing else."""

import hashlib
import json
from fractions import Fraction
from functools import cache
from importlib.metadata import version

from ltx_trainer.artifacts import Footage, Soundtrack
from ltx_trainer.geometry import ScaleFactors
from ltx_trainer.media.decoding import DECODING

STRETCHING = 2
"""Raised whenever stretching a sound gives something else; it names only what is stretched."""

ENCODING = 2
"""Raised whenever prompts, codecs or the log-mel spectrogram change what the same facts give."""

MASKING = 2
"""Raised whenever the same pixels of a mask come to keep other cells."""

Fact = str | int | float | bool | Fraction | None


def tensor_key(content: str, /, **facts: Fact) -> str:
    """Name a tensor by what it is made from, as 64 hexadecimal digits."""
    written = {name: str(fact) if isinstance(fact, Fraction) else fact for name, fact in facts.items()}
    return hashlib.sha256(json.dumps([content, written], sort_keys=True).encode()).hexdigest()


def prompt_key(text: str, weights: str) -> str:
    """Name the embeddings of a text."""
    libraries = _releases("diffusers", "transformers")
    return tensor_key("prompt", encoding=ENCODING, libraries=libraries, text=text, weights=weights)


def video_key(footage: Footage, weights: str, still_crf: int | None) -> str:
    """Name the latents of pictures by which frames are taken, at what size, and what encodes them.

    Clips of other names, captions or frame rates share them: the rate only shows in the span of the frames taken.
    """
    return tensor_key(
        "video",
        decoding=DECODING,
        decoders=_releases("av", "pillow"),
        encoding=ENCODING,
        libraries=_releases("diffusers"),
        still_crf=still_crf,
        weights=weights,
        **footage.facts,
    )


def mask_key(footage: Footage, factors: ScaleFactors) -> str:
    """Name the kept cells of a mask by which frames are taken, at what size, and the cells; no weights enter."""
    return tensor_key(
        "mask",
        decoding=DECODING,
        decoders=_releases("av", "pillow"),
        masking=MASKING,
        cell=f"{factors.frames}x{factors.rows}x{factors.columns}",
        **footage.facts,
    )


def audio_key(soundtrack: Soundtrack, weights: str, num_tokens: int) -> str:
    """Name the latents of a sound; how to stretch is in it only where the sound is stretched."""
    return tensor_key(
        "audio",
        decoding=DECODING,
        decoders=_releases("av"),
        encoding=ENCODING,
        libraries=_releases("diffusers"),
        source=soundtrack.source.sha256,
        start=soundtrack.start_seconds,
        span=soundtrack.span_seconds,
        duration=soundtrack.duration_seconds,
        stretched=soundtrack.is_stretched and STRETCHING,
        gain=soundtrack.gain,
        num_tokens=num_tokens,
        weights=weights,
    )


@cache
def _releases(*libraries: str) -> str:
    """Say which releases compute; a patch of a release gives the same tensors."""
    return ", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in libraries)
