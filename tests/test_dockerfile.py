"""Dockerfile.cuda, read as Docker reads it: nobody has to build it to see that it keeps its promises."""

import json
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile.cuda"


class Instruction(NamedTuple):
    name: str
    value: str


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in whole if line.strip()]


def values(instructions: list[Instruction], name: str) -> list[str]:
    return [instruction.value for instruction in instructions if instruction.name == name]


def sources(instructions: list[Instruction]) -> list[str]:
    return [source for value in values(instructions, "COPY") for source in value.split()[:-1]]


def test_the_image_that_it_begins_with_is_of_one_version(instructions: list[Instruction]) -> None:
    (image,) = values(instructions, "FROM")

    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d+\.\d+", image)


def test_it_runs_as_a_user_that_is_not_root(instructions: list[Instruction]) -> None:
    defaults = dict(value.split("=") for value in values(instructions, "ARG"))
    user = values(instructions, "USER")[-1]

    assert int(defaults[user.removeprefix("$")]) > 0
    assert not [item for item in instructions[instructions.index(Instruction("USER", user)) :] if item.name == "RUN"]


def test_it_prints_its_help_unless_told_what_to_do(instructions: list[Instruction]) -> None:
    (entry,), (command,) = values(instructions, "ENTRYPOINT"), values(instructions, "CMD")

    assert json.loads(entry) == ["python", "-m", "ltx_trainer"]
    assert json.loads(command) == ["--help"]


def test_everything_that_it_copies_is_there_and_reaches_docker(instructions: list[Instruction]) -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    taken = [line.removeprefix("!") for line in ignored if line.startswith("!")]

    assert ignored[0] == "*"
    for source in sources(instructions):
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in taken), source
    assert sorted(taken) == sorted(sources(instructions))


def test_dependencies_are_installed_before_the_code_is_copied(instructions: list[Instruction]) -> None:
    order = [f"{item.name} {item.value}" for item in instructions]
    needs, code = (
        next(place for place, line in enumerate(order) if text in line)
        for text in ("--requirement requirements.txt", "COPY ltx_trainer")
    )

    assert needs < code
    assert "--constraint constraints.txt" in order[needs]
    assert "--mount=type=cache" in order[needs]


def test_its_list_of_dependencies_is_that_of_the_project(instructions: list[Instruction], tmp_path: Path) -> None:
    (step,) = (value for value in values(instructions, "RUN") if "requirements.txt" in value)
    (program,) = re.findall(r'-c "(.+?)" > requirements.txt', step)

    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    printed = subprocess.run(
        ["python3", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert printed.splitlines() == [*project["dependencies"], *project["optional-dependencies"]["wandb"]]


def test_lists_of_packages_are_removed_in_the_step_that_fetches_them(instructions: list[Instruction]) -> None:
    steps = [value for value in values(instructions, "RUN") if "apt-get update" in value]

    assert steps
    assert all("--no-install-recommends" in step and step.endswith("rm -rf /var/lib/apt/lists/*") for step in steps)


def test_nothing_is_fetched_by_url(instructions: list[Instruction]) -> None:
    assert not values(instructions, "ADD")
    assert not re.search(r"https?://|curl |wget ", "\n".join(value for _, value in instructions))


def test_it_has_labels(instructions: list[Instruction]) -> None:
    labels = " ".join(values(instructions, "LABEL"))

    assert {"title", "description", "licenses"} <= set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    found = subprocess.run(["hadolint", str(DOCKERFILE)], capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (0, "")
