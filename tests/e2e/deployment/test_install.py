"""deploy/install.sh with systemd: a real systemd as process 1 runs the units, and `uninstall` leaves nothing."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.backup.encryption import write_identity
from tests.builders.processes.booted import SYSTEMD, Booted
from tests.e2e.deployment.releases import KEYRING, KEYRING_OF_PACKAGE, dress_as_ubuntu, make_root, paths
from tests.harness import bearer, eventually, free_port

pytestmark = [pytest.mark.timeout(3600), pytest.mark.complete]  # they make virtual environments
INSTALL = "deploy/install.sh"
SERVICES = ("redis", "api", "engine-proxy", "worker", "broker")
# Behind the commands of docs/operations/upgrade.md: the layout of the installers before the one with a user for each
# unit. API and worker are one user, which has all data, and the worker has the engine's socket.
EARLIER = r"""
set -eu
sandboxes=$1
cd /etc/systemd/system
systemctl stop 'mayfly-*'
sed -i -e 's/^SupplementaryGroups=.*/SupplementaryGroups=mayfly-redis/' -e 's/^UMask=.*/UMask=0077/' mayfly-api.service
sed -i -e 's/^SupplementaryGroups=.*/SupplementaryGroups=mayfly-redis/' -e 's/^UMask=.*/UMask=0022/' \
  -e 's/^\(User\|Group\)=.*/\1=mayfly/' -e '/^Environment=MAYFLY_ENGINE_PROXY/d' \
  -e 's/ mayfly-engine-proxy.service//; s/ -\/run\/docker.sock//' mayfly-worker.service
code=$(sed -n 's/^WorkingDirectory=//p' mayfly-api.service)
sed -i "s|/opt/mayfly/redis.sh|$code/deploy/service_image/redis.sh|" mayfly-redis.service
printf '[Service]\nEnvironment=MAYFLY_DOCKER_URL=unix:///run/docker.sock\nSupplementaryGroups=%s\nReadWritePaths=%s\n' \
  "$(stat -c %G /run/docker.sock)" "$sandboxes" > mayfly-worker.service.d/host.conf
