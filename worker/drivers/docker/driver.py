"""Containers through Docker Engine.

One client for each thread, because docker-py's connection pool and the engine's hijacked streams do not mix. The
attach stream is opened before the container starts, so no byte of it is missed, and its standard input is what keeps
the sandbox alive: when this process dies the engine closes it and the agent ends everything (``StdinOnce``).

A runtime that is killed while it creates or starts a container leaves the container's cgroups behind, and the engine
knows nothing of them: runsc works inside the new cgroups, and records them only afterwards. So this driver removes the
cgroups of a container itself, once the engine has removed the container.
"""

from __future__ import annotations

import json
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
from orchestrator.environments import Environment
from orchestrator.errors import EnvironmentUnavailable, RuntimeUnavailable, WeakContainer
from orchestrator.host.posture import INSTALLATION_LABEL, EngineFacts
from orchestrator.models import Isolation, Limits
from orchestrator.settings import Settings
from worker.counters import KILLED, Ended
from worker.drivers.base import Image, Owned, Sandbox
from worker.drivers.docker.config import container_config, nano_cpus, refuse_other_limits, refuse_weaker
from worker.drivers.docker.sandbox import DockerSandbox
from worker.host import cgroups, killing
from worker.host.audit import has_oom_record
from worker.host.cgroups import Caps, bound_buffers
from worker.host.exits import ExitWatch
from worker.host.killing import kill_all
from worker.host.unrouted import Unrouted
from worker.sandbox.profile import SandboxProfile, pids_limit

WORKER_LABEL = "dev.mayfly.worker"
log = structlog.get_logger()
UNAVAILABLE = (DockerException, requests.exceptions.RequestException, OSError)


