"""Write docs/configuration.md from the settings themselves: every section and field, its type, range and default.

python scripts/make_docs.py
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltx_trainer.config import PreviewItem, Request, Settings, request_fields
from ltx_trainer.modes import ALIASES, MODES, ItemField

PAGE = Path(__file__).parents[1] / "docs/configuration.md"

LONGEST_DEFAULT = 60

PLAIN_TYPES = {"string": "text", "boolean": "`true`, `false`", "null": "`null`"}
LOWER = {"minimum": "from {}", "exclusiveMinimum": "above {}"}
UPPER = {"maximum": "to {}", "exclusiveMaximum": "to below {}"}

TOP = """# Configuration

*This page is written by `scripts/make_docs.py` from the settings themselves. Change their docstrings, not the page.*

A config is YAML: `endpoint`, `input`, and whichever sections are to differ from their defaults.
[`configs/ltx23/t2v.yaml`](../configs/ltx23/t2v.yaml) shows them all. Unknown names are refused, with the one that was
probably meant. Numbers are those of YAML 1.2, so that `16:9` is text and `2e-4` is a number.

- `--input REQUEST.json` puts a request body of the hosted service in the place of `input`. Then `data.max_left_out` is
  1 and `data.incomplete` is `skip` by default, as there.
- `--set dotted.key=value` changes one setting, is applied last, and may be repeated; lists are written as YAML:
  `--set 'held_out.sigmas=[0.2, 0.8]'`.
- `--output DIR` takes the place of `paths.output`.
- `null` for a field of `input` means its default.

The run's folder holds `config.yaml`, in which every setting is written out: a config that gives the same run."""

