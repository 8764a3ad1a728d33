"""Files from the model hub, through the hub library's own cache."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ltx_trainer.atomic import DISK_FULL, DISK_FULL_TEXTS, NO_PLACE
from ltx_trainer.errors import ConfigError, ModelError, OutOfResources

logger = logging.getLogger(__name__)

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""What an id on the hub looks like: owner and name."""

CACHED, SNAPSHOTS = "models--", "snapshots"
"""What the folders of a repository and of its commits are called in the hub's cache."""

LICENCE_PAGE = "https://huggingface.co/{}"


def is_repository(text: str) -> bool:
    """Say whether a text can be an id on the hub, `owner/name`, and is not meant as a path."""
    return bool(REPOSITORY.fullmatch(text)) and Path(text).suffix not in {".safetensors", ".gguf"}


def fetch_files(repository: str, revision: str | None, files: Sequence[str]) -> Path:
    """Fetch files of a repository, as far as it has them and the cache has not.

    The token comes from HF_TOKEN or the login of the hub library, and HF_HUB_OFFLINE=1 keeps to the cache.

    Args:
        repository: Its id, `owner/name`.
        revision: Branch, tag or commit; None for the main branch.
        files: Paths in the repository.

    Returns:
        The folder of the commit in the cache, which is named by the commit.

    Raises:
        ModelError: The repository cannot be had: gated, unknown, out of reach, or not in the cache when offline.
        OutOfResources: The disk is full.
        ConfigError: The cache cannot be written to.
    """
    # Takes a third of a second to import, which a run on a local folder is spared.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    with _hub_errors(repository, revision):
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[_literal(name) for name in files]))


def snapshot_of(folder: Path) -> tuple[str, str, str] | None:
    """Say which repository, commit and folder of it a folder in the hub's cache is; None if it lies elsewhere."""
    parts = folder.parts
    for place, part in enumerate(parts[:-2]):
        if part.startswith(CACHED) and parts[place + 1] == SNAPSHOTS:
            return part.removeprefix(CACHED).replace("--", "/"), parts[place + 2], "/".join(parts[place + 3 :])
    return None


def _literal(name: str) -> str:
    """Write a file's name as a pattern that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


@contextmanager
def _hub_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of the hub library into one message each.

    They derive from each other: whoever comes first here is the more telling one.
    """
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repository} is gated. Accept its licence at {LICENCE_PAGE.format(repository)}, then set HF_TOKEN to a "
            "token of that account."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{repository} has no revision {revision!r}. Give a branch, tag or commit that it has, or null for its "
            "main branch."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{repository} is no folder here, and the hub shows no model of that name. Check the id; for a private or "
            "gated one set HF_TOKEN to a token that may read it."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError, errors.HTTPError) as error:
        raise _out_of_reach(repository, error) from error
    except errors.HFValidationError as error:
        raise ModelError(f"{repository} is neither a folder nor an id on the hub: {error}") from error
    # Whole files come through an extension whose errors are of these types.
    except (OSError, RuntimeError) as error:
        raise _disk_error(repository, error) from error


def _out_of_reach(repository: str, error: Exception) -> ModelError:
    from huggingface_hub import constants  # noqa: PLC0415

    cache = constants.HF_HUB_CACHE
    if constants.is_offline_mode():
        return ModelError(
            f"HF_HUB_OFFLINE is set, and {repository} is not whole in the cache {cache}. Run once without "
            "HF_HUB_OFFLINE to fill it, or give a folder."
        )
    return ModelError(
        f"{repository} cannot be fetched: the hub cannot be reached ({_reason(error)}). Try again: what is there is "
        f"not fetched twice. Without a network, HF_HUB_OFFLINE=1 takes what is in the cache {cache}, or give a folder."
    )


def _reason(error: BaseException) -> str:
    """Give what an error of the hub library comes from, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _disk_error(repository: str, error: OSError | RuntimeError) -> Exception:
    from huggingface_hub import constants  # noqa: PLC0415

    cache, number = constants.HF_HUB_CACHE, error.errno if isinstance(error, OSError) else None
    if number in DISK_FULL or any(text in str(error).lower() for text in DISK_FULL_TEXTS):
        return OutOfResources(
            f"No space left on the disk of {cache} while fetching {repository}. Free some, or set HF_HOME to a folder "
            "on another disk."
        )
    if isinstance(error, OSError) and number in NO_PLACE:
        return ConfigError(
            f"{repository} cannot be kept in {cache}: {error.strerror}. Set HF_HOME to a folder that can be written to."
        )
    return _out_of_reach(repository, error)
