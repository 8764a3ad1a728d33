"""The documents: generated pages are up to date, links lead somewhere, and what they quote is so."""

import ast
import re
import runpy
import xml.dom.minidom
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from mode_worlds import LESSONS
from pydantic import BaseModel

from ltx_trainer.config import PreviewItem, Settings, load_settings
from ltx_trainer.errors import TrainerError
from ltx_trainer.modes import ALIASES, EITHER, MODES, SOUNDS, STILLS, VIDEOS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
SECTIONS: Mapping[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
MINIMUM = {"endpoint": MODES[0].endpoint, "input": {"training_data_url": "clips.zip"}}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def links_of(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", without_code(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def snippets() -> list[tuple[str, str]]:
    return [
        (name_of(page), text)
        for page in PAGES
        for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    ]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for name, value in above.items():
        nested = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(both[name], value) if nested else value
    return both


def test_the_page_of_settings_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "scripts/make_docs.py"))["configuration_page"]()

    assert (ROOT / "docs/configuration.md").read_text() == page, "run scripts/make_docs.py"


def test_the_page_of_settings_has_every_setting_and_every_field() -> None:
    page = (ROOT / "docs/configuration.md").read_text()

    for name, section in SECTIONS.items():
        rows = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert [key for key in section.model_fields if f"\n| `{key}` |" not in rows] == []
    assert len(SECTIONS) > 10


def test_the_page_of_settings_has_every_mode_and_every_field_of_its_items() -> None:
    page = (ROOT / "docs/configuration.md").read_text()

    for mode in MODES:
        (row,) = re.findall(rf"^\| {mode.name} \| `{mode.endpoint}` \|.*$", page, flags=re.MULTILINE)
        assert [item.name for item in mode.item_fields if f"`{item.name}`" not in row] == []
    fields = PreviewItem.model_fields
    assert [name for name in fields if f"\n| `{name}` |" not in page] == []
    assert [alias for alias in ALIASES if f"`{alias}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links_of(page):
        assert not re.match(r"\w+:", link), f"{link} leads out of the repository"
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_page_can_be_reached_from_the_first() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix != ".md" or page in seen:
            continue
        seen.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links_of(page)]

    assert sorted(seen) == PAGES


@pytest.mark.parametrize(("page", "text"), snippets(), ids=[page for page, _ in snippets()])
def test_every_piece_of_a_config_loads(tmp_path: Path, page: str, text: str) -> None:
    config = tmp_path / f"{Path(page).stem}.yaml"
    config.write_text(yaml.safe_dump(merged(MINIMUM, yaml.safe_load(text))))

    load_settings(config)


def test_there_are_pieces_of_configs() -> None:
    assert len(snippets()) >= 5


def settings_named() -> Iterator[tuple[str, str, str]]:
    """Give every `section.setting` that stands in a page, with the page."""
    for page in PAGES:
        for section, setting in re.findall(r"`([a-z_]+)\.([a-z0-9_]+)\b", without_code(page.read_text())):
            if section in SECTIONS and setting != "safetensors":
                yield name_of(page), section, setting


def test_every_setting_that_a_page_names_is_one() -> None:
    found = list(settings_named())

    for page, section, setting in found:
        assert setting in SECTIONS[section].model_fields, f"{page} names {section}.{setting}"
    assert len(found) > 30


def texts_in_code() -> list[str]:
    """Give every text in the package; of a text with values in it, its pieces with dots between."""
    texts = []
    for path in ROOT.glob("ltx_trainer/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[a-z]", "...", node.value))
            if isinstance(node, ast.JoinedStr):
                pieces = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                texts.append("".join(map(str, pieces)))
    return texts


def in_order(quoted: str, text: str) -> bool:
    """Say whether the pieces between the dots of a quotation stand in a text, one after the other."""
    place = 0
    for piece in filter(None, (piece.strip() for piece in quoted.split("..."))):
        place = text.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


def test_every_message_that_a_page_quotes_is_one_of_the_code() -> None:
    rows = (ROOT / "docs/errors.md").read_text().partition("## Messages")[2]
    quoted = re.findall(r"^\| `(.+?)` \|", rows, flags=re.MULTILINE)
    texts = texts_in_code()

    assert [message for message in quoted if not any(in_order(message, text) for text in texts)] == []
    assert len(quoted) > 15


def test_every_extension_that_is_taken_is_in_the_table_of_media() -> None:
    rows = re.findall(r"^\| (video|image|sound) \| (.+) \|$", (ROOT / "docs/datasets.md").read_text(), re.MULTILINE)

    assert {kind: set(re.findall(r"`(\.\w+)`", cell)) for kind, cell in rows} == {
        "video": VIDEOS,
        "image": STILLS | EITHER,
        "sound": SOUNDS,
    }


def test_every_exit_status_is_explained() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    statuses = {kind.exit_status for kind in [TrainerError, *TrainerError.__subclasses__()]}

    assert all(re.search(rf"^\| {status} \|", page, flags=re.MULTILINE) for status in {0, *statuses})
    assert "| 130, 143 |" in page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page: Path) -> None:
    lines = without_code(page.read_text()).splitlines()
    cells = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]

    assert [
        line for line, (above, own) in zip(lines[1:], pairwise(cells), strict=True) if above and own not in (0, above)
    ] == []


@pytest.mark.parametrize("mode", [lesson.name for lesson in LESSONS])
def test_every_mode_has_a_picture_and_a_row_of_figures(mode: str) -> None:
    page = (ROOT / "docs/modes.md").read_text(encoding="utf-8")

    assert f"![{mode}](pictures/modes/{mode}.png)" in page
    assert len(re.findall(rf"^\| {mode} \| \d+ % \| .* \| \d\.\d to \d\.\d \|$", page, re.MULTILINE)) == 1


def test_pictures_are_well_formed_and_say_what_they_show() -> None:
    pictures = list(ROOT.glob("docs/images/*.svg"))

    for picture in pictures:
        document = xml.dom.minidom.parse(str(picture))
        assert document.getElementsByTagName("title")
    assert pictures
