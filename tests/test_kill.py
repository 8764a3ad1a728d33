"""SIGKILL inside the writing of a checkpoint, a preview and the LoRA, and the same command again."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts/kill_check.py"


def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one() -> None:
    arguments = [sys.executable, str(SCRIPT), "--at", "preview", "--at", "checkpoint", "--at", "export"]

    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "kill in the write of the preview: .item-1.partial.mp4 left, newest checkpoint none" in ended.stdout
    assert (
        "kill in the write of the checkpoint: .step-000003.partial.safetensors left, newest checkpoint none"
        in ended.stdout
    )
    assert (
        "kill in the write of the export: .lora.partial.safetensors left, newest checkpoint step-000012" in ended.stdout
    )
    assert ended.stdout.endswith("equal byte for byte\n")
