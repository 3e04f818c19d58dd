"""Real processes for tests: a private Redis, the API, workers; each with a directory of its own."""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
import httpx2
import psutil
import redis

from orchestrator.cli.commands.local.embedded.append_only import cut_torn_transaction
from orchestrator.models import Isolation
from orchestrator.settings import create_secret_file

ROOT = Path(__file__).resolve().parent.parent
IMAGES = Path(os.environ.get("MAYFLY_TEST_IMAGES", ROOT / ".mayfly" / "images"))
UNPACKED = IMAGES.with_name("unpacked")  # what driver `oci` unpacks of them
ENVIRONMENTS = os.environ.get("MAYFLY_TEST_ENVIRONMENTS", "python python-data node bash").split()
PATIENCE = float(os.environ.get("MAYFLY_TEST_PATIENCE", "1"))  # times as long as usual; an emulated machine is slow
T = TypeVar("T")
LEAST_PORT, EPHEMERAL = 10_000, 32_768  # behind these lie the ports that the kernel gives to connections
MOST_LANES = 8
LEAST_UID, MOST_UID = 100_000, 2_000_000_000
UIDS = 50_000  # of an installation, unless it is set
LONG_LEASE_SECONDS = 15.0  # of a worker that a test neither kills nor stops: a busy machine is no dead worker
_given: deque[int] = deque(maxlen=500)  # ports
_given_blocks: deque[int] = deque(maxlen=500)  # of uids


def eventually(probe: Callable[[], T | Literal[False] | None], what: str, seconds: float = 60.0) -> T:
    """Call ``probe`` until it gives something true; fail with ``what`` when the time is over."""
    seconds *= PATIENCE
    began = time.monotonic()
    while True:
        value = probe()
        if value:
            return value
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what} (last: {value!r})")
        # Between probes of a state that nothing announces: a fiftieth of the wait, since each probe costs CPU time.
        time.sleep(min(0.1, max(0.02, waited / 50)))


def end_of(show: Callable[[str, int], dict[str, Any]], id: str) -> dict[str, Any]:
    """The record of an execution after its end; ``show`` waits for so many seconds, which may be too few."""
    return eventually(lambda: (shown := show(id, 30))["finished_at"] and shown, "the execution has ended", 180)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended, though its parent may not have waited for it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def logged(log: Path) -> list[dict[str, Any]]:
    """The events in the log of a process, without the line that is just being written."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def free_port() -> int:
    """A port that no other lane gets, and no connection that goes out, until a process of the test listens on it."""
    while True:
        port = LEAST_PORT + number_of_this_lane(EPHEMERAL - LEAST_PORT)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:  # it is in use
                continue
        _given.append(port)
        return port


def free_uids() -> int:
    """The first of an installation's uids, of which no other installation of this run has any.

    A worker refuses to start where a container of another installation has one of its uids.
    """
    while (block := number_of_this_lane((MOST_UID - LEAST_UID) // UIDS)) in _given_blocks:
        pass
    _given_blocks.append(block)
    return LEAST_UID + block * UIDS


def number_of_this_lane(most: int) -> int:
    """A random number below ``most`` that no other lane gets."""
    lane = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return secrets.randbelow(most // MOST_LANES) * MOST_LANES + lane % MOST_LANES


def bearer(secret: str) -> dict[str, str]:
    """Headers with an API key."""
    return {"Authorization": f"Bearer {secret}"}


@dataclass(frozen=True)
class Way:
    """How containers are made: a driver and a runtime, as in ``docker-runc``."""

    name: str

    @property
    def driver(self) -> str:
        return self.name.partition("-")[0]

    @property
    def runtime(self) -> str:
        return self.name.partition("-")[2]

    @property
    def isolation(self) -> Isolation:
        return "hardened" if self.runtime == "runsc" else "standard"

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a stack."""
        return {"driver": self.driver, f"{self.isolation}_runtime": self.runtime}


WAYS = ("docker-runc", "docker-crun", "docker-runsc", "oci-crun", "oci-runc", "oci-runsc")


