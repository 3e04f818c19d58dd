"""An engine proxy in this process, a launcher that uses it, and raw requests to it and to the engine itself."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.environments import load_environments
from orchestrator.host.posture import INSTALLATION_LABEL, UID_LABEL
from orchestrator.settings import Settings
from orchestrator.store.security import SecurityLog
from tests.engine import ENGINE
from tests.harness import ROOT
from worker.drivers.docker.config import WORKER_LABEL, container_config
from worker.drivers.docker.driver import DockerDriver
from worker.engine_proxy.__main__ import listen
from worker.engine_proxy.bodies import Bodies
from worker.engine_proxy.engine import Engine
from worker.engine_proxy.reporting import Reports
from worker.engine_proxy.serving import Gate
from worker.host.hostdirs import HostDir, HostDirs
from worker.pool.launcher import Launcher
from worker.sandbox.profile import sandbox_profile

WORKER = "test-worker"
ANSWER_SECONDS = 30


class Reply(NamedTuple):
    """An answer to a request."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Proxied:
    """A host with an engine proxy. ``security`` is where it writes events."""

    def __init__(self, images: Path, security: SecurityLog, engine: Path = ENGINE, runtime: str = "runc") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mayfly-proxy-")  # pytest's own are too deep for sockets
        home = Path(self._directory.name)
        home.chmod(0o711)
        self.settings = Settings(
            images_dir=images,
            installation=f"test-{secrets.token_hex(6)}",
            sandbox_dir=home / "sandboxes",
            docker_url=f"unix://{engine}",
            engine_proxy=True,
            engine_proxy_socket=home / "engine.sock",
            uid_first=100_000 + secrets.randbelow(10**9),
            uid_count=1000,
            standard_runtime=runtime,
        )
        self.environments = load_environments([ROOT / "sandbox_image" / "environments"])
        self.security, self.engine = security, engine
        self.host_dirs = HostDirs(self.settings.sandboxes_path, WORKER, self.settings.uid_first, 1000)
        self.driver = DockerDriver(self.settings, WORKER)
        self.launcher = Launcher(self.driver, self.host_dirs, self.environments, WORKER)
        self.begin()

    @property
    def path(self) -> Path:
        return self.settings.engine_proxy_path

    def begin(self) -> None:
        """Begin a life of the proxy."""
        self.reports = Reports(self.security)
        bodies = Bodies(self.settings, self.environments)
        self.gate = Gate(Engine(self.engine), bodies, self.settings.installation, self.reports)
        self._server = listen(self.path, self.gate)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.reports.start()

    def end(self) -> None:
        """End this life of the proxy, after its events were written. Streams continue, as threads of this process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.reports.stop()
        if client := getattr(self.driver.engine._local, "client", None):
            client.close()  # connections kept open, which would end with another process
            self.driver.engine._local = threading.local()

    def close(self) -> None:
        self.end()
        self._directory.cleanup()

    def profile(self, lease: HostDir, **changed: Any) -> dict[str, Any]:
        """The body that creates a permitted container."""
        environment = self.environments["python"]
        labels = {UID_LABEL: str(lease.uid), INSTALLATION_LABEL: self.settings.installation, WORKER_LABEL: WORKER}
        values: dict[str, Any] = {
            "uid": lease.uid,
            "image": self.driver.image(environment).id,
            "runtime": "runc",
            "binds": lease.binds(False),
            "name": "",
            "labels": labels,
        }
        limits = changed.pop("limits", environment.defaults)
        return container_config(sandbox_profile(environment, "standard", limits, **{**values, **changed}))

    def name(self) -> str:
        return f"mayfly-{WORKER}-{secrets.token_hex(6)}"


def send(path: Path, data: bytes) -> bytes:
    """Send bytes to a socket, and read until the other side closes; ended with the end of these bytes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_SECONDS)
        client.connect(str(path))
        with suppress(BrokenPipeError):  # refused before all of it was read
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        return rest_of(client)


def rest_of(stream: socket.socket) -> bytes:
    """The bytes of a stream until its end."""
    received = bytearray()
    with suppress(ConnectionResetError):  # closed with a part of what was sent unread
        while chunk := stream.recv(65536):
            received += chunk
    return bytes(received)


def ask(path: Path, method: str, target: str, body: Any = None) -> Reply:
    """One request, in the usual form; ``body`` is JSON, or the text of it."""
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    connection = http.client.HTTPConnection("engine", timeout=ANSWER_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    with closing(connection):
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.sock.connect(str(path))
        headers = {"Content-Type": "application/json"} if text else {}
        connection.request(method, target, text.encode(), headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read())
