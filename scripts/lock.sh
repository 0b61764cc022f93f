#!/usr/bin/env bash
# Writes requirements.lock (what runs, and what builds it) and requirements-dev.lock (with the tools),
# both with hashes, from pyproject.toml. What is locked stays as it is unless pyproject demands more;
# `scripts/lock.sh --upgrade` takes the newest of everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v uv >/dev/null || { echo "lock: needs uv (pip install uv)" >&2; exit 1; }

compile() {
  uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-config --annotation-style line "$@"
}
compile --group build --output-file requirements.lock "${@}"
compile --group build --group dev --constraints requirements.lock \
  --output-file requirements-dev.lock "${@}"
echo "wrote requirements.lock and requirements-dev.lock"
