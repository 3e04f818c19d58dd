"""Two worker hosts with a network each between them and Redis, and a cut in one that is longer than a lease.

A host is a network namespace with a state directory of its own, so neither worker's reaper sees what the other one has.
"""

from __future__ import annotations

import glob
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.processes.hosts import Host
from tests.chaos.invariants import Accepted, left_on_host, violations
from tests.harness import ROOT, Process, RedisServer, Stack, eventually, free_port

CARELESS = "from tests.chaos.installations.weaker import without_watch; without_watch()"
PROGRAM = "import time; print('begun', flush=True); time.sleep({seconds}); print('done')"


class WorkerHost(Host):
    """A host with a worker."""

    def start(self, stack: Stack, port: int, weaker: str) -> None:
        """A worker on it, which does something else first, also when it has executed itself again."""
        state = self.directory / "state"
        (self.directory / "sitecustomize.py").write_text(weaker)
        env = {
            "PYTHONPATH": f"{self.directory}:{ROOT}",
            "MAYFLY_REDIS_URL": f"redis://{self.address}:{port}", "MAYFLY_METRICS_PORT": "0",
            "MAYFLY_OCI_DIR": str(state / "oci"), "MAYFLY_SANDBOX_DIR": str(state / "sandboxes"),
        }  # fmt: skip
        self.process = Process(
            [*self.inside, sys.executable, "-m", "worker"],
            {**stack.env, **env},
            stack.directory / f"worker-{self.name}.log",
        )
        stack.workers.append(self.process)

    def containers(self) -> list[Path]:
        return [Path(path) for path in glob.glob(f"{self.directory}/state/oci/bundles/*/*")]

    def log(self) -> str:
        return self.process.log.read_text(encoding="utf-8")


@pytest.fixture
def hosts(tmp_path: Path, missing: Callable[[str], None]) -> Iterator[tuple[WorkerHost, WorkerHost]]:
    if shutil.which("ip") is None:
        missing("there is no ip (iproute2)")
    made = []
    token = secrets.token_hex(3)
    for letter in "ab":
        directory = tmp_path / letter
        directory.mkdir()
        made.append(WorkerHost(f"mf{token}{letter}", directory))
    yield made[0], made[1]
    for host in made:
        host.remove()


@pytest.fixture
def stack(hosts: tuple[WorkerHost, WorkerHost], own_stack: Callable[..., Stack], tmp_path: Path) -> Iterator[Stack]:
    """With a Redis that both hosts reach, on the port that it names."""
    only_python = tmp_path / "environments"
    only_python.mkdir()
    shutil.copy(ROOT / "sandbox_image" / "environments" / "python.toml", only_python)
    made = own_stack(
        driver="oci", environments_dirs=[str(only_python)], slots=1, spare_slots=0, lease_seconds=2, accept_weaker=True,
        pool_sizes={}, retry_seconds=0.1,
    )  # fmt: skip
    port, addresses = free_port(), [host.address for host in hosts]
    options = ("--port", str(port), "--protected-mode", "no", "--bind", *addresses)
    made.redis = RedisServer(made.directory, *options)
    yield made.start(workers=0)
    for host in hosts:
        host.heal()  # so that the worker can deregister


def port_of(stack: Stack) -> int:
    with stack.redis.client() as redis:
        return int(redis.config_get("port")["port"])


def has(stack: Stack, host: WorkerHost, id: str) -> bool:
    return any(f"-{host.process.pid}-" in worker["id"] and id in worker["executions"] for worker in stack.fleet())


@pytest.mark.complete
@pytest.mark.parametrize("weaker", [pytest.param("", id="as it is"), pytest.param(CARELESS, id="never noticed")])
def test_executions_of_a_cut_off_host_run_elsewhere(
    stack: Stack, hosts: tuple[WorkerHost, WorkerHost], need_runtime: Callable[..., None], weaker: str
) -> None:
    """Executions of the host end there and run elsewhere; a late commit of the cut-off worker is refused."""
    need_runtime("crun", "oci")
    for host in hosts:
        host.start(stack, port_of(stack), weaker)
    eventually(lambda: len(stack.fleet()) == 2, "both workers are registered", 60)
    program = PROGRAM.format(seconds=10 if weaker else 20)
    id = stack.submit(environment="python", code=program, limits={"wall_seconds": 60}).json()["id"]
    eventually(
        lambda: stack.show(id)["state"] == "running" and any(has(stack, host, id) for host in hosts),
        "the execution runs",
    )
    cut_off, other = hosts if has(stack, hosts[0], id) else hosts[::-1]
    (container,) = cut_off.containers()
    cut_off.cut()
    eventually(
        lambda: has(stack, other, id) and stack.show(id)["state"] == "running",
        "the other worker runs the execution",
        60,
    )
    if weaker:
        assert container.exists()
    else:
        eventually(lambda: not container.exists(), "the container on the cut-off host is gone")
        assert "lease.lost" in cut_off.log()
    reported = eventually(
        lambda: (execution := stack.show(id, wait=30))["finished_at"] and execution, "the execution ends", 120
    )
    assert (reported["state"], reported["stdout"], reported["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    assert len(stack.fleet()) == 1
    cut_off.heal()
    eventually(lambda: len(stack.fleet()) == 2, "the worker that was cut off is registered again", 60)
    if weaker:
        eventually(lambda: "attempt.stale" in cut_off.log(), "the stale commit is refused")
    sleeps: dict[str, Any] = {
        "environment": "python", "code": PROGRAM.format(seconds=60), "limits": {"wall_seconds": 90},
    }  # fmt: skip
    both = [stack.submit(**sleeps).json()["id"] for _ in hosts]
    eventually(lambda: {stack.show(one)["state"] for one in both} == {"running"}, "both workers run executions", 60)
    for one in both:
        assert stack.client.post(f"/api/v1/executions/{one}/cancel").status_code == 202
    cancelled = [
        Accepted(one, "begun\n", reported=stack.show(one, wait=30), reported_again=stack.show(one), cancelled=True)
        for one in both
    ]
    for host in hosts:
        assert host.process.stop() == 0
        assert left_on_host(host.directory, [host.process.pid]) == []
    accepted = [Accepted(id, "begun\ndone\n", reported=reported, reported_again=stack.show(id)), *cancelled]
    with stack.redis.client() as redis:
        eventually(lambda: not violations(redis, accepted), "nothing is violated")
