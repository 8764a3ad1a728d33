"""From what the settings say of the base model to the files that it lies in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ltx_trainer import __version__
from ltx_trainer.atomic import locked
from ltx_trainer.digests import file_sha256
from ltx_trainer.errors import ModelError
from ltx_trainer.models.component import Component
from ltx_trainer.models.folder import check_pipeline
from ltx_trainer.models.hub import fetch_files, is_repository
from ltx_trainer.models.reader import Parts, Reader
from ltx_trainer.models.readers import reader_of
from ltx_trainer.models.suitable import check_suitable, config_names, name_signs, refuse_gguf
from ltx_trainer.models.text_encoder import check_text_encoder, places

MINIATURE = "miniature"
MINIATURES = ("ltx-2.3", "ltx-2.3-random", "ltx-video", "ltx-video-random")
"""Names of those that can be written: a family, or a family and `-random`."""
DIGITS = 12
"""Of the digest of its weights, in the name of the folder that a miniature is kept in."""
UNIFIED_SUFFIX = ".safetensors"
WHAT_WORKS = (
    "Give a folder in the layout of diffusers, its id on the hub (owner/name), a unified .safetensors file, or "
    f"{MINIATURE}."
)


@dataclass(frozen=True)
class Located:
    """Where a base model lies.

    Attributes:
        path: A folder in the layout of diffusers, or a unified file.
        source: What the settings call it.
        revision: The commit, if it is from the hub.
        text_encoder: Folder of the text encoder that a unified file is used with; None for a folder, which has its own.
        text_encoder_revision: The commit, if that is from the hub.
    """

    path: Path
    source: str
    revision: str | None = None
    text_encoder: Path | None = None
    text_encoder_revision: str | None = None


def locate_model(
    base: str,
    family: str,
    cache: Path,
    *,
    revision: str | None = None,
    text_encoder: str | None = None,
    text_encoder_revision: str | None = None,
    version: str | None = None,
    allow_unsuitable_base: bool = False,
) -> Located:
    """Find the base model, or fetch it from the hub. The miniature is written the first time it is asked for.

    Of a model on the hub, the small files come first, and of a unified file its header: what they show to be another
    model or unsuitable is refused before the weights, or the text encoder's, are fetched.

    Args:
        base: A folder, an id on the hub, a unified file, or `miniature`.
        family: Of the model.
        cache: Where the miniature is kept.
        revision: Branch, tag or commit of an id; None for the main branch.
        text_encoder: Folder or id of the text encoder that a unified file is used with; None for the family's own id.
        text_encoder_revision: Branch, tag or commit of that id.
        version: Which of the family's versions it is, where the model does not say.
        allow_unsuitable_base: Take a distilled or 8-bit model too.

    Raises:
        ModelError: There is no such model, it cannot be fetched, or it is another one or unsuitable.
        ConfigError: A cache cannot be written to.
        OutOfResources: The disk is full.
    """
    if base == MINIATURE:
        return Located(_written_miniature(family, cache), base)
    path = Path(base).expanduser()
    refuse_gguf(path)
    if path.is_dir():
        return Located(path, base)
    if path.is_file():
        reader = reader_of(family)
        parts = _read_file(reader, path)
        reader.settle(base, parts, version, allowed=allow_unsuitable_base)
        encoder, commit = _locate_text_encoder(
            reader, text_encoder or reader.default_encoder, text_encoder_revision, parts.components
        )
        return Located(path, base, text_encoder=encoder, text_encoder_revision=commit)
    if not is_repository(base):
        raise ModelError(f"{base} is not there. {WHAT_WORKS}")
    fetched = _fetch_base(reader_of(family), base, revision, version, allowed=allow_unsuitable_base)
    return Located(fetched, base, revision=fetched.name)


def _written_miniature(family: str, cache: Path) -> Path:
    weights = trained_weights(family)
    if not weights.is_file():
        raise ModelError(f"there is no miniature of {family!r}.")
    folder = cache / "models" / f"{MINIATURE}-{family}-{__version__}-{file_sha256(weights)[:DIGITS]}"
    if not folder.is_dir():
        from ltx_trainer.models.miniature import write_miniature  # noqa: PLC0415 - needs torch, once

        # Of several processes the first writes it, and the others find it.
        with locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                write_miniature(family, folder)
    return folder


def trained_weights(family: str) -> Path:
    """Say where the trained weights of a family's miniature come with the package."""
    return Path(__file__).with_name("trained") / f"{family}.safetensors"


def _read_file(reader: Reader, file: Path) -> Parts:
    if file.suffix != UNIFIED_SUFFIX:
        raise ModelError(f"{file} is not a {UNIFIED_SUFFIX} file. {WHAT_WORKS}")
    return reader.read_file(file)


def _locate_text_encoder(
    reader: Reader, text_encoder: str, revision: str | None, components: Mapping[str, Component]
) -> tuple[Path, str | None]:
    """Give the folder of a text encoder, and the commit if it is from the hub."""
    kind, folder = reader.encoder, Path(text_encoder).expanduser()
    if folder.is_dir():
        return folder, None
    if folder.exists() or not is_repository(text_encoder):
        raise ModelError(f"the text encoder {text_encoder} is not a folder. {kind.what_works}")

    def check(first: Path) -> None:
        check_text_encoder(kind, places(first)[0], components, text_encoder)

    fetched = _fetch(text_encoder, revision, kind.first_files, check, kind.files_to_fetch)
    return fetched, fetched.name


def _fetch_base(reader: Reader, repository: str, revision: str | None, version: str | None, *, allowed: bool) -> Path:
    check_suitable(repository, name_signs([repository, revision or ""]), allowed=allowed)

    def check(first: Path) -> None:
        check_pipeline(reader.layout, first, repository)
        reader.check_configs(first, repository, version)
        signs = [*reader.config_signs(first), *name_signs(config_names(first))]
        check_suitable(repository, signs, allowed=allowed)

    return _fetch(repository, revision, reader.layout.first_files, check, reader.layout.files_to_fetch)


def _fetch(
    repository: str,
    revision: str | None,
    first_files: tuple[str, ...],
    check: Callable[[Path], None],
    files_to_fetch: Callable[[Path], list[str]],
) -> Path:
    first = fetch_files(repository, revision, first_files)
    check(first)
    # By its commit, so that a branch that moves meanwhile gives no mixture.
    return fetch_files(repository, first.name, files_to_fetch(first))