rm -r mayfly-api.service.d mayfly-broker.service.d mayfly-redis.service.d
rm -r /etc/mayfly/engine-proxy /opt/mayfly/redis.sh
chown -R mayfly:mayfly /etc/mayfly/worker
chmod -R u=rwX,go= /var/lib/mayfly/blobs
find /var/lib/mayfly/blobs -type d -exec chmod g-s {} +
userdel mayfly-worker
userdel mayfly-engine
groupdel mayfly-blobs
systemctl daemon-reload
systemctl start mayfly.target mayfly-redis mayfly-api mayfly-worker mayfly-broker
"""
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


class Installed:
    """Mayfly as systemd's services."""

    def __init__(self, host: Booted, images: Path) -> None:
        self.host, self.images, self.port = host, images, free_port()
        self.before = set(host.left())  # a root of another release is changed by its first boot
        sandboxes = host.shared / "sandboxes"
        own = {
            "API_PORT": self.port,
            "SANDBOX_DIR": sandboxes,
            "INSTALLATION": host.group,
            "UID_FIRST": 100_000 + secrets.randbelow(1_000_000_000),
            "CGROUP_ROOT": "/run/cgroup",
            "METRICS_PORT": 0,
            "ENGINE_METRICS_PORT": 0,
            "TOOL_METRICS_PORT": 0,
            "POOL_SIZE": 0,
            "POOL_SIZES": '{"python":1}',
            "RATE_LIMIT": "1000/second",
        }
        # The settings that an operator has edited; the installer keeps them.
        lines = (Path("deploy/systemd/mayfly.env")).read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0].removeprefix("MAYFLY_") not in own]
        text = "\n".join([*kept, *(f"MAYFLY_{name}={value}" for name, value in own.items())])
        host("install", "-D", "-m", "644", "/dev/null", "/etc/mayfly/mayfly.env")
        host("sh", "-c", 'printf "%s\n" "$0" > /etc/mayfly/mayfly.env', text)
        self.printed = self.install()
        key = host("cat", "/etc/mayfly/api/admin-key").strip()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers=bearer(key), timeout=90)

    def install(self) -> str:
        return self.host(INSTALL, env={"IMAGES": str(self.images)})

    def go_back(self) -> None:
        """Type the commands of docs/operations/upgrade.md, and take the layout of earlier installers."""
        sandboxes = str(self.host.shared / "sandboxes")
        text = Path("docs/operations/upgrade.md").read_text().partition("**With systemd**")[2]
        text = text.partition("with the directories")[0]
        typed = "\n".join(re.findall("^    (.+)$", text, re.MULTILINE)).replace("/var/lib/mayfly/sandboxes", sandboxes)
        self.host("bash", "-euc", typed)
        self.host("sh", "-c", EARLIER, "sh", sandboxes)

    def backup(self, *words: str) -> str:
        """Type the command of docs/operations/backup.md, ``create`` or another."""
        text = Path("docs/operations/backup.md").read_text().partition("## Under systemd")[2]
        (command,) = re.findall(r"^    (env (?:.*\\\n)*.*)$", text, re.MULTILINE)
        return self.host("bash", "-c", command.replace(" create", f" {' '.join(words)}"))

    def pids(self) -> dict[str, int]:
        show = ("systemctl", "show", "--property=MainPID", "--value")
        return {name: int(self.host(*show, f"mayfly-{name}")) for name in SERVICES}

    def restarted(self, printed: str, before: dict[str, int]) -> set[str]:
        """The services that the installer restarted, as it says."""
        assert "Code      unchanged" in printed, "the checkout changed during the test, which restarts the services"
        after = self.pids()
        found = {name for name in SERVICES if after[name] != before[name]}
        (line,) = [line.split()[1:] for line in printed.splitlines() if line.startswith("Restarted ")]
        assert found == {word.removeprefix("mayfly-") for word in line} - {"nothing"}, printed
        return found

    def succeeds(self, service: str, *command: str, walls: bool = True) -> bool:
        """Whether a command does, with user and groups of a service, and with ``walls`` with its view of the files."""
        pid = self.pids()[service]
        status = Path(f"/proc/{self.host.pid}/root/proc/{pid}/status").read_text()
        values = dict(line.split(":", 1) for line in status.splitlines())
        uid, gid, groups = values["Uid"].split()[0], values["Gid"].split()[0], values["Groups"].split()
        ids = ("setpriv", f"--reuid={uid}", f"--regid={gid}", f"--groups={','.join([gid, *groups])}")
        view = ("nsenter", f"--target={pid}", "--mount") if walls else ()
        return self.host.enter(*view, *ids, *command).returncode == 0

    def run(self, code: str, wait: int = 60) -> dict[str, Any]:
        body = {"environment": "python", "code": code, "limits": {"wall_seconds": 60}}
        answer = self.client.post("/api/v1/executions", json=body, headers={"Prefer": f"wait={wait}"} if wait else {})
        assert answer.status_code in (200, 202), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, id: str) -> dict[str, Any]:
        def end() -> dict[str, Any] | None:
            found: dict[str, Any] = self.client.get(f"/api/v1/executions/{id}", params={"wait": 30}).json()
            return found if found["finished_at"] else None

        return eventually(end, f"{id} ends", 120)


@pytest.fixture(scope="module", params=["host", "trixie", "ubuntu"])
def host(request: pytest.FixtureRequest) -> Iterator[Booted]:
    """This host; the next release of Debian, which has later versions of systemd, Python and Redis; the same release
    described as an Ubuntu.
    """
    if os.geteuid() != 0 or not SYSTEMD.exists():
        pytest.skip("needs root and systemd's package")
    if request.param == "host":
        made = Booted()
        yield made
        made.close()
        return
    with tempfile.TemporaryDirectory(prefix="mayfly-root-", dir="/srv") as directory:
        root = make_root("trixie", Path(directory) / "root")
        if request.param == "ubuntu":
            dress_as_ubuntu(root)
        made = Booted(root, *paths())
        yield made
        made.close()