class Process:
    """A child process with its output in a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command,
                env={**os.environ, **env},
                cwd=ROOT,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # as ``mayfly up`` does it: the kernel may share out CPU time by sessions
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def stop(self, sig: int = signal.SIGTERM, seconds: float = 120.0) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
        try:
            return self.popen.wait(seconds)
        finally:
            if self.popen.returncode is None:  # it has not ended in time, which fails this test and no later one
                self.popen.kill()
                self.popen.wait()


def share_unpacked(oci: Path) -> None:
    """Link from an installation's ``oci_dir`` to where all of a checkout unpack images: each once, by its content.

    An image has nearly 1 GB in all, and takes seconds. A worker that starts removes what none has used for a day.
    """
    UNPACKED.mkdir(parents=True, exist_ok=True, mode=0o700)
    oci.mkdir(parents=True, exist_ok=True, mode=0o700)
    (oci / "rootfs").symlink_to(UNPACKED)


class RedisServer:
    """A Redis of our own on a Unix socket, started as ``mayfly up`` starts its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._options = options
        self.process: Process | None = None

    def start(self) -> None:
        command = [
            "redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory),
            "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", *self._options,
        ]  # fmt: skip
        log = self.directory / "redis.log"
        cut_torn_transaction(command, dict(os.environ), self.directory, self.socket.with_suffix(".load"), log, 30)
        self.process = Process(command, {}, log)
        try:
            eventually(self._answers, "redis answers")
        except AssertionError:
            self.stop(signal.SIGKILL)
            raise

    def stop(self, sig: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.stop(sig)
            self.process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.BusyLoadingError):
            return False
        finally:
            client.close()


