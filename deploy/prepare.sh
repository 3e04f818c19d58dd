#!/usr/bin/env bash
# Prepares this host for deploy/compose.yaml: images, secrets, certificates, settings. Run it again to upgrade; existing files are kept.
#
#   deploy/prepare.sh [DIR]     DIR (default /var/lib/mayfly) gets:
#     compose.env               settings, from deploy/compose.env.example; yours to edit
#     secrets/                  passwords of Redis's users, the signing key, the admin's API key
#     tls/                      an own certificate authority (ca.crt, ca.key), and what it signs: the certificates of
#                               Redis and of the proxy, renewed in their last month; or tls/proxy/server.crt and
#                               server.key of yours, which stay
#     token-keys/               keys of own users' access tokens; `mayfly admin rotate-keys` adds one
#     images/                   sandbox images; images/services/ those of the services
#     sandboxes/                inputs of running executions
#     engine/                   the engine proxy's socket
#     backups/                  of deploy/compose.backup.yaml
#     signing/                  the key that signs where images come from (images.key), and its public key (images.pub)
#     tool-servers/             declarations of tool servers; tool-secrets/ what the broker sends to them;
#                               tool-files/ what servers in sandboxes read and write
#     broker-seccomp.json       for deploy/compose.sandboxes.yaml
#     alertmanager.yml          receivers of alerts, yours to edit (docs/operations/monitoring.md)
#
# Variables: PYTHON, an interpreter with Mayfly's packages (default .venv/bin/python, which deploy/setup.sh makes);
# IMAGES, another directory for images; DOCKER_SOCKET (default /var/run/docker.sock); NAMES, the host names and addresses
# under which clients reach this host, for the proxy's certificate (default: localhost, this host's name, 127.0.0.1);
# SUITE, Debian's suite of the services' packages (default: trixie); PROXY_SUITE, that of Caddy (default trixie-backports);
# REDIS_SUITE, that of Redis (default: this host's, whose `mayfly backup verify` then reads what Redis writes).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
service_uid=10001 redis_uid=10002 proxy_uid=10003 monitoring_uid=10004 engine_uid=10005   # as in deploy/compose.yaml

die() { printf '%s\n' "$*" >&2; exit 1; }

[ $# -le 1 ] || die "usage: deploy/prepare.sh [DIR]"
[ "$(id -u)" = 0 ] || die "This gives files to the services' users, so it needs root: sudo deploy/prepare.sh"
home=$(realpath -m "${1-/var/lib/mayfly}")
images=$(realpath -m "${IMAGES-$home/images}")
socket=$(realpath -m "${DOCKER_SOCKET-/var/run/docker.sock}")
python=${PYTHON-.venv/bin/python}
export DOCKER_HOST=unix://$socket
command -v "$python" >/dev/null || die "There is no $python: run deploy/setup.sh first, or set PYTHON."
command -v openssl >/dev/null || die "There is no openssl: apt-get install openssl"
[ -S "$socket" ] || die "There is no container engine at $socket."
case "$home$images$socket" in *[!A-Za-z0-9/._-]*) die "Only letters, digits and / . _ - may be in these paths: $home $images $socket" ;; esac

install -d -m 755 "$home"
install -d -m 711 -o "$service_uid" -g "$service_uid" "$home/sandboxes"
install -d -m 2750 -o "$engine_uid" -g "$service_uid" "$home/engine"
install -d -m 700 "$home/secrets"
install -d -m 700 -o "$service_uid" -g "$service_uid" "$home/token-keys"
install -d -m 755 "$home/tool-servers" "$home/tls"
install -d -m 700 -o "$redis_uid" -g "$redis_uid" "$home/tls/redis"
install -d -m 700 -o "$proxy_uid" -g "$proxy_uid" "$home/tls/proxy"
install -d -m 700 -o "$service_uid" -g "$service_uid" "$home/tool-secrets" "$home/tool-files" "$home/backups"
install -m 644 deploy/broker-seccomp.json "$home/broker-seccomp.json"
if [ ! -e "$home/alertmanager.yml" ]; then   # it gets passwords of receivers
  install -m 600 -o "$monitoring_uid" -g "$monitoring_uid" deploy/monitoring/alertmanager.yml "$home/alertmanager.yml"
fi

# --- Images -----------------------------------------------------------------------------------------------------------

mkdir -p "$images"
exec 9> "$images/.lock"   # another preparation with the same images waits
flock 9
"$python" -m sandbox_image.build --output "$images"
"$python" -m deploy.service_image.build --output "$images/services" ${SUITE:+--suite "$SUITE"} \
  --proxy-suite "${PROXY_SUITE-trixie-backports}" ${REDIS_SUITE:+--redis-suite "$REDIS_SUITE"}
