"""SIGKILL inside the writing of a checkpoint, a preview and the LoRA, and the same command again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.families import ENDPOINTS, LTX23, LTX_VIDEO

SCRIPT = Path(__file__).parents[1] / "scripts/kill_check.py"
LEFT = {
    "preview": ".item-1.partial.mp4 left, newest checkpoint none",
    "checkpoint": ".step-000003.partial.safetensors left, newest checkpoint none",
    "export": ".lora.partial.safetensors left, newest checkpoint step-000012",
}
"""What a kill in each write finds."""


@pytest.mark.parametrize(
    ("family", "writes"),
    [(LTX23, ("preview", "checkpoint", "export")), (LTX_VIDEO, ("checkpoint",))],
    ids=["ltx-2.3-in-every-write", "ltx-video-in-the-write-of-a-checkpoint"],
)
def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(family: str, writes: tuple[str, ...]) -> None:
    arguments = [sys.executable, str(SCRIPT), "--endpoint", ENDPOINTS[family]]
    arguments += [word for write in writes for word in ("--at", write)]

    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = [f"kill in the write of the {write}: {LEFT[write]}\n" for write in writes]
    assert ended.stdout.endswith("".join([*told, "equal byte for byte\n"]))
