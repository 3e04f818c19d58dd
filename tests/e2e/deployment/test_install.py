"""deploy/install.sh with systemd: a real systemd as process 1 runs the units, and `uninstall` leaves nothing."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.builders.processes.booted import SYSTEMD, Booted
from tests.harness import bearer, eventually, free_port

pytestmark = [pytest.mark.timeout(1800), pytest.mark.complete]  # it makes a virtual environment
INSTALL = "deploy/install.sh"


class Installed:
    """Mayfly as systemd's services."""

    def __init__(self, host: Booted, images: Path) -> None:
        self.host, self.images, self.port = host, images, free_port()
        sandboxes = host.shared / "sandboxes"
        own = {
            "API_PORT": self.port,
            "SANDBOX_DIR": sandboxes,
            "INSTALLATION": host.group,
            "UID_FIRST": 100_000 + secrets.randbelow(1_000_000_000),
            "CGROUP_ROOT": "/run/cgroup",
            "METRICS_PORT": 0,
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

    def pids(self) -> dict[str, int]:
        names = ("redis", "api", "worker", "broker")
        show = ("systemctl", "show", "--property=MainPID", "--value")
        return {name: int(self.host(*show, f"mayfly-{name}")) for name in names}

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


@pytest.fixture(scope="module")
def host() -> Iterator[Booted]:
    if os.geteuid() != 0 or not SYSTEMD.exists():
        pytest.skip("needs root and systemd's package")
    made = Booted()
    yield made
    made.close()


@pytest.fixture(scope="module")
def installed(host: Booted, engine: None, images: Path) -> Iterator[Installed]:
    made = Installed(host, images)
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
    assert users["api"] == users["worker"] != 0
    assert len({users["api"], users["broker"], users["redis"]}) == 3


def test_secrets_are_their_readers_alone(installed: Installed) -> None:
    root = installed.host.directory / "upper"
    files = [path for path in (root / "etc" / "mayfly").rglob("*") if path.is_file() and path.suffix != ".env"]
    assert len(files) > 10
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    for name, others in (("api", ("broker", "worker", "redis")), ("broker", ("api", "worker", "redis"))):
        pid = str(installed.pids()[name])
        for other in others:
            seen = installed.host.run("nsenter", "--target", pid, "--mount", "ls", f"/etc/mayfly/{other}")
            assert seen == "", (name, other)


def test_killed_service_is_started_again_and_loses_nothing(installed: Installed) -> None:
    for name in ("redis", "api", "worker", "broker"):
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
        return {str(path): (path.stat().st_mode, path.read_bytes()) for path in places if path.is_file()}

    before, pids = state(), installed.pids()
    assert "unchanged" in installed.install()
    assert (state(), installed.pids()) == (before, pids)


def test_uninstall_leaves_nothing(installed: Installed) -> None:
    host = installed.host
    assert {"etc/mayfly", "opt/mayfly", "var/lib/mayfly", "etc/passwd"} <= set(host.left()), "the control"
    printed = host(INSTALL, "uninstall")
    assert "Removed" in printed
    assert host.left() == []
    links = ("find", "/etc/systemd/system", "-name", "*mayfly*", "-o", "-lname", "*mayfly*")
    assert host(*links) == "", "nothing is enabled"
    units = host("systemctl", "list-units", "--all", "--plain", "--no-legend", "mayfly*")
    assert units == ""
    assert json.loads(host("sh", "-c", "ls -d /run/mayfly* 2>/dev/null | wc -l")) == 0
    assert host(INSTALL, "uninstall"), "a second one is no failure"
