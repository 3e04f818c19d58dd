#!/usr/bin/env bash
# Prepares this machine for Mayfly: the distribution's packages, and the virtual environment in .venv.
#
#   deploy/setup.sh          the requirements of `make up`
#   deploy/setup.sh --dev    also the requirements of tests and checks
#   deploy/setup.sh --unit   only the virtual environment of --dev, and no packages: enough for the unit tests
#   deploy/setup.sh --installed   only the virtual environment, for deploy/install.sh, which has checked the packages
#
# As root on Debian or Ubuntu it installs missing packages; without root it prints the command to type, and continues
# as long as nothing indispensable is missing. A second run changes nothing and takes a moment.
#
# Networks that inspect TLS: pass their CA bundle to pip with PIP_CERT=/path/to/bundle.pem. Set a package index of your
# own in pip's configuration as usual, and an npm registry in npm's; the hashes in the lock files and in the
# environments' files apply to them as well.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
dev=
packages=1
case "${1-}" in
  '') ;;
  --dev) dev=1 ;;
  --unit) dev=1 packages= ;;
  --installed) packages= ;;
  *) echo "usage: deploy/setup.sh [--dev | --unit | --installed]" >&2; exit 2 ;;
esac

report() { printf '%s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

# --- Python -----------------------------------------------------------------------------------------------------------

fit='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
find_python() {
  local candidate
  # The distribution's Python first: its build is profile-guided, unlike most local builds (as by pyenv).
  for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c "$fit" >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# --- Packages ---------------------------------------------------------------------------------------------------------

needed=()   # without these nothing runs
useful=()   # without these something is skipped
if ! find_python >/dev/null; then
  if has apt-cache && ! apt-cache policy python3 2>/dev/null | grep -Eq 'Candidate: 3\.(1[1-9]|[2-9][0-9])'; then
    needed+=(python3.11 python3.11-venv)
  else
    needed+=(python3 python3-venv)
  fi
fi
# An existing engine, also Docker Desktop or a remote engine, is used unchanged. If there is no engine and none can be
# installed, `mayfly up` makes containers with an OCI runtime directly.
if [ "${MAYFLY_DRIVER-}" = oci ]; then
  if ! has crun && ! has runc; then needed+=(crun); fi
elif [ -z "${MAYFLY_DOCKER_URL-}" ] && [ ! -S /var/run/docker.sock ] && ! has dockerd; then
  if { [ "$(id -u)" = 0 ] && has apt-get; } || { ! has crun && ! has runc; }; then needed+=(docker.io); fi
fi
if [ -z "${MAYFLY_REDIS_URL-}" ] && ! has redis-server; then needed+=(redis-server); fi
has mmdebstrap || needed+=(mmdebstrap)
# Sandbox images are made of Debian's packages on every system.
if has apt-get && [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then needed+=(debian-archive-keyring); fi
if ! grep -qx 'ID=debian' /etc/os-release 2>/dev/null && ! has gpg; then needed+=(gpg); fi  # with which mmdebstrap finds the key
has tcc || needed+=(tcc)         # compiles the one library that sandbox images have of our own
has ld || needed+=(binutils)     # and links it
has npm || needed+=(npm)       # fetches the sandbox images' Node.js; nothing is installed with it
has runc || useful+=(runc)
has crun || useful+=(crun)
has runsc || useful+=(runsc)   # gVisor, for the hardened tier
has iptables || useful+=(iptables)
if [ "$(id -u)" != 0 ] && ! has newuidmap; then useful+=(uidmap); fi
if [ -n "$dev" ]; then
  has promtool || useful+=(prometheus)
  has slowhttptest || useful+=(slowhttptest)
  has docker-compose || useful+=(docker-compose)
  has openssl || useful+=(openssl)
  has ip || useful+=(iproute2)
  has faketime || useful+=(faketime)
  has shellcheck || useful+=(shellcheck)
  has haproxy || useful+=(haproxy)
  has gawk || useful+=(gawk)
  has jq || useful+=(jq)
  has systemd-analyze || useful+=(systemd)
  has node || useful+=(nodejs)    # a client whose fetch is tested, on the host
fi

policy=/usr/sbin/policy-rc.d
policy_is_ours=
remove_policy() { if [ -n "$policy_is_ours" ]; then rm -f "$policy"; fi; }
trap remove_policy EXIT

# Mayfly runs a Redis of its own, and needs only the tools of Prometheus. So of the packages' services only the engine's
# is started, and only under systemd.
forbid_services() {
  if [ -e "$policy" ]; then return; fi
  policy_is_ours=1
  cat > "$policy" <<'POLICY'
#!/bin/sh
# Put here by Mayfly's deploy/setup.sh for the time of one installation.
if [ -d /run/systemd/system ] && { [ "$1" = docker ] || [ "$1" = containerd ]; }; then exit 0; fi
exit 101
POLICY
  chmod 755 "$policy"
}

install_packages() {
  report "Installing: $*"
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o Dpkg::Use-Pty=0 install -y -qq --no-install-recommends "$@" >&2
  remove_policy
  policy_is_ours=
  if [ -d /run/systemd/system ]; then
    local package
    for package in "$@"; do
      case "$package" in
        redis-server) systemctl --quiet disable redis-server || true ;;
        prometheus) systemctl --quiet disable prometheus || true ;;
      esac
    done
  fi
}

if [ -z "$packages" ]; then needed=() useful=(); fi
missing=("${needed[@]}" "${useful[@]}")
if [ ${#missing[@]} -gt 0 ] && has apt-get; then
  # Lists are fetched on a first run and for required packages, not for packages that are merely useful.
  if [ "$(id -u)" = 0 ] && { [ ${#needed[@]} -gt 0 ] || [ ! -x .venv/bin/mayfly ]; }; then apt-get update -qq; fi
  # A package that this release lacks must not prevent the installation of the others.
  missing=("${needed[@]}")
  for package in "${useful[@]}"; do
    if apt-cache show "$package" >/dev/null 2>&1; then
      missing+=("$package")
    else
      report "Not in this system's package archive, so it is left out: $package"
    fi
  done
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && has apt-get; then
    install_packages "${missing[@]}" || { [ ${#needed[@]} = 0 ] || install_packages "${needed[@]}"; }
  else
    if has apt-get; then
      report "Missing: ${missing[*]}. Type:"
      report "  sudo apt-get install -y --no-install-recommends ${missing[*]}"
    else
      report "Missing; install what your system calls: ${missing[*]}"
    fi
    if [ ${#needed[@]} -gt 0 ]; then exit 1; fi
  fi
fi

# --- The virtual environment ------------------------------------------------------------------------------------------

python=$(find_python) || { report "There is no Python 3.11 or newer with the venv module."; exit 1; }
lock=requirements.lock
if [ -n "$dev" ]; then lock=requirements-dev.lock; fi
stamp=.venv/.mayfly-setup
# Also if PYTHONDONTWRITEBYTECODE is set, as in many containers: byte code reduces a command's start to two thirds.
compile_modules() { .venv/bin/python -m compileall -q orchestrator worker || true; }
# The environment of --dev contains everything of the other environment.
wanted=$( { echo "$root"; cat requirements.lock requirements-dev.lock pyproject.toml; } | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python ] && .venv/bin/python -c "$fit" 2>/dev/null && [ -x .venv/bin/mayfly ]; then
  case "$(cat "$stamp" 2>/dev/null || true)" in
    "$wanted dev") compile_modules; exit 0 ;;
    "$wanted") if [ -z "$dev" ]; then compile_modules; exit 0; fi ;;
  esac
fi
report "Making .venv with $("$python" --version) from $lock"
rm -f "$stamp"
if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  rm -rf .venv
  "$python" -m venv .venv
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# A lock file is complete: pip resolves nothing, so newer releases cannot change or break the installation.
.venv/bin/python -m pip install -qq --no-deps --require-hashes -r "$lock"
.venv/bin/python -m pip install -qq --no-deps --no-build-isolation --no-index -e .
.venv/bin/python -m pip check >&2
compile_modules
echo "$wanted${dev:+ dev}" > "$stamp"
