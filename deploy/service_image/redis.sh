#!/usr/bin/dash
# Redis with TLS and users. The only file with a password in this container is that of a user who may ask how Redis is.
#   mayfly-redis ping           succeeds when Redis answers
#   mayfly-redis refused        prints the commands that Redis refused its users
#   mayfly-redis [OPTION ...]   becomes redis-server with these options, in the directory of `--dir`
# After a kill of Redis its append-only file may end within a transaction. Such a file is first loaded by a Redis that
# no client can reach: after a single load Redis would append to the file behind half a transaction
# (orchestrator/cli/commands/local/embedded/append_only.py).
# MAYFLY_REDIS_LISTEN has other options than those of TLS and users, such as those of a socket (deploy/systemd/mayfly-redis.service).
set -eu
ask() {
  read -r password < /run/secrets/redis-password
  REDISCLI_AUTH=$password /usr/bin/redis-cli --tls --cacert /etc/mayfly/ca.crt --user exporter "$@"
}
case "${1-}" in
  ping) [ "$(ask ping)" = PONG ]; exit ;;
  refused) ask acl log; exit ;;
esac
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
listen=${MAYFLY_REDIS_LISTEN:---port 0 --tls-port 6379 --tls-protocols TLSv1.3 --tls-auth-clients no
  --tls-cert-file /etc/mayfly/tls/server.crt --tls-key-file /etc/mayfly/tls/server.key --aclfile /run/secrets/redis-users}
# shellcheck disable=SC2086  # words
exec /usr/bin/redis-server $listen "$@"
