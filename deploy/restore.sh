#!/usr/bin/env bash
# Restores a backup into an installation of compose that is empty and does not run (docs/operations/disaster.md).
#
#   deploy/restore.sh DIR --identity FILE [ID] [--public-key KEY]     words after DIR are those of `mayfly backup restore`
#
# DIR is the directory of deploy/prepare.sh, which has run there anew. The keys that it made give way to the backup's. Data
# goes into compose's volumes: through the installation's own Redis, which no client but this one reaches. If this is
# interrupted, type the same command again.
#
# Variables: COMPOSE, the command with its files (default: docker-compose, or docker compose, with DIR's settings and
# deploy/compose.yaml); PYTHON, as for deploy/prepare.sh; MAYFLY_BACKUP_TARGET (default: DIR/backups).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
service_uid=10001 redis_uid=10002   # as in deploy/compose.yaml

die() { printf '%s\n' "$*" >&2; exit 1; }

[ $# -ge 1 ] || die "usage: deploy/restore.sh DIR --identity FILE [ID] [--public-key KEY]"
[ "$(id -u)" = 0 ] || die "This writes files of the services' users, so it needs root: sudo deploy/restore.sh"
home=$(realpath -m "$1")
shift
settings=$home/compose.env python=${PYTHON-.venv/bin/python}
[ -s "$settings" ] || die "There is no $settings: run deploy/prepare.sh $home first."
found=$(command -v docker-compose >/dev/null && echo docker-compose || echo docker compose)
read -ra compose <<< "${COMPOSE-$found --env-file $settings -f deploy/compose.yaml}"
value() { sed -n "s/^$1=//p" "$settings"; }
DOCKER_HOST=unix://$(value MAYFLY_DOCKER_SOCKET)
export DOCKER_HOST

# Keys that were made for nothing: nothing is sealed with them while there is no data.
keys=("$home/secrets/signing-key" "$home/secrets/admin-key" "$home/token-keys/keys")
put_back() { for key in "${keys[@]}"; do [ -e "$key" ] || [ ! -e "$key.unused" ] || mv "$key.unused" "$key"; done; }
name=$(value MAYFLY_INSTALLATION)-restore sockets=$(mktemp -d) state="" finished=""
end_redis() {
  if docker inspect "$name" >/dev/null 2>&1; then docker stop --time 300 "$name" >/dev/null; docker rm "$name" >/dev/null; fi
}
end() {
  end_redis
  rm -rf "$sockets"
  if [ -z "$finished" ] && [ ! -e "$state/restore-incomplete" ]; then put_back; fi   # nothing was restored
}
trap end EXIT

running=$("${compose[@]}" ps --services --filter status=running)
[ -z "$running" ] || die "The installation is running: end it first, with \`down\`."
put_back
end_redis   # that of an interrupted restore
"${compose[@]}" run --rm -T --no-deps api python3 -c pass   # makes the volumes
chown "$redis_uid" "$sockets"
"${compose[@]}" run -d --no-deps --name "$name" -v "$sockets:/restore" \
  -e MAYFLY_REDIS_LISTEN="--port 0 --unixsocket /restore/redis.sock --unixsocketperm 700" redis >/dev/null
until [ -S "$sockets/redis.sock" ]; do
  [ "$(docker inspect -f '{{.State.Running}}' "$name")" = true ] || { docker logs "$name" >&2; die "Redis has ended."; }
  sleep 0.1
done
data=$(docker inspect -f '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}' "$name")
place() { docker volume inspect -f '{{.Mountpoint}}' "${data%redis}$1"; }
state=$(place state) blobs=$(place blobs)
if [ ! -e "$state/restore-incomplete" ]; then
  for key in "${keys[@]}"; do [ ! -e "$key" ] || mv "$key" "$key.unused"; done
fi

env MAYFLY_REDIS_URL="unix://$sockets/redis.sock" MAYFLY_STATE_DIR="$state" MAYFLY_BLOB_DIR="$blobs" \
  MAYFLY_SECRET_FILE="${keys[0]}" MAYFLY_ADMIN_KEY_FILE="${keys[1]}" MAYFLY_TOKEN_KEYS_FILE="${keys[2]}" \
  MAYFLY_TOOL_SERVERS_DIR="$home/tool-servers" MAYFLY_TOOL_SECRETS_DIR="$home/tool-secrets" \
  MAYFLY_IMAGES_DIR="$(value MAYFLY_IMAGES_DIR)" MAYFLY_BACKUP_TARGET="${MAYFLY_BACKUP_TARGET-$home/backups}" \
  "$python" -m orchestrator.cli backup restore "$@"
finished=yes

chown "$service_uid:$service_uid" "${keys[@]}"
chmod 400 "${keys[@]:0:2}"
chown -R "$service_uid:$service_uid" "$state" "$blobs" "$home/tool-secrets"
find "$home/tool-servers" -name '*.toml' -exec chmod 644 {} +
rm -f "${keys[@]/%/.unused}"
echo "Start it: ${compose[*]} up -d"
