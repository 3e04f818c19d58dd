#!/usr/bin/env bash
# Traps on exit, errors and signals, background jobs and wait, cleanup of temporary files, and an exit code.
set -uE

scratch=$(mktemp -d)
signals=0

cleanup() {
  local code=$?
  rm -rf "$scratch"
  [[ -e $scratch ]] || echo "cleaned up, leaving with $code"
}
trap cleanup EXIT
trap 'signals=$((signals + 1))' USR1
trap 'echo "interrupted"' INT

worker() {
  local id=$1 file=$scratch/$1
  for ((i = 0; i < id; i++)); do echo "$id.$i" >>"$file"; done
  return "$id"
}

pids=()
for id in 3 1 2; do
  worker "$id" &
  pids+=($!)
done
codes=()
for pid in "${pids[@]}"; do
  wait "$pid"
  codes+=($?)
done
trap 'echo "error $? in line $LINENO: $BASH_COMMAND"' ERR
echo "codes ${codes[*]}, lines $(cat "$scratch"/* | sort | paste -sd' ' -)"

for _ in 1 2 3; do kill -USR1 $$; done
kill -INT $$
echo "signals $signals"

false
(exit 7) || echo "subshell $?"
if ! grep -q absent <<<present; then echo "grep is no error here"; fi
ls /no/such/file 2>/dev/null

trap '' TERM
kill -TERM $$
trap - TERM
mkfifo "$scratch/ready"
(
  echo ready >"$scratch/ready"
  exec sleep 60
) &
sleeper=$!
read -r ready <"$scratch/ready"
kill "$sleeper"
wait "$sleeper" || echo "sleeper $?"
exec 3>&1
echo "to three" >&3
coproc cat
echo "through a coprocess" >&"${COPROC[1]}"
read -r line <&"${COPROC[0]}"
echo "$line"
exec {COPROC[1]}>&-
wait
exit 42