signing=$home/signing   # of the images' provenance
install -d -m 700 "$signing"
if [ ! -s "$signing/images.key" ]; then
  (umask 077 && openssl genpkey -algorithm ed25519 -out "$signing/images.key")
  openssl pkey -in "$signing/images.key" -pubout -out "$signing/images.pub"
fi
MAYFLY_IMAGES_DIR=$images "$python" -m orchestrator.cli images sign --key "$signing/images.key" >/dev/null
tag_of() { "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["tag"])' "$images/services/$1.json"; }
for name in service redis proxy monitoring; do
  if ! docker image inspect "$(tag_of "$name")" >/dev/null 2>&1; then docker load --quiet --input "$images/services/$name.tar"; fi
done
exec 9>&-

# --- Secrets ----------------------------------------------------------------------------------------------------------

# Compose mounts these files unchanged: the services see their owner and mode.
secret() { # NAME PREFIX OWNER
  local file=$home/secrets/$1
  if [ ! -s "$file" ]; then
    "$python" -c 'import secrets, sys; print(sys.argv[1] + secrets.token_urlsafe(32))' "$2" | install -m 600 /dev/stdin "$file"
  fi
  chown "$3:$3" "$file"
  chmod 400 "$file"
}
secret signing-key '' "$service_uid"
secret admin-key mfk_ "$service_uid"
for role in api worker broker backup; do secret "redis-$role" '' "$service_uid"; done
secret redis-engine-proxy '' "$engine_uid"
secret redis-exporter '' "$redis_uid"
# The same password, as the exporter of Redis reads it: by the address, and later versions by the address with its user.
password=$(cat "$home/secrets/redis-exporter")
printf '{"rediss://redis:6379": "%s", "rediss://exporter@redis:6379": "%s"}\n' "$password" "$password" \
  | install -m 400 -o "$monitoring_uid" -g "$monitoring_uid" /dev/stdin "$home/secrets/redis-monitoring"
"$python" -m deploy.service_image.redis_users "$home/secrets" \
  | install -m 400 -o "$redis_uid" -g "$redis_uid" /dev/stdin "$home/secrets/redis-users"
MAYFLY_TOKEN_KEYS_FILE=$home/token-keys/keys "$python" -m orchestrator.cli admin rotate-keys --if-missing
chown "$service_uid:$service_uid" "$home/token-keys/keys"

# --- Certificates -----------------------------------------------------------------------------------------------------

tls=$home/tls
curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
if [ ! -s "$tls/ca.key" ]; then
  (umask 077 && openssl req -x509 "${curve[@]}" -keyout "$tls/ca.key" -out "$tls/ca.crt" -days 3650 \
    -subj "/CN=Mayfly $(hostname)" -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null)
  chmod 644 "$tls/ca.crt"
fi
certificate() { # NAME OWNER NAMES: a certificate for these names, unless one of a month and more is there
  local directory=$tls/$1 names
  if openssl x509 -checkend 2592000 -noout -in "$directory/server.crt" >/dev/null 2>&1; then return; fi
  if [ -s "$directory/server.crt" ] && ! openssl verify -CAfile "$tls/ca.crt" -no_check_time "$directory/server.crt" >/dev/null 2>&1; then
    echo "$directory/server.crt ends within a month, and is not of $tls/ca.crt: replace it." >&2
    return
  fi
  names=$(for one in $3; do case $one in *[!0-9.]*) printf 'DNS:%s,' "$one" ;; *) printf 'IP:%s,' "$one" ;; esac; done)
  openssl req "${curve[@]}" -keyout "$directory/.key" -subj / 2>/dev/null \
    | openssl x509 -req -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -days 398 -out "$directory/.crt" -extfile <(
      printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=critical,%s' "${names%,}"
    ) 2>/dev/null
  for part in key crt; do
    chown "$2:$2" "$directory/.$part"
    chmod 600 "$directory/.$part"
    mv "$directory/.$part" "$directory/server.$part"
  done
}
certificate redis "$redis_uid" "redis ${NAMES-}"
certificate proxy "$proxy_uid" "${NAMES-localhost $(hostname) 127.0.0.1}"

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
put MAYFLY_PROXY_IMAGE "$(tag_of proxy)"
put MAYFLY_MONITORING_IMAGE "$(tag_of monitoring)"
put MAYFLY_REDIS_USERS "$(sha256sum "$home/secrets/redis-users" | cut -c 1-16)"
put MAYFLY_DOCKER_SOCKET "$socket"
put MAYFLY_DOCKER_GID "$(stat -c %g "$socket")"

cat <<DONE
Ready. Start it, and look at it:
  docker-compose --env-file $settings -f deploy/compose.yaml up -d
  docker-compose --env-file $settings -f deploy/compose.yaml ps
The admin's API key is in $home/secrets/admin-key. Clients trust $home/tls/ca.crt.
DONE
