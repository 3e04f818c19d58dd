#!/usr/bin/env bash
# Prepares this host for deploy/compose.yaml: images, secrets, settings. Run it again to upgrade; existing files are kept.
#
#   deploy/prepare.sh [DIR]     DIR (default /var/lib/mayfly) gets:
#     compose.env               settings, from deploy/compose.env.example; yours to edit
#     secrets/                  Redis's password, the signing key, the admin's API key
#     token-keys/               keys of own users' access tokens; `mayfly admin rotate-keys` adds one
#     images/                   sandbox images; images/services/ those of API, worker and Redis
#     sandboxes/                inputs of running executions
#     tool-servers/             declarations of tool servers; tool-secrets/ what the broker sends to them;
#                               tool-files/ what servers in sandboxes read and write
#     broker-seccomp.json       for deploy/compose.sandboxes.yaml
#
# Variables: PYTHON, an interpreter with Mayfly's packages (default .venv/bin/python, which deploy/setup.sh makes);
# IMAGES, another directory for images; DOCKER_SOCKET (default /var/run/docker.sock).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
service_uid=10001 redis_gid=10002   # as in deploy/compose.yaml

die() { printf '%s\n' "$*" >&2; exit 1; }

[ $# -le 1 ] || die "usage: deploy/prepare.sh [DIR]"
[ "$(id -u)" = 0 ] || die "This gives files to the services' users, so it needs root: sudo deploy/prepare.sh"
home=$(realpath -m "${1-/var/lib/mayfly}")
images=$(realpath -m "${IMAGES-$home/images}")
socket=$(realpath -m "${DOCKER_SOCKET-/var/run/docker.sock}")
python=${PYTHON-.venv/bin/python}
export DOCKER_HOST=unix://$socket
command -v "$python" >/dev/null || die "There is no $python: run deploy/setup.sh first, or set PYTHON."
[ -S "$socket" ] || die "There is no container engine at $socket."
case "$home$images$socket" in *[!A-Za-z0-9/._-]*) die "Only letters, digits and / . _ - may be in these paths: $home $images $socket" ;; esac

install -d -m 755 "$home"
install -d -m 711 -o "$service_uid" -g "$service_uid" "$home/sandboxes"
install -d -m 700 "$home/secrets"
install -d -m 700 -o "$service_uid" -g "$service_uid" "$home/token-keys"
install -d -m 755 "$home/tool-servers"
install -d -m 700 -o "$service_uid" -g "$service_uid" "$home/tool-secrets" "$home/tool-files"
install -m 644 deploy/broker-seccomp.json "$home/broker-seccomp.json"

# --- Images -----------------------------------------------------------------------------------------------------------

"$python" -m sandbox_image.build --output "$images"
"$python" -m deploy.service_image.build --output "$images/services"
tag_of() { "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["tag"])' "$images/services/$1.json"; }
for name in service redis; do
  if ! docker image inspect "$(tag_of "$name")" >/dev/null 2>&1; then docker load --quiet --input "$images/services/$name.tar"; fi
done

# --- Secrets ----------------------------------------------------------------------------------------------------------

# Compose mounts these files unchanged: the services see their owner and mode.
secret() { # NAME PREFIX GROUP MODE
  local file=$home/secrets/$1
  if [ ! -s "$file" ]; then
    "$python" -c 'import secrets, sys; print(sys.argv[1] + secrets.token_urlsafe(32))' "$2" | install -m 600 /dev/stdin "$file"
  fi
  chown "$service_uid:$3" "$file"
  chmod "$4" "$file"
}
secret signing-key '' "$service_uid" 400
secret admin-key mfk_ "$service_uid" 400
secret redis-password '' "$redis_gid" 440
MAYFLY_TOKEN_KEYS_FILE=$home/token-keys/keys "$python" -m orchestrator.cli admin rotate-keys --if-missing
chown "$service_uid:$service_uid" "$home/token-keys/keys"

# --- Settings ---------------------------------------------------------------------------------------------------------

settings=$home/compose.env
[ -e "$settings" ] || install -m 644 deploy/compose.env.example "$settings"
put() { # NAME VALUE: in the line of NAME, or in a new line
  if grep -q "^$1=" "$settings"; then sed -i "s|^$1=.*|$1=$2|" "$settings"; else echo "$1=$2" >> "$settings"; fi
}
put MAYFLY_HOME "$home"
put MAYFLY_IMAGES_DIR "$images"
put MAYFLY_SERVICE_IMAGE "$(tag_of service)"
put MAYFLY_REDIS_IMAGE "$(tag_of redis)"
put MAYFLY_DOCKER_SOCKET "$socket"
put MAYFLY_DOCKER_GID "$(stat -c %g "$socket")"

cat <<DONE
Ready. Start it, and look at it:
  docker-compose --env-file $settings -f deploy/compose.yaml up -d
  docker-compose --env-file $settings -f deploy/compose.yaml ps
The admin's API key is in $home/secrets/admin-key.
DONE
