"""Docker Engine's API, as far as this driver uses it; the engine's errors become ours here.

One client for each thread, because docker-py's connection pool and the engine's hijacked streams do not mix.
"""

from __future__ import annotations

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
from docker.errors import APIError, DockerException, NotFound
from urllib3.exceptions import ReadTimeoutError

from orchestrator import metrics
from orchestrator.errors import RuntimeUnavailable

UNAVAILABLE = (DockerException, requests.exceptions.RequestException, OSError)
log = structlog.get_logger()


class Engine:
    """The connection to one engine. Thread-safe; every method raises :class:`RuntimeUnavailable`."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url, self._timeout_seconds = url, timeout_seconds
        self._local = threading.local()
        self._api_version: str | None = None

    def api(self) -> Any:
        """This thread's client. Its errors are docker-py's; :func:`translated` makes them ours."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(
                base_url=self._url, version=self._api_version or "auto", timeout=int(self._timeout_seconds)
            )
            self._api_version = client.api_version
            self._local.client = client
        return client

    def load_image(self, id: str, archive: Path) -> None:
        """Have an image in the engine: from its archive if the engine does not have it."""
        with translated("image"):
            try:
                self.api().inspect_image(id)
            except NotFound:
                with archive.open("rb") as file:
                    for _ in self.api().load_image(file):
                        pass
                self.api().inspect_image(id)

    def create(self, config: dict[str, Any], name: str) -> str:
        """Create a container; its id."""
        with translated("create"):
            return str(self.api().create_container_from_config(config, name)["Id"])

    def attach(self, id: str) -> socket.socket:
        """The container's standard input, output and error, in the engine's framing."""
        with translated("attach"):
            wrapped = self.api().attach_socket(id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            # docker-py gives an io object over the connection's socket. The stream must be ours alone: the sandbox's
            # input ends only when every descriptor of the socket is closed.
            stream = socket.socket(fileno=socket.dup(wrapped.fileno()))
            wrapped._response.close()
            wrapped.close()
            stream.settimeout(None)
        return stream

    def start(self, id: str) -> dict[str, Any]:
        """Start a container; the engine's description of the container afterwards."""
        with translated("start"):
            self.api().start(id)
        with translated("inspect"):
            return dict(self.api().inspect_container(id))

    def find(self, name: str) -> str | None:
        """The id of a container; ``None`` for an unknown name."""
        with translated("inspect"):
            try:
                return str(self.api().inspect_container(name)["Id"])
            except NotFound:
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
                if error.status_code in (404, 409):  # removed, or not running
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
                self.api().remove_container(id, force=True, v=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # removed, or being removed
                    raise

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
