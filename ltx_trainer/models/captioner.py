"""The model that writes captions: found, or fetched from the hub, and looked at without loading it.

Only JSON and the headers of weight files are read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.facts import ModelFacts
from ltx_trainer.models.folder import (
    CONFIG_FILE,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    TRANSFORMERS_WEIGHTS,
    read_component,
    read_json,
    weight_files,
)
from ltx_trainer.models.hub import fetch_files, is_repository, snapshot_of

PROCESSOR_CONFIGS = ("processor_config.json", "preprocessor_config.json")
"""Files that say how pictures become what the model reads; one is enough."""

TEMPLATES = ("chat_template.jinja", "chat_template.json")
TEMPLATE_KEY = "chat_template"
"""Where the words around a question stand: in a file, or under this key of a config."""

OWN_CONFIGS = ("video_preprocessor_config.json", "generation_config.json")
VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt")
SMALL_FILES = (
    CONFIG_FILE,
    f"{TRANSFORMERS_WEIGHTS}.index.json",
    *PROCESSOR_CONFIGS,
    *TEMPLATES,
    *OWN_CONFIGS,
    *TOKENIZER_FILES,
    *VOCABULARIES,
)
"""Everything but the weights."""

WHAT_WORKS = (
    "Set captions.model to a folder or hub id of the kind image-text-to-text that is made for chats, such as "
    "google/gemma-3-4b-it, or captions.auto: false."
)


@dataclass(frozen=True)
class Captioner:
    """A model that writes captions.

    Attributes:
        source: What to call it.
        folder: Its config and weights.
        processor: Its processor: how pictures and text become what it reads.
        component: Where its weights lie.
    """

    source: str
    folder: Path
    processor: Path
    component: Component

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that decides what it writes, in an order that does not depend on where the files lie."""
        beside = [self.folder / name for name in OWN_CONFIGS]
        read = [self.processor / name for name in sorted(SMALL_FILES) if name != CONFIG_FILE]
        found = [path for path in (*beside, *read) if path.is_file() and not path.name.endswith(".index.json")]
        return tuple(dict.fromkeys((*self.component.files, *found)))


def locate_captioner(model: str | None, revision: str | None, facts: ModelFacts) -> Captioner:
    """Find the model that writes captions, or fetch it from the hub, the small files first.

    Args:
        model: A folder, or an id on the hub; None for the text encoder of the base model.
        revision: Branch, tag or commit of an id; None for the main branch.
        facts: Of the base model.

    Raises:
        ModelError: There is no such model, it cannot be fetched or is not whole, or it is one that does not see, or
            that is not made for chats.
        ConfigError: The hub's cache cannot be written to.
        OutOfResources: The disk is full.
    """
    if model is None:
        return _own_encoder(facts)
    folder = Path(model).expanduser()
    if folder.is_dir():
        _check(folder, folder, model)
        return _captioner(model, folder)
    if not is_repository(model):
        raise ModelError(f"captions.model {model} is not there. {WHAT_WORKS}")
    first = fetch_files(model, revision, SMALL_FILES)
    _check(first, first, model)
    weights = [path.name for path in weight_files(first, TRANSFORMERS_WEIGHTS)]
    return _captioner(model, fetch_files(model, first.name, [*SMALL_FILES, *weights]))


def _captioner(source: str, folder: Path) -> Captioner:
    missing = [path.name for path in weight_files(folder, TRANSFORMERS_WEIGHTS) if not path.is_file()]
    if missing:
        raise ModelError(f"captions.model {source} lacks {', '.join(missing)}. {WHAT_WORKS}")
    return Captioner(source, folder, folder, read_component(folder, "captioner"))


def _own_encoder(facts: ModelFacts) -> Captioner:
    folder, source = facts.text_encoder, f"the text encoder {facts.text_encoder}"
    _check_sees(folder, source)
    # A pipeline has a folder for its processor; a model by itself has all in one.
    places = dict.fromkeys([facts.origin / "processor", facts.tokenizer, folder])
    if not any(_has_processor(place) for place in places):
        _fetch_processor(places)
    processor = next((place for place in places if _has_processor(place)), facts.tokenizer)
    _check(folder, processor, source)
    return Captioner(source, folder, processor, facts.components["text_encoder"])


def _fetch_processor(places: Mapping[Path, None]) -> None:
    """Fetch the files of a processor to the places that lie in the hub's cache, as far as their repositories have them.

    They are no part of the base model, so they do not come with it.
    """
    for place in places:
        if (found := snapshot_of(place)) is not None:
            repository, commit, folder = found
            names = [*PROCESSOR_CONFIGS, *TEMPLATES, *TOKENIZER_FILES]
            fetch_files(repository, commit, [f"{folder}/{name}" if folder else name for name in names])


def _has_processor(folder: Path) -> bool:
    return not list(_lacking(folder))


def _check(folder: Path, processor: Path, source: str) -> None:
    """Refuse what does not see, has no processor, or is not made for chats."""
    _check_sees(folder, source)
    if lacking := ", ".join(_lacking(processor)):
        raise ModelError(
            f"Captions cannot be written by {source}: {processor} lacks {lacking}. Put there what the model was "
            f"published with. Or else: {WHAT_WORKS}"
        )


def _check_sees(folder: Path, source: str) -> None:
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"Captions cannot be written by {source}: it has no {CONFIG_FILE}. {WHAT_WORKS}")
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config.get("vision_config"), dict):
        raise ModelError(
            f"Captions cannot be written by {source}: it is a {config.get('model_type')}, and its config names no "
            f"vision tower (vision_config). {WHAT_WORKS}"
        )


def _lacking(processor: Path) -> Iterator[str]:
    """Name what a folder lacks of a processor for chats."""
    if not any((processor / name).is_file() for name in PROCESSOR_CONFIGS):
        yield " or ".join(PROCESSOR_CONFIGS)
    if not (processor / TOKENIZER_CONFIG).is_file():
        yield TOKENIZER_CONFIG
    configs = (_read(processor / name) for name in (*PROCESSOR_CONFIGS, TOKENIZER_CONFIG))
    in_file = any((processor / name).is_file() for name in TEMPLATES)
    if not in_file and not any(config.get(TEMPLATE_KEY) for config in configs):
        yield f"a chat template ({' or '.join(TEMPLATES)})"


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
