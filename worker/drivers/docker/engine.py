"""Docker Engine's API, as far as this driver uses it; the engine's errors become ours here.

One client for each thread, because docker-py's connection pool and the engine's hijacked streams do not mix. Calls that
every container needs have a connection of their own for each thread, without docker-py.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
import structlog
from docker.errors import APIError, DockerException
from urllib3.exceptions import ReadTimeoutError

from orchestrator import metrics
from orchestrator.errors import RuntimeUnavailable
from worker.drivers.docker.connection import CallFailed, Connection

UNAVAILABLE = (
    DockerException, requests.exceptions.RequestException, CallFailed, http.client.HTTPException, OSError
)  # fmt: skip
NOT_FOUND, CONFLICT = 404, 409
ATTACH = "stdin=1&stdout=1&stderr=1&stream=1"
log = structlog.get_logger()


class Engine:
    """The connection to one engine. Thread-safe; every method raises :class:`RuntimeUnavailable`."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url, self._timeout_seconds = url, timeout_seconds
        self._local = threading.local()
        self._api_version: str | None = None

    def api(self) -> Any:
        """This thread's client. :func:`translated` makes its errors, and those of its creation, ours."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(base_url=self._url, version=self._version(), timeout=int(self._timeout_seconds))
            client.trust_env = False  # no proxy of the environment stands between a worker and its engine
            self._local.client = client
        return client

    def load_image(self, id: str, archive: Path) -> None:
        """Have an image in the engine: from its archive if the engine does not have it."""
        with translated("image"):
            try:
                self._call("GET", f"/images/{id}/json")
            except CallFailed as error:
                if error.status != NOT_FOUND:
                    raise
                with archive.open("rb") as file:
                    for _ in self.api().load_image(file):
                        pass
                self.api().inspect_image(id)

    def create(self, config: dict[str, Any], name: str) -> str:
        """Create a container; its id."""
        with translated("create"):
            return str(self._call("POST", f"/containers/create?name={name}", config)["Id"])

    def attach(self, id: str) -> socket.socket:
        """The container's standard input, output and error, in the engine's framing."""
        with translated("attach"):
            return self._connection().stream(f"/v{self._version()}/containers/{id}/attach?{ATTACH}")

    def start(self, id: str) -> dict[str, Any]:
        """Start a container; the engine's description of the container afterwards."""
        with translated("start"):
            self._call("POST", f"/containers/{id}/start")
        with translated("inspect"):
            return dict(self._call("GET", f"/containers/{id}/json"))

    def find(self, name: str) -> str | None:
        """The id of a container; ``None`` for an unknown name."""
        with translated("inspect"):
            try:
                return str(self._call("GET", f"/containers/{name}/json")["Id"])
            except CallFailed as error:
                if error.status != NOT_FOUND:
                    raise
                return None

    def update(self, id: str, changes: dict[str, int]) -> dict[str, Any]:
        """Change limits of a container; the engine's description of the container afterwards."""
        with translated("update"):
            self._post_update(id, changes)
            return dict(self.api().inspect_container(id))

    def wait(self, id: str, timeout_seconds: float) -> tuple[int, bool] | None:
        """A container's exit code, and whether the container ran out of memory; ``None`` if it still runs."""
        with translated("wait"):
            api = self.api()
            try:
                # Streamed, so that a timed-out connection is closed at once, not by the garbage collector.
                url = api._url("/containers/{0}/wait", id)
                with api._post(url, timeout=timeout_seconds, stream=True) as response:
                    api._raise_for_status(response)
                    code = int(response.json()["StatusCode"])
            except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as error:
                if _timed_out(error):
                    return None
                raise
            return code, bool(api.inspect_container(id)["State"]["OOMKilled"])

    def kill(self, id: str) -> None:
        """Kill a container's first process, which ends the others. No effect on a container that has ended."""
        with translated("kill"):
            try:
                self.api().kill(id)
            except APIError as error:
                if error.status_code in (NOT_FOUND, CONFLICT):  # removed, or not running
                    return
                # The engine gives up on a first process that has not died in time: this is not the engine's fault.
                if not self.api().inspect_container(id)["State"]["Running"]:
                    raise
                log.warning("kill.slow", container=id, detail=str(error)[:1000])

    def lift_cpu(self, id: str) -> None:
        """Lift the CPU limit of a container through the engine, so that a kill takes effect soon."""
        with suppress(*UNAVAILABLE):
            self._post_update(id, {"NanoCpus": (os.cpu_count() or 1) * 10**9})

    def remove(self, id: str) -> None:
        """End and remove a container. Idempotent."""
        with translated("remove"):
            try:
                self._call("DELETE", f"/containers/{id}?v=1&force=1")
            except CallFailed as error:
                if error.status not in (NOT_FOUND, CONFLICT):  # removed, or being removed
                    raise

    def _call(self, method: str, path: str, document: Any = None) -> Any:
        return self._connection().call(method, f"/v{self._version()}{path}", document)

    def _connection(self) -> Connection:
        """This thread's connection."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = Connection(self._url, self._timeout_seconds)
        return connection

    def _version(self) -> str:
        """The engine's version of its API, asked for once."""
        if self._api_version is None:
            self._api_version = str(self._connection().call("GET", "/version")["ApiVersion"])
        return self._api_version

    def _post_update(self, id: str, changes: dict[str, int]) -> None:
        api = self.api()  # docker-py's own update call lacks NanoCpus and PidsLimit
        api._raise_for_status(api._post_json(api._url("/containers/{0}/update", id), data=changes))


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Translate the engine's errors into Mayfly's, by class."""
    try:
        yield
    except UNAVAILABLE as error:
        # The engine's message may name paths and containers of this host: it is for the operator, not for a client.
        metrics.engine_errors.labels(call).inc()
        log.warning("engine.failed", call=call, detail=str(error)[:1000])
        raise RuntimeUnavailable(f"The container engine failed to {call}.") from error


def _timed_out(error: requests.exceptions.RequestException) -> bool:
    # A timeout while the body is awaited reaches us as a ConnectionError that wraps urllib3's.
    return isinstance(error, requests.exceptions.ReadTimeout) or any(
        isinstance(argument, ReadTimeoutError) for argument in error.args
    )
