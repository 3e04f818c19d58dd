"""A worker host beside an installation of compose: a network namespace that reaches its published ports."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders.processes.deployment import Deployment, command
from tests.builders.processes.hosts import Host
from tests.harness import Process, eventually, free_port, free_uids, share_unpacked

pytestmark = [pytest.mark.complete, pytest.mark.timeout(1500)]
LARGE = secrets.token_bytes(3 * 2**20)
PROGRAM = """
open("/output/out.bin", "wb").write(open("in.bin", "rb").read()[::-1])
print("x" * 200_000)
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.getuid() != 0:
        pytest.skip("deploy/prepare.sh needs root")
    directory = tmp_path / "second"
    directory.mkdir()
    made = Host(f"mf{secrets.token_hex(3)}", directory)
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def deployment(host: Host, images: Path, tmp_path: Path) -> Iterator[Deployment]:
    """Without a worker of its own."""
    made = Deployment(tmp_path / "home", images)
    made.prepare(NAMES=f"localhost 127.0.0.1 {host.address}")
    made.configure()
    settings = made.home / "compose.env"
    published = settings.read_text().replace(f"PUBLISH=127.0.0.1:{made.port}", f"PUBLISH=0.0.0.0:{made.port}")
    settings.write_text(f"{published}MAYFLY_PUBLISH_REDIS={host.address}:{free_port()}\n")
    (made.home / "images").symlink_to(images)
    try:
        command(*made.with_hosts, "up", "-d", "--scale", "worker=0")
        eventually(lambda: made.healthy(workers=0), "every service is healthy", 240)
        yield made
    except BaseException:
        sys.stdout.write(made.logs())
        raise
    finally:
        command(*made.with_hosts, "down", "-v")
    assert made.left() == []


def pack(deployment: Deployment, host: Host, file: Path) -> None:
    (redis,) = (
        line.partition("=")[2]
        for line in (deployment.home / "compose.env").read_text().splitlines()
        if line.startswith("MAYFLY_PUBLISH_REDIS=")
    )
    key = (deployment.home / "secrets" / "admin-key").read_text().strip()
    env = {
        "MAYFLY_URL": f"https://127.0.0.1:{deployment.port}",
        "MAYFLY_TOKEN": key,
        "SSL_CERT_FILE": str(deployment.home / "tls" / "ca.crt"),
    }
    words = ["--redis", f"rediss://worker@{redis}/0", "--api", f"https://{host.address}:{deployment.port}"]
    words += ["--home", str(deployment.home), "--environment", "python", "--driver", "oci"]
    mayfly = (sys.executable, "-m", "orchestrator.cli", "host", "pack", str(file), "--name", "second")
    command("env", *(f"{name}={value}" for name, value in env.items()), *mayfly, *words)


def test_worker_host_runs_executions_of_compose(
    deployment: Deployment, host: Host, only_python: list[str], need_runtime: Callable[..., None], tmp_path: Path
) -> None:
    need_runtime("crun", "oci")
    state, file = host.directory / "state", tmp_path / "new-host.tar"
    pack(deployment, host, file)
    share_unpacked(state / "oci")
    env = {
        "MAYFLY_STATE_DIR": str(state), "MAYFLY_SANDBOX_DIR": str(state / "sandboxes"), "MAYFLY_METRICS_PORT": "0",
        "MAYFLY_INSTALLATION": deployment.name, "MAYFLY_UID_FIRST": str(free_uids()), "MAYFLY_SLOTS": "1",
        "MAYFLY_ENVIRONMENTS_DIRS": json.dumps(only_python),
        "MAYFLY_ACCEPT_WEAKER": "true", "MAYFLY_POOL_SIZE": "0", "MAYFLY_POOL_SIZES": "{}",
    }  # fmt: skip
    mayfly = [*host.inside, sys.executable, "-m", "orchestrator.cli", "host", "run", str(file)]
    worker = Process(mayfly, env, host.directory / "worker.log")
    try:
        with deployment.client() as client:

            def is_registered() -> bool:
                assert worker.popen.poll() is None, worker.log.read_text()[-2000:]
                return client.get("/readyz").status_code == 200

            eventually(is_registered, "the worker of the second host takes executions", 120)
            blob = client.put("/api/v1/blobs", content=LARGE).json()["blob"]
            files = [{"path": "main.py", "content": PROGRAM}, {"path": "in.bin", "blob": blob}]
            body = {"environment": "python", "files": files, "entrypoint": "main.py"}
            id = client.post("/api/v1/executions", json=body).raise_for_status().json()["id"]
            place = f"/api/v1/executions/{id}"
            ended = eventually(
                lambda: (one := client.get(place, params={"wait": 30}).json())["finished_at"] and one,
                "the execution ends",
                240,
            )
            assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
            assert client.get(f"{place}/stdout").content == b"x" * 200_000 + b"\n"
            (artifact,) = ended["artifacts"]
            assert artifact["sha256"] == hashlib.sha256(LARGE[::-1]).hexdigest()
            assert client.get(f"{place}/artifacts/out.bin").content == LARGE[::-1]
        assert deployment("exec", "-T", "redis", "mayfly-redis", "refused").strip() == "", "a command was refused"
        assert worker.stop() == 0
    finally:
        if worker.popen.poll() is None:
            worker.stop()
