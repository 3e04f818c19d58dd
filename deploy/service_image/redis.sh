#!/usr/bin/dash
# Redis with its password in a file, which keeps the password out of command lines and container configurations.
#   mayfly-redis ping           succeeds when Redis answers
#   mayfly-redis [OPTION ...]   becomes redis-server with these options, in the directory of `--dir`
# After a kill of Redis its append-only file may end within a transaction. Such a file is first loaded by a Redis that
# no client can reach: after a single load Redis would append to the file behind half a transaction
# (orchestrator/cli/commands/local/append_only.py).
set -eu
read -r password < "${REDIS_PASSWORD_FILE:-/run/secrets/redis-password}"
if [ "${1-}" = ping ]; then
  [ "$(REDISCLI_AUTH=$password /usr/bin/redis-cli ping)" = PONG ]
  exit
fi
manifest=appendonlydir/appendonly.aof.manifest
if [ -e "$manifest" ] && ! /usr/bin/redis-check-aof "$manifest" > /dev/null 2>&1; then
  /usr/bin/redis-server "$@" --port 0 --unixsocket load.sock --unixsocketperm 600 &
  loader=$!
  until [ "$(/usr/bin/redis-cli -s load.sock ping 2> /dev/null)" = PONG ]; do
    kill -0 "$loader" # fails if Redis has refused the file; the log has Redis's message
  done
  kill "$loader"
  wait "$loader"
fi
exec /usr/bin/redis-server - "$@" <<CONFIG
requirepass $password
CONFIG
