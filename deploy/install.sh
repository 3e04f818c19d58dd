#!/usr/bin/env bash
# Installs Mayfly on this host for production, as systemd services or with compose. Run it again to upgrade, or after
# a failure: what is there is kept. Hosts: Debian 12 and 13, Ubuntu 24.04 and later (docs/operations/deployment.md: what was run where).
#
#   deploy/install.sh             systemd: Redis, API, engine proxy, worker and broker, each a user with walls of its own
#   deploy/install.sh --compose   the services of deploy/compose.yaml
#   deploy/install.sh uninstall   ends all of it and removes it, DATA AND KEYS INCLUDED; make a backup first
#
# Variables: IMAGES, a directory with sandbox images that are built already; DOCKER_SOCKET (default /run/docker.sock);
# ACCEPT_WEAKER=1 installs on a host that cannot keep a promise; COMPOSE (default docker-compose, or docker compose);
# DATA, another directory than /var/lib/mayfly for --compose, and for the uninstall of that installation alone.
set -euo pipefail
umask 022
export PIP_NO_CACHE_DIR=1  # nothing of an installation stays in root's home

data=/var/lib/mayfly
if [ -n "${DATA-}" ]; then data=$(realpath -m "$DATA"); fi  # as seen from the caller's directory
cd "$(dirname "${BASH_SOURCE[0]}")/.."
base=/opt/mayfly configuration=/etc/mayfly units=/etc/systemd/system command=/usr/local/bin/mayfly
services=(mayfly-redis mayfly-api mayfly-engine-proxy mayfly-worker mayfly-broker)
declare -A users=([redis]=mayfly-redis [api]=mayfly [engine-proxy]=mayfly-engine [worker]=mayfly-worker [broker]=mayfly-broker)
blobs_group=mayfly-blobs  # of API and worker, which share the blobs and nothing else
parts=(orchestrator worker sandbox_image deploy docs pyproject.toml requirements.lock requirements-dev.lock README.md LICENSE)
code=     # the directory of this version below $base
unread=()  # services whose unit has changed since systemd read it
os_release=/etc/os-release debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg snap=/var/snap/docker
readonly base configuration data units command blobs_group

