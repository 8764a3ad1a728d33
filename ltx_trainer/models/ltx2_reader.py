"""How models of LTX-2.3 are told and read, without torch."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.facts import LTX2_RESOLUTIONS, AudioFacts
from ltx_trainer.models.folder import CONFIG_FILE, SCHEDULER_FILE, Layout, read_json
from ltx_trainer.models.gemma import GEMMA
from ltx_trainer.models.names import LTX2_GROUPS
from ltx_trainer.models.reader import Parts, Reader, config_fact
from ltx_trainer.models.unified_ltx2 import LTX2_FILE

VERSION = "2.3"


class Ltx2Reader(Reader):
    """LTX-2.3: one version, with sound."""

    family = "ltx-2.3"
    layout = Layout(
        title="LTX-2.3",
        pipelines=("LTX2Pipeline",),
        components=("transformer", "vae", "audio_vae", "vocoder", "connectors"),
        vocabularies=GEMMA.vocabularies,
    )
    file = LTX2_FILE
    encoder = GEMMA
    default_encoder = "google/gemma-3-12b-it-qat-q4_0-unquantized"
    modules = LTX2_GROUPS
    max_text_tokens = 1024
    resolutions = LTX2_RESOLUTIONS

    def check_configs(self, folder: Path, source: str, asked: str | None) -> None:
        _check_asked(source, asked)
        transformer = folder / "transformer" / CONFIG_FILE
        version = _version(read_json(transformer)) if transformer.is_file() else VERSION
        if version != VERSION:
            raise ModelError(
                f"{source} holds LTX-{version}; this mode trains LTX-2.3, whose LoRAs and prompts are its own."
            )

    def config_signs(self, folder: Path) -> Sequence[str]:
        scheduler = folder / SCHEDULER_FILE
        is_full = not scheduler.is_file() or read_json(scheduler).get("use_dynamic_shifting")
        return () if is_full else ("its scheduler is a distilled model's (use_dynamic_shifting is off)",)

    def version(self, source: str, parts: Parts, asked: str | None) -> str | None:
        del parts
        _check_asked(source, asked)
        return None

    def is_told(self, parts: Parts, version: str | None) -> bool:
        del version
        # The scheduler of a folder tells.
        return not parts.config

    def audio(self, components: Mapping[str, Component]) -> AudioFacts | None:
        vae = components["audio_vae"]
        rate_hz, hop_length = config_fact(vae, "sample_rate", int), config_fact(vae, "mel_hop_length", int)
        mel_bins = config_fact(vae, "mel_bins", int)
        # Each level of the encoder but the last halves time and mel.
        halvings = 2 ** (len(config_fact(vae, "ch_mult", list)) - 1)
        return AudioFacts(
            rate_hz=rate_hz,
            hop_length=hop_length,
            mel_bins=mel_bins,
            latent_channels=config_fact(vae, "latent_channels", int),
            latent_mel_bins=mel_bins // halvings,
            tokens_per_second=Fraction(rate_hz, hop_length * halvings),
        )


def _check_asked(source: str, asked: str | None) -> None:
    if asked not in (None, VERSION):
        raise ModelError(f"model.version says {asked}, and {source} is LTX-{VERSION}. Leave model.version out.")


def _version(transformer: Mapping[str, Any]) -> str:
    if transformer.get("use_keyframes_abs_pos_embedding"):
        return "2.5"
    is_first = not transformer.get("cross_attn_mod") or transformer.get("use_prompt_embeddings", True)
    return "2.0" if is_first else VERSION