@pytest.fixture(scope="module")
def installed(host: Booted, engine: None, images: Path) -> Iterator[Installed]:
    foreign = host.lower != Path("/")
    described_as_ubuntu = Path(host.lower, KEYRING_OF_PACKAGE).exists()
    if described_as_ubuntu:
        refused = host.enter(INSTALL)
        assert "Host      ubuntu 24.04, on which not all of this was tested" in refused.stdout
        assert refused.returncode != 0
        assert "apt-get install --no-install-recommends debian-archive-keyring\n" in refused.stderr, refused.stderr
        host("cp", f"/{KEYRING_OF_PACKAGE}", f"/{KEYRING}")
    if foreign:  # the engine is this host's, and its group has no name there
        refused = host.enter(INSTALL)
        command = re.search(
            r"has no name here, and systemd needs one: (groupadd --gid \d+ docker)$", refused.stderr, re.M
        )
        assert refused.returncode != 0
        assert command, refused.stderr
        host(*command[1].split())
    made = Installed(host, host.shared / "images" if foreign else images)  # of its own packages
    if described_as_ubuntu:
        versions = host("python3", "--version"), made.run("import platform; print('Python', platform.python_version())")
        assert versions[0].startswith("Python 3.13.")
        assert versions[1]["stdout"].startswith("Python 3.11."), "images are made of Debian 12"
    yield made
    made.client.close()


def test_services_run_an_execution_behind_their_walls(installed: Installed) -> None:
    assert "Units     mayfly.target" in installed.printed
    ended = installed.run("print(6 * 7)")
    assert (ended["state"], ended["stdout"]) == ("succeeded", "42\n")
    ready = installed.client.get("/readyz").json()
    assert "confinement" not in ready["details"], "nothing of the expected hardening is lacking"
    assert installed.host.journal().count('"confinement.complete"') >= 1
    users = {
        name: Path(f"/proc/{installed.host.pid}/root/proc/{pid}").stat().st_uid
        for name, pid in installed.pids().items()
    }
    assert 0 not in users.values()
    assert len(set(users.values())) == len(SERVICES)


def test_api_reaches_neither_worker_nor_engine(installed: Installed) -> None:
    """By the kernel's rules for ``ptrace``, and by the rights of the sockets. The services are their own controls."""
    memory = ("head", "-c", "1", f"/proc/{installed.pids()['worker']}/environ")
    assert [name for name in SERVICES if installed.succeeds(name, *memory, walls=False)] == ["worker"]
    reached = {
        (service, socket.split("/")[2])
        for service in SERVICES
        for socket in ("/run/docker.sock", "/run/mayfly-engine/engine.sock", "/run/mayfly-redis/redis.sock")
        if installed.succeeds(service, "python3", "-c", CONNECT, socket)
    }
    proxied, redis = "mayfly-engine", "mayfly-redis"
    assert reached == {
        ("engine-proxy", "docker.sock"), ("engine-proxy", proxied), ("worker", proxied),
        *((service, redis) for service in SERVICES),
    }  # fmt: skip


def test_api_and_worker_share_blobs_by_their_group(installed: Installed) -> None:
    """Inputs from the API, artifacts from the worker, and their end by the API."""
    blob = installed.client.put("/api/v1/blobs", content=b"shared").json()["blob"]
    body = {
        "environment": "python",
        "code": "open('/output/out.txt', 'w').write(open('in.txt').read() * 2); print('x' * 300_000)",
        "files": [{"path": "in.txt", "blob": blob}],
    }
    answer = installed.client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
    ended = installed.ended(answer["id"])
    assert ended["state"] == "succeeded", ended
    place = f"/api/v1/executions/{answer['id']}"
    assert installed.client.get(f"{place}/artifacts/out.txt").content == b"sharedshared"
    assert installed.client.get(f"{place}/stdout").content == b"x" * 300_000 + b"\n"
    blobs = installed.host.directory / "upper" / "var" / "lib" / "mayfly" / "blobs"
    assert {stat.S_IMODE(path.stat().st_mode) for path in blobs.rglob("*") if path.is_file()} == {0o660}
    assert stat.S_IMODE(blobs.stat().st_mode) == 0o2770
    assert installed.client.delete(place).status_code in (200, 204)
    eventually(
        lambda: not list((blobs / "artifacts").glob(answer["id"])), "the API removes what the worker stored", 120
    )


