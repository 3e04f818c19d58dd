#!/usr/bin/dash
# Redis whose password is in a file, so that it stands on no command line and in no container's configuration.
#   mayfly-redis ping           succeeds when Redis answers
#   mayfly-redis [OPTION ...]   becomes redis-server with these options
set -eu
read -r password < "${REDIS_PASSWORD_FILE:-/run/secrets/redis-password}"
if [ "${1-}" = ping ]; then
  [ "$(REDISCLI_AUTH=$password /usr/bin/redis-cli ping)" = PONG ]
  exit
fi
exec /usr/bin/redis-server - "$@" <<CONFIG
requirepass $password
CONFIG
