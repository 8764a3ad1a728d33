#!/usr/bin/env bash
# All checks, cheapest first, then the tests. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

# Tiny tensors gain nothing from threads, and lose where several processes share the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Without it pyright asks the network for its newest version.
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1

ruff format --check .
ruff check .
lint-imports
pyright
# A file of tests stays in one process, so that what it makes once is made once.
# In the order of tests/conftest.py, because the long ones are in files of few tests, which would otherwise come last.
python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder "$@"
