#!/usr/bin/env bash
# The whole test command: linting, formatting, tests. All arguments go to pytest; `--long` adds the slow tests.
set -euo pipefail
unset CDPATH PYTHONPATH PYTHONHOME
cd "$(dirname "$0")"
. ./environment.sh
ruff check --quiet .
ruff format --quiet --check .
contracts=$(lint-imports --no-logo --no-cache) || { echo "$contracts"; exit 1; }
# Worker processes share the cores: a thread each, and none that spins while it waits. A file stays with one of them, since
# its fixtures are dear; in the order of tests/conftest.py, what takes longest first.
OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
