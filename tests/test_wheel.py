"""What the wheel holds, by what hatchling is told: the package whole, but for what git does not keep."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ltx_trainer"


def is_ignored(path: Path, patterns: list[str]) -> bool:
    """Say whether git, and with it hatchling, passes a file over, by its own name or that of a folder around it."""
    around = [path, *path.parents][:-1]
    return any(fnmatch(str(each), pattern) or fnmatch(each.name, pattern) for each in around for pattern in patterns)


def test_the_wheel_holds_every_file_of_the_package_those_that_are_no_code_too() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    lines = (ROOT / ".gitignore").read_text().splitlines()
    patterns = [line.strip("/") for line in lines if line and not line.startswith("#")]
    files = [
        path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    ]

    assert build.keys() == {"targets"}
    assert build["targets"]["wheel"] == {"packages": [PACKAGE.name]}
    assert {".py", ".j2", ".safetensors"} <= {path.suffix for path in files}
    assert [path for path in files if is_ignored(path, patterns)] == []