report() { printf '%s\n' "$*"; }
die() { printf 'deploy/install.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_booted() { [ -d /run/systemd/system ]; }

# --- The host -------------------------------------------------------------------------------------------------------

check_host() { # COMMAND=PACKAGE …: what must be installed
  local need missing=() id version needed=("$@")
  [ "$(id -u)" = 0 ] || die "this makes users and services, so it needs root: sudo deploy/install.sh"
  # shellcheck source=/dev/null
  id=$(. "$os_release" && echo "$ID") version=$(. "$os_release" && echo "${VERSION_ID-}")
  case "$id $version" in
    'debian 12' | 'debian 13') report "Host      $id $version" ;;
    *) report "Host      $id $version, on which not all of this was tested (docs/operations/deployment.md)" ;;
  esac
  # Images are made of Debian's packages, also where the host's own are others, signed by keys that apt does not trust there.
  if [ "$id" != debian ]; then
    needed+=(gpg=gpg)
    [ -e "$debian_keys" ] || missing+=(debian-archive-keyring)
  fi
  for need in "${needed[@]}"; do
    has "${need%%=*}" || missing+=("${need#*=}")
  done
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
  [ ${#missing[@]} = 0 ] || die "install first: apt-get install --no-install-recommends ${missing[*]}"
  if [ -d "$snap" ] && ! has dockerd; then
    die "the engine is a snap, which does not see $data: snap remove docker, and apt-get install docker.io"
  fi
  [ -S "$socket" ] || die "there is no container engine at $socket: apt-get install docker.io, or set DOCKER_SOCKET"
}

setting() { # NAME
  sed -n "s/^$1=//p" "$configuration/mayfly.env"
}

# The settings of the services, for a command of Mayfly's: their file, and what their units add.
with_settings() { # COMMAND…
  local settings
  mapfile -t settings < <(grep '^MAYFLY_' "$configuration/mayfly.env")
  env MAYFLY_REDIS_URL=unix:///run/mayfly-redis/redis.sock MAYFLY_DOCKER_URL="unix://$socket" MAYFLY_ENGINE_PROXY=true \
    "${settings[@]}" "$@"
}

check_promises() {
  install -m 600 /dev/null "$configuration/doctor.txt"
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

# A file that is new, or other than before, restarts the services that read it: so one that is the same is not touched.
put() { # FILE MODE OWNER: the standard input
  local new
  new=$(mktemp -p "$configuration/secrets")  # a directory of root's, unlike that of the file
  cat > "$new"
  if ! cmp -s "$new" "$1" || [ "$(stat -c '%a %U' "$1")" != "$2 $3" ]; then install -m "$2" -o "$3" -g "$3" "$new" "$1"; fi
  rm "$new"
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
  ln -sfn "${code##*/}" "$base/current"
  find "$base" -mindepth 1 -maxdepth 1 -type d ! -name "${code##*/}" ! -name "${before:-none}" -exec rm -rf {} +
}

secret() { # FILE OWNER [PREFIX]: a new secret, unless there is one
  if [ -s "$1" ]; then return; fi
  "$code/.venv/bin/python" -c 'import secrets, sys; print(sys.argv[1] + secrets.token_urlsafe(32))' "${3-}" | put "$1" 600 "$2"
}

# Each service has a directory of its own with copies of what it needs; files that more than one needs are root's.
put_secrets() {
  local role owner
  install -d -m 755 "$configuration" "$data" "$configuration/tool-servers"
  install -d -m 700 "$configuration/secrets"
  secret "$configuration/secrets/signing-key" root
  for role in api worker broker engine-proxy backup exporter; do secret "$configuration/secrets/redis-$role" root; done
  for role in "${!users[@]}"; do
    owner=${users[$role]}
    install -d -m 700 -o "$owner" -g "$owner" "$configuration/$role"
    case $role in api | worker | broker) put "$configuration/$role/signing-key" 600 "$owner" < "$configuration/secrets/signing-key" ;; esac
    if [ "$role" != redis ]; then put "$configuration/$role/redis-password" 600 "$owner" < "$configuration/secrets/redis-$role"; fi
  done
  install -d -m 700 -o mayfly-broker -g mayfly-broker "$configuration/broker/tool-secrets"
  secret "$configuration/api/admin-key" mayfly mfk_
  MAYFLY_TOKEN_KEYS_FILE=$configuration/api/token-keys "$code/.venv/bin/mayfly" admin rotate-keys --if-missing
  chown mayfly:mayfly "$configuration/api/token-keys"
  (cd "$code" && .venv/bin/python -m deploy.service_image.redis_users "$configuration/secrets") \
    | put "$configuration/redis/users" 600 mayfly-redis
  install -d -m 700 -o mayfly-redis -g mayfly-redis "$data/redis"
  if [ ! -d "$data/state" ]; then
    install -d -m 700 -o mayfly -g mayfly "$data/state"
    (cd "$code" && with_settings .venv/bin/python -c 'from orchestrator.settings import Settings; Settings().sealed_path.touch()')
    chown mayfly:mayfly "$data/state"/*
  fi
  report "Secrets   in $configuration, mode 600; the admin's key is in $configuration/api/admin-key"
}

# What API and worker write, once no earlier version of them runs, in which both had one user.
put_data() {
  local blobs=$data/blobs sandboxes
  sandboxes=$(setting MAYFLY_SANDBOX_DIR)
  install -d -m 2770 -o mayfly -g "$blobs_group" "$blobs"
  # Services that did not restart write there meanwhile. A link is not followed: root would open up what it leads to.
  find "$blobs" -ignore_readdir_race ! -type l ! -group "$blobs_group" -exec chgrp -h "$blobs_group" {} + -exec chmod g+rwX {} +
  find "$blobs" -ignore_readdir_race -type d ! -perm -2000 -exec chmod g+s {} +
  install -d -m 711 -o mayfly-worker -g mayfly-worker "$sandboxes"
  # Also leases that a killed worker left; its successor removes them.
  find "$sandboxes" -ignore_readdir_race ! -user "${users[worker]}" -exec chown -h "${users[worker]}:" {} +
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
  if [ -n "${IMAGES-}" ] && [ "$images" != "$(realpath "$IMAGES")" ]; then
    images=$(realpath "$IMAGES")
    sed -i "s|^MAYFLY_IMAGES_DIR=.*|MAYFLY_IMAGES_DIR=$images|" "$configuration/mayfly.env"
  fi
  (
    npm_config_cache=$(mktemp -d)  # which npm would keep in root's home
    export npm_config_cache
    trap 'rm -rf "$npm_config_cache"' EXIT
    cd "$code" && .venv/bin/python -m sandbox_image.build --output "$images"
  )
  report "Images    in $images"
}

put_unit() { # FILE: from the standard input
  install -d -m 755 "$(dirname "$units/$1")"
  put "$units/$1" 644 root
}

put_units() {
  local file service
  # The version's own directory, not the link: a process that runs goes on with the code that it has begun with.
  for file in deploy/systemd/*.service deploy/systemd/mayfly.target; do
    sed "/^Documentation=/!{s|$base/current/|$code/|; s|$base/current\$|$code|}" "$file" | put_unit "${file##*/}"
  done
  put "$base/redis.sh" 755 root < deploy/service_image/redis.sh
  # The engine's socket is as good as root on this host. Only the engine proxy has its group.
  printf '[Service]\nEnvironment=MAYFLY_DOCKER_URL=unix://%s\nSupplementaryGroups=%s\n' "$socket" "$(stat -c %G "$socket")" \
    | put_unit mayfly-engine-proxy.service.d/host.conf
  printf '[Service]\nInaccessiblePaths=-%s\nReadWritePaths=%s\n' "$socket" "$(setting MAYFLY_SANDBOX_DIR)" \
    | put_unit mayfly-worker.service.d/host.conf
  for file in api broker redis; do
    printf '[Service]\nInaccessiblePaths=-%s\n' "$socket" | put_unit "mayfly-$file.service.d/host.conf"
  done
  ln -sfn "$base/current/.venv/bin/mayfly" "$command"
  # A service that has restarted since an interrupted installation is newer than its files, but began by its old unit.
  for service in "${services[@]}"; do
    if is_booted && [ "$(systemctl show --property=NeedDaemonReload --value "$service.service")" = yes ]; then
      unread+=("$service")
    fi
  done
  systemctl --quiet enable mayfly.target "${services[@]/%/.service}"  # systemd reads all units anew
  report "Units     mayfly.target: ${services[*]}"
}