def test_secrets_are_their_readers_alone(installed: Installed) -> None:
    root = installed.host.directory / "upper"
    files = [path for path in (root / "etc" / "mayfly").rglob("*") if path.is_file() and path.suffix != ".env"]
    assert len(files) > 10
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    for name in SERVICES:
        listing = ("nsenter", "--target", str(installed.pids()[name]), "--mount", "ls")
        assert installed.host(*listing, f"/etc/mayfly/{name}"), "the control: its own are seen"
        for other in set(SERVICES) - {name}:
            assert installed.host.run(*listing, f"/etc/mayfly/{other}") == "", (name, other)


def test_killed_service_is_started_again_and_loses_nothing(installed: Installed) -> None:
    for name in SERVICES:
        before = installed.pids()[name]
        ids = [installed.run(f"print({number})", wait=0)["id"] for number in range(3)]
        installed.host("kill", "-9", str(before))
        eventually(lambda: installed.pids()[name] not in (0, before), f"{name} is started again", 60)  # noqa: B023
        eventually(answering(installed), "the services are ready again", 120)
        assert [installed.ended(id)["stdout"] for id in ids] == ["0\n", "1\n", "2\n"]


def answering(installed: Installed) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            return installed.client.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    return answers


def test_drained_and_stopped_worker_loses_nothing(installed: Installed) -> None:
    running = installed.run("import time; time.sleep(5); print('done')", wait=0)["id"]
    place = f"/api/v1/executions/{running}"
    eventually(lambda: installed.client.get(place).json()["state"] == "running", "the execution runs", 120)
    (worker,) = installed.client.get("/api/v1/workers").json()["items"]
    assert installed.client.post(f"/api/v1/workers/{worker['id']}/drain").status_code == 202

    def draining() -> bool:
        return [one["draining"] for one in installed.client.get("/api/v1/workers").json()["items"]] == [True]

    eventually(draining, "the worker drains")
    queued = installed.run("print('later')", wait=0)["id"]
    installed.host("systemctl", "stop", "mayfly-worker")
    ended = installed.client.get(place).json()
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "done\n", 1)
    assert installed.client.get(f"/api/v1/executions/{queued}").json()["state"] == "queued"
    installed.host("systemctl", "start", "mayfly-worker")
    assert installed.ended(queued)["stdout"] == "later\n"


def test_second_run_changes_and_restarts_nothing(installed: Installed) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        root = installed.host.directory / "upper" / "etc"
        places = [*(root / "mayfly").rglob("*"), *(root / "systemd" / "system").rglob("*")]
        files = [path for path in places if path.is_file() and path.name != "doctor.txt"]  # the report of each run
        return {str(path): (path.stat().st_mode, path.read_bytes()) for path in files}

    before, pids = state(), installed.pids()
    printed = installed.install()
    assert "unchanged" in printed
    assert (state(), installed.restarted(printed, pids)) == (before, set())


def test_later_run_restarts_readers_of_changed_files(installed: Installed) -> None:
    """Also a change by the operator, unless the services have started since; and not the others."""
    host, pids = installed.host, installed.pids()
    host("sh", "-c", "echo MAYFLY_LOG_LEVEL=info >> /etc/mayfly/mayfly.env")
    assert installed.restarted(installed.install(), pids) == set(SERVICES) - {"redis"}
    host("rm", "/etc/mayfly/secrets/redis-broker")  # the installer makes a new password
    pids = installed.pids()
    assert installed.restarted(installed.install(), pids) == {"redis", "broker"}
    host("sh", "-c", "echo >> /etc/mayfly/redis.env")
    host("systemctl", "restart", "mayfly-redis")
    pids = installed.pids()
    assert installed.restarted(installed.install(), pids) == set(), "its operator was there before"
    # As after an interrupted installation: a unit that systemd has not read, and a start by the one before.
    host("touch", "/etc/systemd/system/mayfly-broker.service")
    host("systemctl", "restart", "mayfly-broker")
    pids = installed.pids()
    assert installed.restarted(installed.install(), pids) == {"broker"}
    assert installed.run("print(6 * 7)")["stdout"] == "42\n"