class Stack:
    """An installation: Redis, one API process, any number of workers, and a client with the admin key."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.installation = f"test-{secrets.token_hex(6)}"
        self.port = free_port()
        self.redis = RedisServer(directory)
        self.api_command = [sys.executable, "-m", "orchestrator.api"]
        self.api: Process | None = None
        self.workers: list[Process] = []
        state = directory / "state"
        self.key = create_secret_file(state / "api-key", "mfk_")
        create_secret_file(state / "secret")
        if settings.get("driver") == "oci":
            share_unpacked(state / "oci")
        self.env = {
            "MAYFLY_STATE_DIR": str(state),
            "MAYFLY_REDIS_URL": self.redis.url,
            "MAYFLY_API_PORT": str(self.port),
            "MAYFLY_METRICS_PORT": str(free_port()),
            "MAYFLY_RATE_LIMIT": "off",
            "MAYFLY_IMAGES_DIR": str(IMAGES),
            "MAYFLY_INSTALLATION": self.installation,
            "MAYFLY_UID_FIRST": str(free_uids()),
            "MAYFLY_URL": f"http://127.0.0.1:{self.port}",
            "MAYFLY_TOKEN": self.key,
            "MAYFLY_TOOL_USERS_DIR": str(state / "tool-users"),
            "MAYFLY_LEASE_SECONDS": "3",
            "MAYFLY_JANITOR_SECONDS": "0.3",
        }
        self.env |= {
            f"MAYFLY_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in settings.items()
        }
        self.client = httpx2.Client(
            base_url=self.env["MAYFLY_URL"],
            headers=bearer(self.key),
            timeout=90,
            limits=httpx2.Limits(keepalive_expiry=2),  # before the server closes an idle connection
        )

    def start(self, workers: int = 1) -> Stack:
        self.redis.start()
        for _ in range(workers):
            self.start_worker()
        self.start_api()  # which takes as long as the workers do, at the same time
        if workers:
            self.ready()
        return self

    def start_api(self) -> None:
        self.api = Process(self.api_command, self.env, self.directory / "api.log")
        eventually(lambda: self.answers("/livez"), "the API answers", 180)

    def start_worker(self, *prefix: str, **env: str) -> Process:
        """One more worker; ``prefix`` is a command that runs it, such as ``setpriv``."""
        port = self.env["MAYFLY_METRICS_PORT"] if not self.workers else "0"
        log = self.directory / f"worker-{len(self.workers)}.log"
        worker = Process(
            [*prefix, sys.executable, "-m", "worker"], {**self.env, "MAYFLY_METRICS_PORT": port, **env}, log
        )
        self.workers.append(worker)
        return worker

    def ready(self) -> None:
        eventually(lambda: self.answers("/readyz"), "the stack is ready", 120)

    def answers(self, path: str) -> bool:
        try:
            return self.client.get(path).status_code == 200
        except httpx2.TransportError:
            return False

    def submit(self, wait: int | None = None, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
        all_headers = dict(headers or {})
        if wait is not None:
            all_headers["Prefer"] = f"wait={wait}"
        return self.client.post("/api/v1/executions", json=body, headers=all_headers)

    def run(self, environment: str = "python", **body: Any) -> dict[str, Any]:
        """Submit and wait for the end.

        Unless another is given, its wall time is a minute: programs of milliseconds need seconds beside others.
        """
        limits = {"wall_seconds": 60, **body.pop("limits", {})}
        response = self.submit(60, environment=environment, limits=limits, **body)
        assert response.status_code in (200, 202), response.text
        found: dict[str, Any] = response.json()
        return found if found["finished_at"] is not None else self.ended(found["id"])

    def show(self, id: str, wait: int = 0) -> dict[str, Any]:
        response = self.client.get(f"/api/v1/executions/{id}", params={"wait": wait})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def ended(self, id: str) -> dict[str, Any]:
        """The record of an execution after its end."""
        return end_of(self.show, id)

    def new_key(self, *scopes: str, tenant: str = "default") -> dict[str, Any]:
        """A new key for those scopes, with its secret."""
        answer = self.client.post("/api/v1/api-keys", json={"name": "test", "tenant": tenant, "scopes": scopes})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def headers_of(self, tenant: str, *scopes: str) -> dict[str, str]:
        """Headers with a new key of that tenant, for those scopes."""
        return bearer(self.new_key(*scopes, tenant=tenant)["secret"])

    def security(self, id: str, *kinds: str) -> list[dict[str, Any]]:
        """An execution's security events: kind, detail and whatever else each has.

        The kernel's records may come after the end; so ``kinds`` are awaited.
        """
        if kinds:
            eventually(lambda: {event["kind"] for event in self.security(id)} >= {*kinds}, f"{kinds} are reported")
        response = self.client.get(f"/api/v1/executions/{id}/events")
        assert response.status_code == 200, response.text
        items = response.json()["items"]
        return [item["data"] for item in items if item["type"].startswith("dev.mayfly.security.")]

    def artifact(self, execution: dict[str, Any], path: str) -> bytes:
        response = self.client.get(f"/api/v1/executions/{execution['id']}/artifacts/{path}")
        assert response.status_code == 200, response.text
        return response.content

    def fleet(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.client.get("/api/v1/workers").json()["items"]
        return items

    def reported(self, name: str) -> list[Any]:
        """That field of each worker, as last reported: up to a heartbeat ago, and none of a worker that is late."""
        return [worker[name] for worker in self.fleet()]

    def waiting(self, environment: str = "python", isolation: str = "standard") -> float:
        """How many containers wait in the first worker's pool, by its own gauge."""
        labels = f'environment="{environment}",isolation="{isolation}"'
        return self.worker_metrics().get(f"mayfly_pool_containers{{{labels}}}", 0)

    def worker_metrics(self) -> dict[str, float]:
        """The first worker's metrics, by name with labels."""
        text = httpx2.get(f"http://127.0.0.1:{self.env['MAYFLY_METRICS_PORT']}/metrics", timeout=60).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def containers(self) -> list[str]:
        """Names of this installation's containers, ended ones included."""
        if self.env.get("MAYFLY_DRIVER") == "oci":
            return [Path(found).name for found in glob.glob("state/oci/bundles/*/*", root_dir=self.directory)]
        api = docker.APIClient()
        try:
            label = f"dev.mayfly.installation={self.installation}"
            return [c["Names"][0].lstrip("/") for c in api.containers(all=True, filters={"label": label})]
        finally:
            api.close()

    def stop(self) -> None:
        """End everything, also after a failure; fail if a worker left a container or a host directory."""
        with ExitStack() as ends:  # what was left running, or open, would be a warning in a later test
            ends.callback(self.client.close)
            ends.callback(self.redis.stop)
            if self.api is not None:
                ends.callback(self.api.stop)
            self._stop_workers()
            ends.callback(self._stop_workers)
            left = self.containers()
            if left:  # e.g. of a worker a test has killed: the next worker's duty, and none comes
                self.start_worker()
                self.ready()
                eventually(lambda: not set(left) & set(self.containers()), f"the reaper removes {left}")
        assert self.containers() == []
        sandboxes = self.directory / "state" / "sandboxes"
        assert not sandboxes.exists() or list(sandboxes.iterdir()) == []
        if sandboxes.is_symlink():
            shutil.rmtree(sandboxes.resolve().parent)

    def _stop_workers(self) -> None:
        with ExitStack() as ends:
            for worker in reversed(self.workers):
                ends.callback(worker.stop)

    def failed_attempts(self, id: str) -> list[str]:
        """Why attempts of an execution failed, by the workers' logs: its record has only how many there were."""
        lines = [line for worker in self.workers for line in logged(worker.log) if line["event"] == "attempt.failed"]
        return [f"attempt {line['attempt']}: {line['detail']}" for line in lines if line["execution"] == id]

    def logs(self) -> str:
        ends = {path: path.read_text(errors="replace").splitlines()[-40:] for path in self.directory.glob("*.log")}
        return "\n".join("\n".join([f"--- {path.name}", *lines]) for path, lines in sorted(ends.items()))
