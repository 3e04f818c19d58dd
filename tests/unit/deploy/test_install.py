"""deploy/install.sh where it needs no engine and no systemd: commands of compose are recorded and not run."""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from orchestrator.settings import inherited_environment
from tests.harness import ROOT

INSTALL = ROOT / "deploy" / "install.sh"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("deploy/install.sh needs root")
    made = tmp_path / "home"
    made.mkdir()
    (made / "compose.env").write_text(f"MAYFLY_HOME={made}\n")
    return made


def uninstalled(data: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``true`` stands in for compose."""
    env = inherited_environment(DATA=data, COMPOSE="true")
    return subprocess.run([INSTALL, "uninstall"], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("settings", ["", "MAYFLY_HOME=/var/lib/mayfly\n", None])
def test_uninstall_removes_no_directory_without_an_installation(home: Path, settings: str | None) -> None:
    if settings is None:
        (home / "compose.env").unlink()
    else:
        (home / "compose.env").write_text(settings)
    (home / "precious").touch()
    done = uninstalled(str(home), home)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Nothing was removed" in done.stderr
    assert f"complete it first: DATA={home} deploy/install.sh --compose" in done.stderr
    assert (home / "precious").exists()


def test_uninstall_resolves_the_directory_of_the_caller(home: Path) -> None:
    (home.parent / "link").symlink_to(home)
    done = uninstalled("link", home.parent)
    assert done.returncode == 0, done.stderr
    assert not home.exists()


NOBLE = """PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
"""
BOOKWORM = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
TRIXIE = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'
RELEASE, KEYS, SNAP = "etc/os-release", "usr/share/keyrings/debian-archive-keyring.gpg", "var/snap/docker"
CHECKED = """
cd "$1"
data=/var/lib/mayfly socket=engine.sock
report() { echo "$*"; }
die() { echo "$*"; exit 1; }
has() { [ -e "commands/$1" ]; }
python3() { [ -e venv ]; }
id() { echo 0; }
"""


@pytest.mark.parametrize(
    ("release", "absent", "expected"),
    [
        (NOBLE, (), "Host      ubuntu 24.04, on which not all of this was tested (docs/operations/deployment.md)"),
        (NOBLE, (KEYS, "commands/gpg"), "--no-install-recommends debian-archive-keyring gpg"),
        (NOBLE, ("venv",), "--no-install-recommends python3-venv"),
        (NOBLE, ("commands/mmdebstrap", "venv"), "--no-install-recommends mmdebstrap python3-venv"),
        (NOBLE, ("commands/dockerd",), "the engine is a snap, which does not see /var/lib/mayfly"),
        (NOBLE, ("commands/dockerd", SNAP, "engine.sock"), "there is no container engine at engine.sock"),
        (NOBLE, (KEYS,), "--no-install-recommends debian-archive-keyring\n"),
        (NOBLE, ("commands/gpg",), "--no-install-recommends gpg\n"),
        (BOOKWORM, (KEYS, "commands/gpg"), "Host      debian 12\n"),
        (TRIXIE, (KEYS, "commands/gpg"), "Host      debian 13\n"),
    ],
)
def test_host_check_names_missing_packages_of_the_distribution(
    release: str, absent: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    """An Ubuntu by its description, and Debian as the control. Whatever is not absent is there."""
    (tmp_path / SNAP).mkdir(parents=True)
    for name in (RELEASE, KEYS, "venv", "commands/gpg", "commands/mmdebstrap", "commands/dockerd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / RELEASE).write_text(release)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "engine.sock"))
        for name in absent:
            path = tmp_path / name
            path.rmdir() if path.is_dir() else path.unlink()
        [function] = re.findall(r"^check_host\(\) \{.*?^\}$", INSTALL.read_text(), re.MULTILINE | re.DOTALL)
        [paths] = re.findall("^os_release=.*$", INSTALL.read_text(), re.MULTILINE)
        own_paths = paths.replace("=/", "=./")  # in the test's directory
        script = f"set -euo pipefail\n{CHECKED}\n{own_paths}\n{function}\ncheck_host mmdebstrap=mmdebstrap"
        done = subprocess.run(["bash", "-c", script, "bash", tmp_path], capture_output=True, text=True, timeout=60)
    assert expected in done.stdout, done.stdout + done.stderr
    assert (done.returncode == 0) == expected.startswith("Host"), done.stderr


@pytest.mark.parametrize(
    ("chosen", "installed", "expected"),
    [
        (None, ("docker-compose", "docker"), "docker-compose"),
        (None, ("docker",), "docker compose"),
        ("podman compose", ("docker-compose", "docker"), "podman compose"),
        (None, (), "apt-get install docker-compose (Debian) or docker-compose-v2 (Ubuntu)"),
    ],
)
def test_compose_is_the_program_of_the_distribution(
    chosen: str | None, installed: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    for name in ("docker-compose", "docker", "podman"):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {int(name not in ('podman', *installed))}\n")
        (tmp_path / name).chmod(0o700)
    text = INSTALL.read_text()
    [checks] = re.findall(r"^compose\(\) \{\n(.*?)^  deploy/setup.sh", text, re.MULTILINE | re.DOTALL)
    [line] = re.findall(r"^read -ra engine .*$", text, re.MULTILINE)
    reached = 'check_host() { :; }\ndie() { echo "$*"; exit 1; }'
    script = f'set -euo pipefail\n{reached}\n{line}\n{checks.replace("local", "declare")}\necho "${{engine[*]}}"'
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", **({} if chosen is None else {"COMPOSE": chosen})}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == (f"{expected}\n" if installed else f"docker compose does not run here: {expected}\n")
    assert (done.returncode == 0) == bool(installed)


SHARED = """
data=$1 blobs_group=nogroup
declare -A users=([worker]=nobody)
setting() { printf '%s\\n' "$data/sandboxes"; }
install() { mkdir -p "${@: -1}"; }  # the installation's users are not on this host
"""


def run_function(name: str, definitions: str, data: Path) -> None:
    """Run a function of the script in the directory of the data, with these definitions of what it uses."""
    [function] = re.findall(rf"^{name}\(\) \{{.*?^\}}$", INSTALL.read_text(), re.MULTILINE | re.DOTALL)
    script = f"set -euo pipefail\n{definitions}\n{function}\n{name}"
    subprocess.run(["bash", "-c", script, "bash", data], cwd=data, check=True, timeout=60)


def put_data(data: Path) -> None:
    """Run the function of the script, with users that every host has."""
    run_function("put_data", SHARED, data)


def test_files_of_an_earlier_version_are_shared_and_links_are_not_followed(home: Path) -> None:
    group = grp.getgrnam("nogroup").gr_gid
    secret = home / "secret"
    file = home / "blobs" / "artifacts" / "id" / "out.txt"
    for path in (secret, file):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    (file.parent / "link").symlink_to(secret)
    put_data(home)
    assert (file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (group, 0o660)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o2770
    assert (secret.stat().st_gid, stat.S_IMODE(secret.stat().st_mode)) == (os.getgid(), 0o600)


def test_leases_of_an_earlier_versions_worker_become_the_workers(home: Path) -> None:
    lease = home / "sandboxes" / "100000" / "inputs"
    lease.mkdir(parents=True)
    (lease / "link").symlink_to(home / "compose.env")
    put_data(home)
    uid = pwd.getpwnam("nobody").pw_uid
    assert {path.lstat().st_uid for path in (lease / "link", lease, lease.parent)} == {uid}
    assert (home / "compose.env").stat().st_uid == 0


RECORDING = """#!/bin/sh
[ "$*" != version ] || exit 0
echo "$*" >> "$0.calls"
case "$*" in *" up -d") [ -e "$0.network" ] || { touch "$0.network"; exit 1; } ;; esac
"""


@pytest.mark.parametrize("network_changed", [False, True])
def test_worker_ends_before_compose_replaces_the_engine_proxy(home: Path, network_changed: bool) -> None:
    """Where compose refuses to change a network, everything ends and starts anew."""
    for name in ("deploy/setup.sh", "deploy/prepare.sh", ".venv/bin/mayfly"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to("/bin/true")
    recording = home / "compose"
    recording.write_text(RECORDING)
    recording.chmod(0o700)
    if not network_changed:
        (home / "compose.network").touch()
    run_function("compose", "data=$1 engine=($1/compose)\nreport() { :; }\ncheck_host() { :; }", home)
    options = f"--env-file {home}/compose.env -f deploy/compose.yaml"
    anew = [f"{options} --profile metrics down --remove-orphans", f"{options} up -d"] if network_changed else []
    assert (home / "compose.calls").read_text().splitlines() == [f"{options} stop worker", f"{options} up -d", *anew]
