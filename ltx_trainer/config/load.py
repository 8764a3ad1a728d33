"""YAML, a request body and overrides in; settings out, and the same YAML back."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ltx_trainer.config.request import request_fields
from ltx_trainer.config.schema import Settings
from ltx_trainer.errors import ConfigError

PLAIN_WORDS = {
    "valid tuple": "list, such as [a, b]",
    "Tuple": "List",
    "valid dictionary or instance of Request": "group of fields",
    "valid dictionary or object to extract fields from": "group of settings",
}
"""Words of Python in messages, and what a reader of YAML calls them."""

HOSTED_LENIENCY = {"max_left_out": 1.0, "incomplete": "skip"}
"""Settings of `data` by default where the request is a body of the hosted service."""


class _Loader(yaml.SafeLoader):
    """YAML in which 16:9 is text, not the sexagesimal number 969, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as in the base class
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The numbers of YAML 1.2: 2e-4 is one, 16:9 and 0o17 are not.
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def load_settings(path: Path, *, request: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read a config file: `read_config`, then `settings_from`.

    Raises:
        ConfigError: With every problem found, each in a line, and the key that was probably meant.
    """
    return settings_from(read_config(path, request=request, overrides=overrides), path, request=request)


def read_config(path: Path, *, request: Path | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a config file without checking what it says.

    Args:
        path: YAML.
        request: JSON body written for the hosted service; it takes the place of the file's `input`.
        overrides: `dotted.key=value`, applied last; the value is read as YAML.

    Raises:
        ConfigError: A file cannot be read, or is not written correctly.
    """
    data = _read_mapping(path, lambda text: yaml.load(text, _Loader))
    if request is not None:
        data["input"] = _read_mapping(request, json.loads)
        _keep_hosted_behaviour(data)
    for override in overrides:
        _apply(data, override)
    return data


def settings_from(data: Mapping[str, Any], path: Path, *, request: Path | None = None) -> Settings:
    """Check settings.

    Args:
        data: From `read_config`.
        path: Names the file in messages.
        request: Names the file that `input` is from.

    Raises:
        ConfigError: With every problem found, each in a line, and the key that was probably meant.
    """
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {problem}" for problem in _problems(error))
        files = f"{path}" if request is None else f"{path} with {request} as its input"
        raise ConfigError(f"{files}:\n{problems}") from error


def settings_as_yaml(settings: Settings) -> str:
    """Write every setting out, so that loading the text gives equal settings."""
    data = settings.model_dump(mode="json")
    data["input"] = {name: data["input"][name] for name in request_fields(settings.mode)}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _read_mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        data = parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}. Save it as UTF-8.") from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not written correctly: {error}") from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{path} holds {found}, not settings by name.")
    return data


def _keep_hosted_behaviour(data: dict[str, Any]) -> None:
    """Skip what the hosted service skips, unless the file says otherwise."""
    section = data.setdefault("data", {})
    if isinstance(section, dict):
        data["data"] = {**HOSTED_LENIENCY, **section}


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    *sections, last = dotted.split(".")
    if not equals or not all([*sections, last]):
        raise ConfigError(f"--set {override!r} is not dotted.key=value, such as training.seed=7.")
    place: Any = data
    for section in sections:
        place = place.setdefault(section, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise ConfigError(f"--set {dotted}: {'.'.join(sections)} is a value, not a section.")
    try:
        place[last] = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {dotted}: {text!r} is not written correctly: {error}") from error


def _problems(error: ValidationError) -> Iterator[str]:
    for detail in error.errors():
        yield _unknown_key(detail) if detail["type"] == "extra_forbidden" else _wrong_value(detail)


def _wrong_value(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ").removesuffix(".")
    for python, plain in PLAIN_WORDS.items():
        message = message.replace(python, plain)
    if detail["type"] == "missing":
        return f"{place} is required."
    if not place:
        return f"{message}."
    return f"{place} = {detail['input']!r}: {message}."


def _unknown_key(detail: ErrorDetails) -> str:
    *sections, key = (str(part) for part in detail["loc"])
    known = list(_keys_at(sections))
    near = get_close_matches(key, known, n=1)
    meant = f"Did you mean {'.'.join([*sections, near[0]])}?" if near else f"Known: {', '.join(known)}."
    return f"{'.'.join([*sections, key])} is not a setting. {meant}"


def _keys_at(sections: Sequence[str]) -> Iterator[str]:
    model: type[BaseModel] = Settings
    for section in sections:
        if section.isdecimal():
            continue
        annotation = model.model_fields[section].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel))
    yield from model.model_fields