class DockerDriver:
    """The driver for Docker Engine."""

    name = "docker"

    def __init__(self, settings: Settings, worker: str) -> None:
        self._url = settings.docker_url
        self._timeout_seconds = settings.engine_timeout_seconds
        self._wanted_runtimes = settings.runtime_names()
        self._images = settings.images_path
        self._installation = settings.installation
        self._worker = worker
        self._cgroup_root = settings.cgroup_root
        self._local = threading.local()
        self._api_version: str | None = None
        self._places: dict[str, Path] = {}
        self._sandboxes: dict[str, DockerSandbox] = {}

    def runtimes(self) -> dict[Isolation, str]:
        with _translated("info"):
            info = self._api().info()
        # What an engine elsewhere calls so says nothing about this host; nor is it there for a worker in a container.
        root = Path(info["DockerRootDir"])
        self._places = {"engine": root} if self._url.startswith("unix:") and root.is_dir() else {}
        known = info["Runtimes"]
        return {isolation: name for isolation, (name,) in self._wanted_runtimes.items() if name in known}

    def places(self) -> dict[str, Path]:
        return self._places

    def version(self) -> str:
        with _translated("version"):
            return f"Docker Engine {self._api().version()['Version']}"

    def facts(self) -> EngineFacts:
        with _translated("info"):
            api = self._api()
            return EngineFacts(api.info(), api.version(), [c["Labels"] or {} for c in api.containers()])

    def image(self, environment: Environment) -> Image:
        try:
            built = json.loads((self._images / f"{environment.name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise EnvironmentUnavailable(
                f"No image of environment {environment.name!r} in {self._images}; build it with `make images`."
            ) from error
        with _translated("image"):
            try:
                self._api().inspect_image(built["image_id"])
            except NotFound:
                with (self._images / f"{environment.name}.tar").open("rb") as archive:
                    for _ in self._api().load_image(archive):
                        pass
                self._api().inspect_image(built["image_id"])
        return Image(environment.name, built["image_id"], int(built["size_bytes"]))

    def launch(self, profile: SandboxProfile) -> DockerSandbox:
        config = container_config(profile)
        config["Labels"] |= {INSTALLATION_LABEL: self._installation, WORKER_LABEL: self._worker}
        with _translated("create"):
            id = self._api().create_container_from_config(config, profile.name)["Id"]
        with _translated("attach"):
            stream = self._attach(id)
        try:
            with _translated("start"):
                self._api().start(id)
            with _translated("inspect"):
                made = self._api().inspect_container(id)
            refuse_weaker(config, made)
            self._refuse_other_limits(Caps.of(profile.memory_bytes, profile.cpu_cores, profile.pids), id, made)
            if profile.buffer_bytes:
                bound_buffers(self._cgroup_root, id, profile.buffer_bytes)
        except BaseException:
            stream.close()
            raise
        # Under gVisor the host's process is not the agent.
        standard, pid = profile.isolation == "standard", made["State"]["Pid"]
        watch = ExitWatch.open(pid, id) if standard else None
        unrouted = Unrouted.open(pid, id) if standard and profile.loopback else None
        sandbox = DockerSandbox(id, profile, stream, self._cgroup_root, watch, unrouted)
        self._sandboxes[profile.name] = sandbox
        return sandbox

    def restore_cpu_weight(self, sandbox: Sandbox) -> None:
        """All have the same share from the beginning: to change it would take the engine longer than it saves."""

    def adjust(self, sandbox: Sandbox, limits: Limits) -> None:
        profile = sandbox.profile
        caps = Caps.of(limits.memory_bytes, limits.cpu_cores, pids_limit(profile.isolation, limits))
        if profile.isolation == "hardened":
            self._slow_down(profile.name, caps)
            return
        update = {
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            "NanoCpus": nano_cpus(limits.cpu_cores),
            "PidsLimit": caps.pids,
        }
        with _translated("update"):
            api = self._api()  # its own update call knows neither NanoCpus nor PidsLimit
            api._raise_for_status(api._post_json(api._url("/containers/{0}/update", sandbox.profile.name), data=update))
            made = api.inspect_container(profile.name)
        self._refuse_other_limits(caps, made["Id"], made)

    def wait(self, sandbox: Sandbox, timeout_seconds: float) -> Ended | None:
        if (reported_code := sandbox.exit_code(timeout_seconds)) is not None:
            return Ended(exit_code=reported_code, oom_killed=False)
        with _translated("wait"):
            api = self._api()
            url = api._url("/containers/{0}/wait", sandbox.profile.name)
            try:
                # Streamed, so that a connection that timed out is closed and not left to the garbage collector.
                with api._post(url, timeout=timeout_seconds, stream=True) as response:
                    api._raise_for_status(response)
                    code = response.json()["StatusCode"]
            except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as error:
                if _timed_out(error):
                    return None
                raise
            made = api.inspect_container(sandbox.profile.name)
        oom_killed = made["State"]["OOMKilled"] or (code == KILLED and has_oom_record(made["Id"]))
        return Ended(exit_code=code, oom_killed=oom_killed)

    def kill(self, name: str) -> None:
        sandbox = self._sandboxes.get(name)
        if sandbox is not None and sandbox.kill():
            return
        log.info("kill.by_engine", container=name)
        self._lift_cpu(name)
        with _translated("kill"):
            try:
                self._api().kill(name)
            except APIError as error:
                if error.status_code in (404, 409):  # gone, or not running
                    return
                # The engine gives up after a while on a first process that does not come to die: no fault of its own.
                if not self._api().inspect_container(name)["State"]["Running"]:
                    raise
                log.warning("kill.slow", container=name, detail=str(error)[:1000])

    def destroy(self, name: str) -> None:
        id = self._end(name)
        with _translated("remove"):
            try:
                self._api().remove_container(name, force=True, v=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone, or being removed already
                    raise
        if id is not None:
            self._remove_cgroups(id)

    def owned(self) -> list[Owned]:
        with _translated("list"):
            containers = self._api().containers(
                all=True, filters={"label": f"{INSTALLATION_LABEL}={self._installation}"}
            )
        return [Owned(c["Names"][0].lstrip("/"), c["Labels"].get(WORKER_LABEL, "")) for c in containers if c["Names"]]

    def _slow_down(self, name: str, caps: Caps) -> None:
        """Give a sandbox of gVisor less CPU time: its runtime has no update, so no engine can."""
        id = self._sandboxes[name].id
        with _translated("update"):
            cgroups.set_cpu(self._cgroup_root, id, caps)
        if differs := cgroups.weaker_caps_if_visible(self._cgroup_root, id, caps):
            raise WeakContainer(f"The kernel did not apply the requested limits: {', '.join(differs)}.")

    def _refuse_other_limits(self, caps: Caps, id: str, made: dict[str, Any]) -> None:
        """The engine's word for each limit, and the kernel's where it can be seen; raises :class:`WeakContainer`."""
        refuse_other_limits(caps, made["HostConfig"])
        if differs := cgroups.weaker_caps_if_visible(self._cgroup_root, id, caps):
            raise WeakContainer(f"The kernel did not apply the requested limits: {', '.join(differs)}.")

    def _end(self, name: str) -> str | None:
        """End what still runs in a container that is to be removed, this driver's own or another worker's.

        Returns the container's id, or ``None`` if the engine knows no such container.
        """
        sandbox = self._sandboxes.pop(name, None)
        if sandbox is not None:
            sandbox.kill()
            return sandbox.id
        with _translated("inspect"):
            try:
                id: str = self._api().inspect_container(name)["Id"]
            except NotFound:
                return None
        kill_all(self._cgroup_root, id)
        return id

    def _remove_cgroups(self, id: str) -> None:
        """Remove the cgroups of a container that is gone, if its runtime left them; a failure is counted and logged."""
        left = killing.directories(self._cgroup_root, id)
        if not left:
            return
        hierarchies = [str(place) for place in left]
        try:
            done, detail = killing.removed(self._cgroup_root, id, killing.KILL_SECONDS), "a process is left in it"
        except OSError as error:  # a worker that may not write cgroups
            done, detail = False, str(error)
        if done:
            metrics.reaped.labels("cgroup").inc()
            log.info("reaped.cgroup", container=id, directories=hierarchies)
        else:
            metrics.cleanup_failures.inc()
            log.warning("cgroup.not_removed", container=id, directories=hierarchies, detail=detail)

    def _lift_cpu(self, name: str) -> None:
        """Let a container die at the speed of the whole host, where only the engine can reach it and is able to."""
        with suppress(*UNAVAILABLE):
            api = self._api()
            update = {"NanoCpus": (os.cpu_count() or 1) * 10**9}
            api._raise_for_status(api._post_json(api._url("/containers/{0}/update", name), data=update))

    def _api(self) -> Any:
        client = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(
                base_url=self._url, version=self._api_version or "auto", timeout=int(self._timeout_seconds)
            )
            self._api_version = client.api_version
            self._local.client = client
        return client

    def _attach(self, id: str) -> socket.socket:
        wrapped = self._api().attach_socket(id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        # docker-py gives an io object over the connection's socket. The stream must be ours alone: as long as anybody
        # holds it open the sandbox's input does not end.
        stream = socket.socket(fileno=socket.dup(wrapped.fileno()))
        wrapped._response.close()
        wrapped.close()
        stream.settimeout(None)
        return stream


@contextmanager
def _translated(call: str) -> Iterator[None]:
    """The engine's errors become ours here, by class."""
    try:
        yield
    except UNAVAILABLE as error:
        # Its words may name paths and containers of this host: they are for the operator, not for a client.
        metrics.engine_errors.labels(call).inc()
        log.warning("engine.failed", call=call, detail=str(error)[:1000])
        raise RuntimeUnavailable(f"The container engine failed to {call}.") from error


def _timed_out(error: requests.exceptions.RequestException) -> bool:
    # A timeout while the body is awaited reaches us as a ConnectionError that wraps urllib3's.
    return isinstance(error, requests.exceptions.ReadTimeout) or any(
        isinstance(argument, ReadTimeoutError) for argument in error.args
    )
