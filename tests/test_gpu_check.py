"""The check of a GPU, tried without one."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run parts of the script at tiny size on a CPU, expect an exit status, and give its report."""

    def run(*parts: str, status: int) -> dict[str, Any]:
        options = ["--device", "cpu", "--small", "--output", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["gpu_check.py", *parts, *options])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(SystemExit, match=f"^{status}$"):
            runpy.run_path(str(ROOT / "scripts/gpu_check.py"), run_name="__main__")
        return json.loads((tmp_path / "gpu_check.json").read_text())

    return run


def test_block_and_demo_pass_and_leave_their_numbers_and_a_preview(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = check("block", "demo", status=0)

    block, demo = report["parts"]
    assert block["found"]["tokens"] == {"video": 8, "audio": 9, "text": 16}
    assert 0 < block["found"]["plain"]["least_seconds"] <= block["found"]["plain"]["median_seconds"]
    assert block["found"]["error_in_float32"] == {"velocities": 0, "gradients": 0}
    assert demo["found"] == {"status": 0, "lora": True, "previews": ["step-000000", "step-000002"]}
    assert (tmp_path / "demo.mp4").stat().st_size > 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines if line.startswith("{")] == ["block", "demo"]


def test_a_part_that_fails_fails_the_check(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where no test is left to run, none has passed.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k no_test_of_this_name")

    report = check("tests", status=1)

    (tests,) = report["parts"]
    assert not tests["ok"]
    assert tests["found"]["tests"] == 0
