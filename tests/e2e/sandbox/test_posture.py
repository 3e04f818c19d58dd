"""A real worker refuses a host that cannot keep a promise, and ``mayfly doctor --security`` reports the finding."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from orchestrator.settings import create_secret_file
from tests.builders.processes.installed import Installation, installed
from tests.harness import ROOT, Process, RedisServer, Stack, eventually, free_uids

REFUSED = os.EX_CONFIG
BEATS = {"MAYFLY_LEASE_SECONDS": "1"}


@pytest.fixture
def host(engine: None, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an installation with Redis and secrets, of which nothing else runs."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    create_secret_file(state / "secret")
    create_secret_file(state / "api-key", "mfk_")
    redis = RedisServer(tmp_path)
    redis.start()
    yield {
        "MAYFLY_STATE_DIR": str(state),
        "MAYFLY_REDIS_URL": redis.url,
        "MAYFLY_UID_FIRST": str(free_uids()),
    }
    redis.stop()


def doctor(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", "doctor", "--security", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=280, check=False
    )


def findings(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    done = doctor(env, "--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == int(any(finding["status"] == "broken" for finding in found.values())), done.stdout
    return found


def test_doctor_finds_this_host_able(host: dict[str, str]) -> None:
    found = findings(host)
    assert {name: finding["detail"] for name, finding in found.items() if finding["status"] == "broken"} == {}
    assert {"kernel", "engine", "runc", "cgroups", "seccomp", "core_pattern", "signing key", "redis listeners"} <= set(
        found
    )
    assert all(finding["remedy"] for finding in found.values() if finding["status"] == "weak")


def test_doctor_names_world_readable_secret(host: dict[str, str]) -> None:
    secret = Path(host["MAYFLY_STATE_DIR"]) / "secret"
    secret.chmod(0o644)
    done = doctor(host)
    assert done.returncode == 1
    assert f"{secret}, mode 644: others can read it" in done.stdout and f"chmod 600 {secret}" in done.stdout
    secret.chmod(0o600)
    assert doctor(host).returncode == 0


def test_doctor_shows_free_space_and_redis_bounds(host: dict[str, str]) -> None:
    found = findings(host)
    assert {found[f"disk of {name}"]["status"] for name in ("state", "blobs", "inputs")} == {"ok"}
    assert "no maxmemory" in found["redis memory"]["detail"]
    full = findings({**host, "MAYFLY_DISK_FREE_BYTES": str(10**18)})["disk of blobs"]
    assert (full["status"], "MAYFLY_DISK_FREE_BYTES" in full["detail"]) == ("weak", True)
    done = doctor({**host, "MAYFLY_REDIS_URL": "redis+sentinel://host"})
    assert "redis+sentinel://host:26379,host:26379/name" in done.stdout


def test_worker_refuses_world_readable_signing_key(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    secret = stack.directory / "state" / "secret"
    secret.chmod(0o644)
    worker = stack.start_worker()
    assert worker.popen.wait(180) == REFUSED
    printed = worker.log.read_text()
    assert "signing key" in printed and f"remedy: chmod 600 {secret}" in printed and "--accept-weaker" in printed
    assert stack.fleet() == []


def test_worker_started_despite_a_failed_check_reports_the_finding(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    (stack.directory / "state" / "secret").chmod(0o644)
    env = {**stack.env, "MAYFLY_METRICS_PORT": "0"}
    command = [sys.executable, "-m", "worker", "--accept-weaker"]
    stack.workers.append(Process(command, env, stack.directory / "worker-0.log"))
    stack.ready()
    (worker,) = stack.fleet()
    assert worker["weaker"] == ["signing key"]
    assert stack.run(code="print(1)")["state"] == "succeeded"
    (reported,) = security_events(stack)
    assert reported["source"] == f"/mayfly/worker/{worker['id']}" and "tenant" not in reported
    event = reported["data"]
    assert event["findings"] == ["signing key"] and event["attribution"] == "host" and "chmod 600" in event["detail"]


def test_worker_of_an_able_host_reports_no_finding(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    assert [worker["weaker"] for worker in stack.fleet()] == [[]]
    assert security_events(stack) == []


def test_engine_checks_run_when_the_engine_answers(own_stack: Callable[..., Stack], images: Path) -> None:
    stack = own_stack(uid_count=100).start(workers=0)
    path = stack.directory / "engine.sock"
    worker = stack.start_worker(MAYFLY_DOCKER_URL=f"unix://{path}", **BEATS)
    eventually(lambda: [w["engine"] for w in stack.fleet()] == ["unavailable"], "the worker waits for its engine")
    assert stack.submit(environment="python", code="print(1)").status_code == 202
    with neighbour(images, int(stack.env["MAYFLY_UID_FIRST"]) + 5) as other:
        path.symlink_to("/var/run/docker.sock")
        assert worker.popen.wait(180) == REFUSED
        assert "neighbours" in worker.log.read_text() and other in worker.log.read_text()
        assert stack.start_worker().popen.wait(180) == REFUSED  # as one whose engine is there from the start
        assert stack.containers() == []
        found = findings({**stack.env, "MAYFLY_DOCKER_URL": f"unix://{path}"})
        assert found["neighbours"]["status"] == "broken"
    assert findings(stack.env)["neighbours"]["status"] == "ok"


def test_up_ends_at_once_where_the_worker_refuses(images: Path) -> None:
    with installed(images) as made:
        create_secret_file(made.state / "secret")
        (made.state / "secret").chmod(0o644)
        begun = time.monotonic()
        done = made.mayfly("up", "--no-sample")
        assert done.returncode != 0
        assert b"signing key" in done.stderr and b"chmod 600" in done.stderr
        assert time.monotonic() - begun < 150  # and not after the three minutes that being ready may take
        assert made.mayfly("up", "--no-sample", MAYFLY_ACCEPT_WEAKER="true").returncode == 0
        assert accepted(made) == [["signing key"]]


def accepted(made: Installation) -> list[list[str]]:
    with made.client() as client:
        return [worker["weaker"] for worker in client.document("workers")["items"]]


def security_events(stack: Stack) -> list[dict[str, Any]]:
    """The security events of this kind, as an operator reads them."""
    response = stack.client.get("/api/v1/security-events", params={"type": "runtime_degraded"})
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


@contextmanager
def neighbour(images: Path, uid: int) -> Iterator[str]:
    """A container that another installation runs under a uid."""
    api = docker.APIClient()
    name = f"test-{secrets.token_hex(6)}"
    try:
        config = {
            "Image": json.loads((images / "python.json").read_text())["image_id"],
            "Entrypoint": ["/usr/bin/python3", "-c", "import time; time.sleep(600)"],
            "User": f"{uid}:{uid}",
            "Labels": {"dev.mayfly.installation": name, "dev.mayfly.uid": str(uid)},
            "HostConfig": {"NetworkMode": "none"},
        }
        api.create_container_from_config(config, name)
        api.start(name)
        yield name
    finally:
        api.remove_container(name, force=True)
        api.close()