# --- Starts ---------------------------------------------------------------------------------------------------------

read_at_start() { # SERVICE: the files that it reads only then
  local role=${1#mayfly-}
  printf '%s\n' "$units/$1.service" "$units/$1.service.d/host.conf"
  if [ "$role" = redis ]; then
    printf '%s\n' "$base/redis.sh" "$configuration/redis.env" "$configuration/redis/users"
    return
  fi
  printf '%s\n' "$configuration/mayfly.env" "$configuration/$role/redis-password"
  case $role in api | worker | broker) printf '%s\n' "$configuration/$role/signing-key" ;; esac
  case $role in api) printf '%s\n' "$configuration/api/admin-key" ;; esac
  case $role in worker | engine-proxy) printf '%s\n' "$(setting MAYFLY_IMAGES_DIR)"/*.tar ;; esac
}

# Whether a service started by another unit, or one of these files has changed since; by the kernel's time of the change.
is_outdated() { # SERVICE
  local since files
  since=$(systemctl show --timestamp=us+utc --property=ExecMainStartTimestamp --value "$1.service")
  [ -n "$since" ] || return 1
  case " ${unread[*]} " in *" $1 "*) return 0 ;; esac
  mapfile -t files < <(read_at_start "$1")
  [ -n "$(find "${files[@]}" -newerct "$since" -print -quit)" ]
}

start() {
  local until=$((SECONDS + 180)) port service outdated=()
  if ! is_booted; then
    put_data
    report "Ready     systemd does not run here: the services start with the next boot"
    return
  fi
  systemctl daemon-reload
  for service in "${services[@]}"; do
    # With the proxy end the streams of running programs, so its restart is one of the worker, which first completes them.
    case "$service ${outdated[*]}" in
      'mayfly-worker '*mayfly-engine-proxy*) outdated+=("$service") ;;
      *) if is_outdated "$service"; then outdated+=("$service"); fi ;;
    esac
  done
  if [ ${#outdated[@]} != 0 ]; then systemctl stop "${outdated[@]/%/.service}"; fi
  put_data
  systemctl start mayfly.target "${services[@]/%/.service}"
  report "Restarted ${outdated[*]:-nothing}"
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
  [ "$(stat -c %G "$socket")" != UNKNOWN ] \
    || die "the group of $socket has no name here, and systemd needs one: groupadd --gid $(stat -c %g "$socket") docker"
  for user in "${users[@]}"; do add_user "$user"; done
  getent group "$blobs_group" >/dev/null || groupadd --system "$blobs_group"
  put_settings
  put_code
  check_promises
  put_images
  put_secrets  # late: an earlier version's service may not read them any more, and only its unit names the new user
  switch_code
  put_units
  start
}

compose() {
  local compose
  check_host python3=python3 openssl=openssl mmdebstrap=mmdebstrap tcc=tcc ld=binutils npm=npm
  "${engine[@]}" version >/dev/null 2>&1 \
    || die "${engine[*]} does not run here: apt-get install docker-compose (Debian) or docker-compose-v2 (Ubuntu)"
  deploy/setup.sh --installed
  .venv/bin/mayfly doctor --security || [ -n "${ACCEPT_WEAKER-}" ] || die "this host cannot keep a promise; nothing was started"
  deploy/prepare.sh "$data"
  compose=("${engine[@]}" --env-file "$data/compose.env" -f deploy/compose.yaml)
  "${compose[@]}" stop worker  # before the engine proxy, with whose end the streams of running programs would end
  if ! "${compose[@]}" up -d; then
    report "Restart   of all services: compose changes no network that has members. Start those of profiles again yourself"
    "${compose[@]}" --profile metrics down --remove-orphans
    "${compose[@]}" up -d
  fi
  report "Ready     deploy/README.md has the address, and how to look at the services"
}

uninstall() {
  local service
  [ "$(id -u)" = 0 ] || die "this removes users and services, so it needs root: sudo deploy/install.sh uninstall"
  if [ -n "${DATA-}" ] && [ "$(sed -n 's/^MAYFLY_HOME=//p' "$data/compose.env" 2>/dev/null)" != "$data" ]; then
    report "If an installation there was interrupted, complete it first: DATA=$data deploy/install.sh --compose" >&2
    die "$data is no installation: its compose.env does not name it as MAYFLY_HOME. Nothing was removed"
  fi
  if [ -e "$data/compose.env" ]; then
    "${engine[@]}" --profile metrics --env-file "$data/compose.env" -f deploy/compose.yaml down --volumes --remove-orphans
    report "Removed   the services of compose, and their volumes"
  fi
  if [ -n "${DATA-}" ]; then
    rm -rf "$data"
    report "Removed   $data"
    return
  fi
  if [ -e "$units/mayfly.target" ]; then
    if is_booted; then systemctl stop mayfly.target "${services[@]/%/.service}"; fi
    systemctl --quiet disable mayfly.target "${services[@]/%/.service}"
    for service in "${services[@]}"; do rm -rf "$units/$service.service" "$units/$service.service.d"; done
    rm -rf "$units/mayfly.target" "$units/mayfly.target.wants"
    if is_booted; then systemctl daemon-reload; fi
  fi
  rm -rf "$configuration" "$data" "$base" "$command"
  for user in "${users[@]}"; do
    if id "$user" >/dev/null 2>&1; then userdel "$user"; fi
  done
  if getent group "$blobs_group" >/dev/null; then groupdel "$blobs_group"; fi
  report "Removed   services, users, $base, $configuration, $data and $command"
}

socket=$(realpath -m "${DOCKER_SOCKET-/run/docker.sock}")
read -ra engine <<< "${COMPOSE-$(docker-compose version >/dev/null 2>&1 && echo docker-compose || echo docker compose)}"
case "${1-}" in
  '') [ -z "${DATA-}" ] || die "DATA is for --compose: the units name /var/lib/mayfly"; systemd ;;
  --compose) compose ;;
  uninstall) uninstall ;;
  *) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
