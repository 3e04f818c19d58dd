#!/usr/bin/env bash
# Installs Mayfly on this host for production, as systemd services or with compose. Run it again to upgrade, or after
# a failure: what is there is kept. Hosts: Debian 12 and 13, Ubuntu 24.04 and later.
#
#   deploy/install.sh             systemd: Redis, API, worker and broker, each with walls of its own (users: docs/operations/deployment.md)
#   deploy/install.sh --compose   the services of deploy/compose.yaml
#   deploy/install.sh uninstall   ends all of it and removes it, DATA AND KEYS INCLUDED; make a backup first
#
# Variables: IMAGES, a directory with sandbox images that are built already; DOCKER_SOCKET (default /run/docker.sock);
# ACCEPT_WEAKER=1 installs on a host that cannot keep a promise; COMPOSE (default docker-compose, or docker compose).
set -euo pipefail
umask 022
export PIP_NO_CACHE_DIR=1  # nothing of an installation stays in root's home

cd "$(dirname "${BASH_SOURCE[0]}")/.."
base=/opt/mayfly configuration=/etc/mayfly data=/var/lib/mayfly units=/etc/systemd/system command=/usr/local/bin/mayfly
services=(mayfly-redis mayfly-api mayfly-worker mayfly-broker)
parts=(orchestrator worker sandbox_image deploy docs pyproject.toml requirements.lock requirements-dev.lock README.md LICENSE)
code=     # the directory of this version below $base
changed=  # whether running services must be restarted
readonly base configuration data units command

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

setting() { # NAME
  sed -n "s/^$1=//p" "$configuration/mayfly.env"
}

# The settings of the services, for a command of Mayfly's: their file, and what their units add.
with_settings() { # COMMAND…
  local settings
  mapfile -t settings < <(grep '^MAYFLY_' "$configuration/mayfly.env")
  env "${settings[@]}" MAYFLY_REDIS_URL=unix:///run/mayfly-redis/redis.sock MAYFLY_DOCKER_URL="unix://$socket" "$@"
}

check_promises() {
  if with_settings "$code/.venv/bin/mayfly" doctor --security > "$configuration/doctor.txt"; then
    report "Doctor    this host can keep every promise"
  elif [ -n "${ACCEPT_WEAKER-}" ]; then
    report "Doctor    this host is weaker than promised; see $configuration/doctor.txt"
  else
    cat "$configuration/doctor.txt" >&2
    die "this host cannot keep a promise; nothing was started. Follow the remedies, or set ACCEPT_WEAKER=1"
  fi
  with_settings "$code/.venv/bin/mayfly" doctor --profile production || report "Profile   decide about these settings in $configuration/mayfly.env"
}

# --- Files ----------------------------------------------------------------------------------------------------------

add_user() { # NAME
  id "$1" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

# The code, in a directory of its version, which only root writes; services that run keep theirs until they restart.
put_code() {
  local digest
  digest=$(find "${parts[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-12)
  code=$base/$digest
  if [ "$(readlink "$base/current" 2>/dev/null || true)" = "$digest" ]; then
    report "Code      unchanged in $code"
    return
  fi
  if [ ! -e "$code/.complete" ]; then
    install -d -m 755 "$base" "$code"
    tar --exclude=__pycache__ --mode=u=rwX,go=rX -cf - "${parts[@]}" | tar -C "$code" --no-same-owner -xf -
    "$code/deploy/setup.sh" --installed
    touch "$code/.complete"
  fi
  report "Code      installed in $code"
}

# The link to the code in use; the version before it is kept, so that its installer goes back at once.
switch_code() {
  local before
  before=$(readlink "$base/current" 2>/dev/null || true)
  if [ "$before" = "${code##*/}" ]; then return; fi
  changed=1
  ln -sfn "${code##*/}" "$base/current"
  find "$base" -mindepth 1 -maxdepth 1 -type d ! -name "${code##*/}" ! -name "${before:-none}" -exec rm -rf {} +
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
  for role in api worker broker engine-proxy backup exporter; do secret "$configuration/secrets/redis-$role" root; done
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
  install -d -m 711 -o mayfly -g mayfly "$(setting MAYFLY_SANDBOX_DIR)"
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
  images=$(setting MAYFLY_IMAGES_DIR)
  if [ -n "${IMAGES-}" ]; then
    images=$(realpath "$IMAGES")
    sed -i "s|^MAYFLY_IMAGES_DIR=.*|MAYFLY_IMAGES_DIR=$images|" "$configuration/mayfly.env"
  fi
  (cd "$code" && .venv/bin/python -m sandbox_image.build --output "$images")
  report "Images    in $images"
}

put_unit() { # FILE: from the standard input; services restart if it changes
  local text
  text=$(cat)
  if [ "$text" != "$(cat "$units/$1" 2>/dev/null || true)" ]; then
    changed=1
    printf '%s\n' "$text" | install -D -m 644 /dev/stdin "$units/$1"
  fi
}

put_units() {
  local file
  # The version's own directory, not the link: a process that runs goes on with the code that it has begun with.
  for file in deploy/systemd/*.service deploy/systemd/mayfly.target; do
    sed "s|$base/current/|$code/|; s|$base/current\$|$code|" "$file" | put_unit "${file##*/}"
  done
  # The engine's socket is as good as root on this host. Only the worker has its group.
  printf '[Service]\nEnvironment=MAYFLY_DOCKER_URL=unix://%s\nSupplementaryGroups=%s\nReadWritePaths=%s\n' \
    "$socket" "$(stat -c %G "$socket")" "$(setting MAYFLY_SANDBOX_DIR)" | put_unit mayfly-worker.service.d/host.conf
  ln -sfn "$base/current/.venv/bin/mayfly" "$command"
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
  if [ -n "$changed" ]; then systemctl stop mayfly.target "${services[@]/%/.service}"; fi
  systemctl start mayfly.target "${services[@]/%/.service}"
  port=$(setting MAYFLY_API_PORT)
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
  switch_code
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
  rm -rf "$configuration" "$data" "$base" "$command"
  for user in mayfly mayfly-broker mayfly-redis; do
    if id "$user" >/dev/null 2>&1; then userdel "$user"; fi
  done
  report "Removed   services, users, $base, $configuration, $data and $command"
}

socket=$(realpath -m "${DOCKER_SOCKET-/run/docker.sock}")
read -ra engine <<< "${COMPOSE-$(has docker-compose && echo docker-compose || echo docker compose)}"
case "${1-}" in
  '') systemd ;;
  --compose) compose ;;
  uninstall) uninstall ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