ENVIRONMENT = """
## Environment variables

| variable | what it does |
|---|---|
| `HF_TOKEN` | gives access to gated models on the hub; so does a login with the hub's own command line |
| `HF_HUB_OFFLINE` | `1`: nothing is asked of the hub; what its cache holds is used |
| `HF_HOME` | where the hub's cache lies; `~/.cache/huggingface` without it |
| `WANDB_API_KEY` | the key that `report.wandb_project` needs |
| `WANDB_MODE` | `offline`: the record of W&B is kept in the run's folder, and no key is needed |
| `WANDB_ENTITY` | the account or team that the W&B project belongs to |
| `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` | the proxy that downloads go through |
| `ACCELERATE_USE_CPU` | `1`: a GPU is not used |
| `CUDA_VISIBLE_DEVICES` | which GPUs are used |
| `TORCH_ELASTIC_SHUTDOWN_TIMEOUT` | seconds that a launcher of several processes gives them to leave; 30 without it |
| `OMP_NUM_THREADS` | threads of each process on a CPU |

A key or token is never a setting, so that a config can be shown.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(configuration_page())


def configuration_page() -> str:
    """Give the whole page."""
    schema = Settings.model_json_schema()
    sections = {name: field for name, field in schema["properties"].items() if "$ref" in field and name != "input"}
    plain = {name: field for name, field in schema["properties"].items() if "$ref" not in field}
    parts = [TOP, "\n## At the top\n", *_table(plain, schema, required=schema["required"])]
    parts += ["\n## `input`\n", "The request body. Which fields it may have depends on the mode.\n", *_request(schema)]
    for name, field in sections.items():
        section = _resolved(field, schema)
        parts += [f"\n## `{name}`\n", f"{_text(section['description'])}\n", *_table(section["properties"], schema)]
    return "\n".join([*parts, ENVIRONMENT.rstrip("\n")]) + "\n"


def _request(schema: Mapping[str, Any]) -> Iterator[str]:
    request = schema["$defs"][Request.__name__]
    yield "| field | type | default | modes | what it does |"
    yield "|---|---|---|---|---|"
    for name, field in request["properties"].items():
        kind, default = _type(field, schema), _default_by_mode(name, field)
        yield f"| `{name}` | {kind} | {default} | {_modes_of(name)} | {_text(field['description'])} |"
    item = schema["$defs"][PreviewItem.__name__]
    yield f"\nAn item of `validation` may have what follows. {_text(item['description'].partition('. ')[2])}\n"
    yield from _table(item["properties"], schema, required=item["required"])
    yield "\n| mode | endpoint | what an item has besides `prompt` |"
    yield "|---|---|---|"
    for mode in MODES:
        items = [f"`{item.name}`{_need(item)}: {item.takes}" for item in mode.item_fields]
        yield f"| {mode.name} | `{mode.endpoint}` | {', '.join(items) or 'nothing'} |"
    older = ", ".join(f"`{alias}`" for alias in ALIASES)
    yield f"\nOlder names of endpoints are taken too: {older}."


def _need(item: ItemField) -> str:
    if item.required:
        return ""
    return " (in all or none)" if item.all_or_none else " (optional)"


def _table(fields: Mapping[str, Any], schema: Mapping[str, Any], required: list[str] | None = None) -> Iterator[str]:
    yield "| setting | type | default | what it does |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        default = "required" if name in (required or []) else _value(name, field["default"])
        yield f"| `{name}` | {_type(field, schema)} | {default} | {_text(field['description'])} |"


def _resolved(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["$defs"][field["$ref"].rpartition("/")[2]]


def _modes_of(name: str) -> str:
    having = [mode.name for mode in MODES if name in request_fields(mode)]
    lacking = [mode.name for mode in MODES if name in mode.lacks]
    if len(having) + len(lacking) < len(MODES):
        return ", ".join(having)
    return f"all but {', '.join(lacking)}" if lacking else "all"


def _default_by_mode(name: str, field: Mapping[str, Any]) -> str:
    """Say the common default, and which modes have another."""
    if any(name in mode.required_fields for mode in MODES):
        return "required"
    common = _value(name, field["default"]) if "default" in field else "required"
    by_value: dict[str, list[str]] = {}
    for mode in MODES:
        if name in request_fields(mode) and mode.defaults.get(name, field.get("default")) != field.get("default"):
            by_value.setdefault(_value(name, mode.defaults[name]), []).append(mode.name)
    return "; ".join([common, *(f"{', '.join(modes)}: {value}" for value, modes in by_value.items())])


def _type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Say what a field takes, in words."""
    if "anyOf" in field:
        return " or ".join(_type(kind, schema) for kind in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return "items, as below" if field["$ref"].endswith(PreviewItem.__name__) else "a section"
    if "prefixItems" in field:
        return f"[{'; '.join(_type(item, schema) for item in field['prefixItems'])}]"
    if field["type"] == "array":
        return f"list of {_type(field['items'], schema)}"
    return _plain_type(field)


def _plain_type(field: Mapping[str, Any]) -> str:
    kind = str(field.get("format", field["type"]))
    return " ".join([PLAIN_TYPES.get(kind, kind), *_range(field)])


def _range(field: Mapping[str, Any]) -> Iterator[str]:
    upper = next((text.format(field[key]) for key, text in UPPER.items() if key in field), None)
    lower = next((text.format(field[key]) for key, text in LOWER.items() if key in field), None)
    if lower is not None:
        yield lower if upper else lower.replace("from", "at least")
    if upper is not None:
        yield upper


def _value(name: str, value: object) -> str:
    if name == "version" and value is not None:
        return "this release"
    if value == "":
        return "empty"
    text = json.dumps(value).strip('"')
    if len(text) > LONGEST_DEFAULT:
        text = f"{text[:LONGEST_DEFAULT].rpartition(' ')[0]} ..."
    return f"`{text}`"


def _text(docstring: str) -> str:
    """Give a docstring in the words of YAML, in one line that a table holds."""
    return re.sub(r"\bNone\b", "`null`", " ".join(docstring.split())).replace("|", "\\|")


if __name__ == "__main__":
    main()
