#!/usr/bin/dash
# Redis whose password is in a file, so that it stands on no command line and in no container's configuration.
#   mayfly-redis ping           succeeds when Redis answers
#   mayfly-redis [OPTION ...]   becomes redis-server with these options, in whose `--dir` it is started
# An append-only file that ends within a transaction, since Redis was killed, is loaded once where no client can reach it:
# Redis appends to such a file behind half a transaction, unless the file is loaded twice
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
    kill -0 "$loader" # where Redis refuses the file, this ends with Redis's words in the log
  done
  kill "$loader"
  wait "$loader"
fi
exec /usr/bin/redis-server - "$@" <<CONFIG
requirepass $password
CONFIG