def test_layout_with_one_user_is_upgraded_to_a_user_for_each_service(installed: Installed) -> None:
    """With what the one user has stored, a queued execution, and backups. ``Installed.succeeds`` without walls asks for
    the files' own rights.
    """
    host = installed.host
    identity = installed.host.shared / "identity.txt"
    recipients = json.dumps([write_identity(identity)])
    target = "/var/backups/mayfly"
    settings = f"MAYFLY_BACKUP_RECIPIENTS={recipients}\nMAYFLY_BACKUP_TARGET={target}"
    host("sh", "-c", 'printf "%s\n" "$0" >> /etc/mayfly/mayfly.env', settings)
    installed.go_back()
    eventually(answering(installed), "the services of before are ready", 120)

    def user(name: str) -> int:
        return Path(f"/proc/{host.pid}/root/proc/{installed.pids()[name]}").stat().st_uid

    assert user("api") == user("worker"), "the control: one user"
    blob = installed.client.put("/api/v1/blobs", content=b"earlier").json()["blob"]
    body = {
        "environment": "python",
        "code": "open('/output/out.txt', 'w').write(open('in.txt').read() * 2); print('x' * 300_000)",
        "files": [{"path": "in.txt", "blob": blob}],
    }
    ids = []
    for running in (True, False):  # the second one is queued by the upgrade
        host("systemctl", "start" if running else "stop", "mayfly-worker")
        answer = installed.client.post("/api/v1/executions", json=body)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
        if running:
            assert installed.ended(ids[0])["state"] == "succeeded"
    blobs = host.directory / "upper" / "var" / "lib" / "mayfly" / "blobs"
    stored = {path for path in blobs.rglob("*") if path.is_file()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in stored} == {0o600}, "the control: no group reads them"
    installed.backup("create")

    installed.install()
    assert len({user(name) for name in SERVICES}) == len(SERVICES)
    assert "confinement" not in installed.client.get("/readyz").json()["details"]
    for id in ids:
        assert installed.ended(id)["state"] == "succeeded"
        place = f"/api/v1/executions/{id}"
        assert installed.client.get(f"{place}/artifacts/out.txt").content == b"earlierearlier"
        assert installed.client.get(f"{place}/stdout").content == b"x" * 300_000 + b"\n"

    def readers(path: str) -> set[str]:
        reading = ("sh", "-c", 'cat "$0" > /dev/null', path)
        return {name for name in SERVICES if installed.succeeds(name, *reading, walls=False)}

    installed.backup("create")
    found = host("find", target, "/var/lib/mayfly/redis", "/var/lib/mayfly/state", "-type", "f").splitlines()
    owners = {target: set(), "/var/lib/mayfly/redis": {"redis"}, "/var/lib/mayfly/state": {"api"}}
    for place, expected in owners.items():
        files = [path for path in found if path.startswith(f"{place}/")]
        assert files, place
        assert {name for path in files for name in readers(path)} <= expected, place
    for path in stored:
        inside = "/" + str(path.relative_to(host.directory / "upper"))
        assert readers(inside) == {"api", "worker"}, inside
    for name in SERVICES:
        for secret in host("find", f"/etc/mayfly/{name}", "-type", "f").splitlines():
            assert readers(secret) == {name}, secret
    assert installed.backup("verify", "--identity", str(identity)), "the backup of after"
    assert installed.client.delete(f"/api/v1/executions/{ids[0]}").status_code in (200, 204)
    eventually(lambda: not list((blobs / "artifacts").glob(ids[0])), "the API removes what the one user stored", 120)
    host("rm", "-r", target, str(identity))


def test_uninstall_leaves_nothing(installed: Installed) -> None:
    host = installed.host
    assert {"etc/mayfly", "opt/mayfly", "var/lib/mayfly", "etc/passwd"} <= set(host.left()), "the control"
    printed = host(INSTALL, "uninstall")
    assert "Removed" in printed
    assert sorted(set(host.left()) - installed.before) == []
    links = ("find", "/etc/systemd/system", "-name", "*mayfly*", "-o", "-lname", "*mayfly*")
    assert host(*links) == "", "nothing is enabled"
    units = host("systemctl", "list-units", "--all", "--plain", "--no-legend", "mayfly*")
    assert units == ""
    assert json.loads(host("sh", "-c", "ls -d /run/mayfly* 2>/dev/null | wc -l")) == 0
    assert host(INSTALL, "uninstall"), "a second one is no failure"
