"""The device of the tests that need one."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """A CUDA device. GPU_TESTS_DEVICE=cpu tries the tests themselves where there is none."""
    return torch.device(os.environ.get("GPU_TESTS_DEVICE", "cuda"))
