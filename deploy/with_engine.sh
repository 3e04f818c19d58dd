#!/usr/bin/env bash
# Runs a command with a container engine: a running engine is used, and left running; otherwise an engine is started,
# and ended afterwards.
set -uo pipefail
mayfly="$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/mayfly"
state=$(mktemp -d "${TMPDIR:-/tmp}/mayfly-engine.XXXXXX") || exit 1
engine() { MAYFLY_STATE_DIR=$state "$mayfly" engine "$1" >&2; }
finish() {
  status=$?
  trap - EXIT INT TERM HUP
  engine stop
  rm -rf "$state"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if ! engine start; then
  echo "This needs a container engine; there is none." >&2
  exit 1
fi
"$@"
