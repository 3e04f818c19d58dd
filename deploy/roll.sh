#!/usr/bin/env bash
# Replaces one version of Mayfly by another under load: rolling, or blue-green. docs/operations/upgrade.md explains it.
#
#   deploy/roll.sh [--blue-green] HOOKS OLD NEW
#
# HOOKS is a file of bash that describes the installation:
#   SERVICES=(NAME…)        in the order of their replacement; an API's name is that of its server in the proxy
#   url_of NAME             prints the URL of an API of that name; nothing for a worker or a broker
#   start NAME VERSION      starts it, and returns
#   stop NAME VERSION       stops it in good order, and returns when it has ended
#   proxy NAME drain|ready  for APIs: no more requests, or requests again (HAProxy: set server BACKEND/NAME state …)
# Blue-green also needs GREEN=(NAME…): other names, all of which are started and tested before the first request.
#
# If the new version does not start, or `mayfly smoke` fails, the old version is put back; the exit code is then 1.
# MAYFLY_TOKEN and the settings of the command `mayfly` are those of the caller. ROLL_SECONDS: patience of each start.
set -euo pipefail

mode=rolling
if [[ ${1-} == --blue-green ]]; then
  mode=blue-green
  shift
fi
[[ $# -eq 3 ]] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }
hooks=$1 old=$2 new=$3
# shellcheck source=/dev/null
source "$hooks"

report() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

is_api() { [[ -n $(url_of "$1") ]]; }

# Wait until an API answers; a server that ended never does.
await_live() {
  local url until=$((SECONDS + ${ROLL_SECONDS:-120}))
  url=$(url_of "$1")
  until python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/readyz", timeout=4)' "$url" 2>/dev/null; do
    ((SECONDS < until)) || { report "$1 is not ready at $url"; return 1; }
    sleep 0.2
  done
}

# Start a service, and test an API before it gets requests.
begin() {
  report "start $1, version $2"
  start "$1" "$2" || return 1
  if is_api "$1"; then
    await_live "$1" || return 1
    mayfly smoke "$(url_of "$1")" || return 1
  fi
}

end() {
  report "stop $1, version $2"
  if is_api "$1"; then proxy "$1" drain; fi
  stop "$1" "$2"
}

rolling() {
  local name changed done=()
  for name in "${SERVICES[@]}"; do
    end "$name" "$old"
    if begin "$name" "$new"; then
      if is_api "$name"; then proxy "$name" ready; fi
      done=("$name" "${done[@]}")
      continue
    fi
    report "going back to version $old"
    for changed in "$name" "${done[@]}"; do
      end "$changed" "$new"
      start "$changed" "$old"
      if is_api "$changed"; then await_live "$changed" && proxy "$changed" ready; fi
    done
    return 1
  done
}

blue_green() {
  local name changed begun=()
  for name in "${GREEN[@]}"; do
    begun+=("$name")
    if begin "$name" "$new"; then continue; fi
    report "going back to version $old, which still serves"
    for changed in "${begun[@]}"; do stop "$changed" "$new"; done
    return 1
  done
  for name in "${GREEN[@]}"; do
    if is_api "$name"; then proxy "$name" ready; fi
  done
  for name in "${SERVICES[@]}"; do end "$name" "$old"; done
}

if [[ $mode == rolling ]]; then rolling; else blue_green; fi
report "version $new serves"
