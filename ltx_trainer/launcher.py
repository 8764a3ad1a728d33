"""What the launcher of several processes says to each of them: its variables, which are there before torch is."""

import os


def is_main_process() -> bool:
    """Tell whether this process speaks and writes for all."""
    return os.environ.get("RANK", "0") == "0"


def num_processes() -> int:
    """Count the processes of the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def num_local_processes() -> int:
    """Count the processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
