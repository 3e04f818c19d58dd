#!/usr/bin/env bash
# Installs Mayfly on this host for production, as systemd services or with compose. Run it again to upgrade, or after
# a failure: what is there is kept. Hosts: Debian 12 and 13, Ubuntu 24.04 and later.
#
#   deploy/install.sh             systemd: Redis, API, worker and broker, each with a user and walls of its own
#   deploy/install.sh --compose   the services of deploy/compose.yaml
#   deploy/install.sh uninstall   ends all of it and removes it, DATA AND KEYS INCLUDED; make a backup first
#
# Variables: IMAGES, a directory with sandbox images that are built already; DOCKER_SOCKET (default /run/docker.sock);
# ACCEPT_WEAKER=1 installs on a host that cannot keep a promise; COMPOSE (default docker-compose, or docker compose).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout=$PWD
code=/opt/mayfly configuration=/etc/mayfly data=/var/lib/mayfly units=/etc/systemd/system command=/usr/local/bin/mayfly
services=(mayfly-redis mayfly-api mayfly-worker mayfly-broker)
parts=(orchestrator worker sandbox_image deploy docs pyproject.toml requirements.lock requirements-dev.lock README.md LICENSE)
readonly checkout code configuration data units command

report() { printf '%s\n' "$*"; }
die() { printf 'deploy/install.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_booted() { [ -d /run/systemd/system ]; }

# --- The host -------------------------------------------------------------------------------------------------------

check_host() { # COMMAND=PACKAGE …: what must be installed
  local need missing=() id version
  [ "$(id -u)" = 0 ] || die "this makes users and services, so it needs root: sudo deploy/install.sh"
  # shellcheck source=/dev/null
  id=$(. /etc/os-release && echo "$ID") version=$(. /etc/os-release && echo "${VERSION_ID-}")
  case "$id $version" in
    'debian 12' | 'debian 13' | ubuntu\ 2[4-9].*) report "Host      $id $version" ;;
    *) report "Host      $id $version, which no test of Mayfly has seen" ;;
  esac
  for need in "$@"; do
    has "${need%%=*}" || missing+=("${need#*=}")
  done
  [ ${#missing[@]} = 0 ] || die "install first: apt-get install --no-install-recommends ${missing[*]}"
  [ -S "$socket" ] || die "there is no container engine at $socket: apt-get install docker.io, or set DOCKER_SOCKET"
}

# The settings of the services, for a command of Mayfly's: their file, and what their units add.
with_settings() { # COMMAND…
  local settings
  mapfile -t settings < <(grep '^MAYFLY_' "$configuration/mayfly.env")
  env "${settings[@]}" MAYFLY_REDIS_URL=unix:///run/mayfly-redis/redis.sock MAYFLY_DOCKER_URL="unix://$socket" "$@"
}

check_promises() {
  if with_settings "$code/.venv/bin/mayfly" doctor --security > "$data/state/doctor.txt"; then
    report "Doctor    this host can keep every promise"
  elif [ -n "${ACCEPT_WEAKER-}" ]; then
    report "Doctor    this host is weaker than promised; see $data/state/doctor.txt"
  else
    cat "$data/state/doctor.txt" >&2
    die "this host cannot keep a promise; nothing was started. Follow the remedies, or set ACCEPT_WEAKER=1"
  fi
  with_settings "$code/.venv/bin/mayfly" doctor --profile production || report "Profile   decide about these settings in $configuration/mayfly.env"
}

# --- Files ----------------------------------------------------------------------------------------------------------

add_user() { # NAME
  id "$1" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

# The code, in a directory that only root writes; services are stopped first if it changes under them.
put_code() {
  local digest
  digest=$(find "${parts[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$code/.digest" 2>/dev/null || true)" = "$digest" ]; then
    report "Code      unchanged in $code"
    return
  fi
  if is_booted; then systemctl stop mayfly.target "${services[@]/%/.service}" 2>/dev/null || true; fi
  install -d -m 755 "$code"
  if [ "$checkout" != "$code" ]; then
    (cd "$code" && rm -rf "${parts[@]}")
    tar --exclude=__pycache__ -cf - "${parts[@]}" | tar -C "$code" --no-same-owner -xf -
  fi
  "$code/deploy/setup.sh" --installed
  echo "$digest" > "$code/.digest"
  report "Code      installed in $code"
}

secret() { # FILE OWNER [PREFIX]: a new secret, unless there is one
  if [ ! -s "$1" ]; then
    "$code/.venv/bin/python" -c 'import secrets, sys; print(sys.argv[1] + secrets.token_urlsafe(32))' "${3-}" \
      | install -m 600 /dev/stdin "$1"
  fi
  chown "$2:$2" "$1"
  chmod 600 "$1"
}

# Each service has a directory of its own with copies of what it needs; files that more than one needs are root's.
put_secrets() {
  local role owner
  install -d -m 755 "$configuration" "$data" "$configuration/tool-servers"
  install -d -m 700 "$configuration/secrets"
  secret "$configuration/secrets/signing-key" root
  for role in api worker broker backup exporter; do secret "$configuration/secrets/redis-$role" root; done
  for role in api worker broker; do
    owner=mayfly
    [ "$role" != broker ] || owner=mayfly-broker
    install -d -m 700 -o "$owner" -g "$owner" "$configuration/$role"
    install -m 600 -o "$owner" -g "$owner" "$configuration/secrets/signing-key" "$configuration/$role/signing-key"
    install -m 600 -o "$owner" -g "$owner" "$configuration/secrets/redis-$role" "$configuration/$role/redis-password"
  done
  install -d -m 700 -o mayfly-broker -g mayfly-broker "$configuration/broker/tool-secrets"
  secret "$configuration/api/admin-key" mayfly mfk_
  MAYFLY_TOKEN_KEYS_FILE=$configuration/api/token-keys "$code/.venv/bin/mayfly" admin rotate-keys --if-missing
  chown mayfly:mayfly "$configuration/api/token-keys"
  install -d -m 700 -o mayfly-redis -g mayfly-redis "$configuration/redis" "$data/redis"
  (cd "$code" && .venv/bin/python -m deploy.service_image.redis_users "$configuration/secrets") \
    | install -m 600 -o mayfly-redis -g mayfly-redis /dev/stdin "$configuration/redis/users"
  install -d -m 700 -o mayfly -g mayfly "$data/blobs"
  if [ ! -d "$data/state" ]; then
    install -d -m 700 -o mayfly -g mayfly "$data/state"
    with_settings "$code/.venv/bin/python" -c 'from orchestrator.settings import Settings; Settings().sealed_path.touch()'
    chown mayfly:mayfly "$data/state"/*
  fi
  install -d -m 711 -o mayfly -g mayfly "$data/sandboxes"
  report "Secrets   in $configuration, mode 600; the admin's key is in $configuration/api/admin-key"
}

put_settings() {
  local file
  install -d -m 755 "$configuration"
  for file in mayfly.env redis.env; do
    [ -e "$configuration/$file" ] || install -m 644 "deploy/systemd/$file" "$configuration/$file"
  done
  report "Settings  in $configuration/mayfly.env, yours to edit"
}

put_images() {
  local images
  images=$(sed -n 's/^MAYFLY_IMAGES_DIR=//p' "$configuration/mayfly.env")
  if [ -n "${IMAGES-}" ]; then
    images=$(realpath "$IMAGES")
    sed -i "s|^MAYFLY_IMAGES_DIR=.*|MAYFLY_IMAGES_DIR=$images|" "$configuration/mayfly.env"
  fi
  (cd "$code" && .venv/bin/python -m sandbox_image.build --output "$images")
  report "Images    in $images"
}

put_units() {
  local group
  group=$(stat -c %G "$socket")
  install -m 644 deploy/systemd/*.service deploy/systemd/mayfly.target "$units"
  install -d -m 755 "$units/mayfly-worker.service.d"
  # The engine's socket is as good as root on this host. Only the worker has its group.
  printf '[Service]\nEnvironment=MAYFLY_DOCKER_URL=unix://%s\nSupplementaryGroups=%s\n' "$socket" "$group" \
    > "$units/mayfly-worker.service.d/engine.conf"
  ln -sfn "$code/.venv/bin/mayfly" "$command"
  systemctl --quiet enable mayfly.target "${services[@]/%/.service}"
  report "Units     mayfly.target: ${services[*]}"
}

start() {
  local until=$((SECONDS + 180)) port
  if ! is_booted; then
    report "Ready     systemd does not run here: the services start with the next boot"
    return
  fi
  systemctl daemon-reload
  systemctl restart mayfly.target "${services[@]/%/.service}"
  port=$(sed -n 's/^MAYFLY_API_PORT=//p' "$configuration/mayfly.env")
  until python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=4)' "http://127.0.0.1:$port/readyz" 2>/dev/null; do
    ((SECONDS < until)) || die "the services are not ready: journalctl -u 'mayfly-*'"
    sleep 0.5
  done
  report "Ready     http://127.0.0.1:$port; a proxy with TLS goes before it (docs/operations/deployment.md)"
}

# --- Ways -----------------------------------------------------------------------------------------------------------

systemd() {
  check_host python3=python3 systemctl=systemd redis-server=redis-server dash=dash mmdebstrap=mmdebstrap tcc=tcc ld=binutils npm=npm
  for user in mayfly mayfly-broker mayfly-redis; do add_user "$user"; done
  put_settings
  put_code
  put_secrets
  check_promises
  put_images
  put_units
  start
}

compose() {
  check_host openssl=openssl mmdebstrap=mmdebstrap tcc=tcc ld=binutils npm=npm
  deploy/setup.sh --installed
  .venv/bin/mayfly doctor --security || [ -n "${ACCEPT_WEAKER-}" ] || die "this host cannot keep a promise; nothing was started"
  deploy/prepare.sh "$data"
  "${engine[@]}" --env-file "$data/compose.env" -f deploy/compose.yaml up -d
  report "Ready     deploy/README.md has the address, and how to look at the services"
}

uninstall() {
  local service
  [ "$(id -u)" = 0 ] || die "this removes users and services, so it needs root: sudo deploy/install.sh uninstall"
  if [ -e "$data/compose.env" ]; then
    "${engine[@]}" --env-file "$data/compose.env" -f deploy/compose.yaml down --volumes
  fi
  if [ -e "$units/mayfly.target" ]; then
    if is_booted; then systemctl stop mayfly.target "${services[@]/%/.service}"; fi
    systemctl --quiet disable mayfly.target "${services[@]/%/.service}"
    for service in "${services[@]}"; do rm -f "$units/$service.service"; done
    rm -rf "$units/mayfly.target" "$units/mayfly.target.wants" "$units/mayfly-worker.service.d"
    if is_booted; then systemctl daemon-reload; fi
  fi
  rm -rf "$configuration" "$data" "$code" "$command"
  for user in mayfly mayfly-broker mayfly-redis; do
    if id "$user" >/dev/null 2>&1; then userdel "$user"; fi
  done
  report "Removed   services, users, $code, $configuration, $data and $command"
}

socket=$(realpath -m "${DOCKER_SOCKET-/run/docker.sock}")
read -ra engine <<< "${COMPOSE-$(has docker-compose && echo docker-compose || echo docker compose)}"
case "${1-}" in
  '') systemd ;;
  --compose) compose ;;
  uninstall) uninstall ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
