"""One container of Docker Engine, from its creation to its removal.

The attach stream is opened before the container starts, so no byte is missed. Its standard input keeps the sandbox
alive: when this process dies the engine closes it, and the agent ends all processes (``StdinOnce``).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from orchestrator.errors import RuntimeUnavailable, WeakContainer
from orchestrator.models import Limits
from worker.counters import KILLED, Counters, Ended
from worker.drivers.counting import Counting
from worker.drivers.docker.config import container_config, nano_cpus, refuse_other_limits, refuse_weaker
from worker.drivers.docker.engine import Engine, translated
from worker.drivers.docker.removal import remove
from worker.drivers.stream import Stream
from worker.host import cgroups
from worker.host.audit import has_oom_record
from worker.host.cgroups import Caps, bound_buffers
from worker.host.exits import ExitWatch
from worker.host.killing import is_gone, kill_all
from worker.sandbox.profile import SandboxProfile, pids_limit

STREAM_HEADER = struct.Struct(">BxxxI")
STDOUT = 1
MAX_DIAGNOSTICS = 4096
log = structlog.get_logger()


class DockerSandbox:
    """A container and its attach stream, in which the engine multiplexes stdout (frames) and stderr (diagnostics)."""

    cgroup_survives_exit = False

    def __init__(self, engine: Engine, profile: SandboxProfile, labels: Mapping[str, str], cgroup_root: Path) -> None:
        self.profile = profile
        self.stream = Stream()
        self.diagnostics = b""
        self._engine, self._labels, self._cgroup_root = engine, labels, cgroup_root
        self._buffer = bytearray()
        self._asked = False  # whether a request to create the container was sent, with or without an answer
        self._id: str | None = None
        self._removed = False
        self._counting: Counting | None = None
        self._watch: ExitWatch | None = None

    def start(self) -> None:
        config = container_config(self.profile)
        config["Labels"] |= self._labels
        self._asked = True
        self._id = id = self._engine.create(config, self.profile.name)
        self.stream.connect(self._engine.attach(id))
        made = self._engine.start(id)
        refuse_weaker(config, made)
        self._refuse_other_limits(Caps.of(self.profile.memory_bytes, self.profile.cpu_cores, self.profile.pids), made)
        if self.profile.buffer_bytes:
            bound_buffers(self._cgroup_root, id, self.profile.buffer_bytes)
        pid = made["State"]["Pid"]
        self._counting = Counting(self._cgroup_root, id, self.profile)
        self._counting.watch_network(pid)
        if self.profile.isolation == "standard":  # under gVisor the host's process is not the agent
            self._watch = ExitWatch.open(pid, id)

    def send(self, data: bytes, timeout_seconds: float) -> None:
        self.stream.send(data, timeout_seconds)

    def receive(self, timeout_seconds: float) -> bytes | None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            if payload := self._next_stdout():
                return payload
            data = self.stream.receive(deadline - time.monotonic())
            if not data:
                return data
            self._buffer += data

    def counters(self) -> Counters:
        return Counters() if self._counting is None else self._counting.read()

    def restore_cpu_weight(self) -> None:
        """No effect: all containers have the same CPU weight, since the engine's update call would take longer than
        the low weight saves.
        """

    def adjust(self, limits: Limits) -> None:
        caps = Caps.of(limits.memory_bytes, limits.cpu_cores, pids_limit(self.profile.isolation, limits))
        if self.profile.isolation == "hardened":
            self._slow_down(caps)
            return
        made = self._engine.update(
            self._made_id(),
            {
                "Memory": limits.memory_bytes,
                "MemorySwap": limits.memory_bytes,
                "NanoCpus": nano_cpus(limits.cpu_cores),
                "PidsLimit": caps.pids,
            },
        )
        self._refuse_other_limits(caps, made)

    def wait(self, timeout_seconds: float) -> Ended | None:
        if self._watch is not None and (code := self._watch.wait(timeout_seconds)) is not None:
            return Ended(exit_code=code, oom_killed=False)
        if self._id is None or self._removed or (answer := self._engine.wait(self._id, timeout_seconds)) is None:
            return None
        code, oom_killed = answer
        return Ended(exit_code=code, oom_killed=oom_killed or (code == KILLED and has_oom_record(self._id)))

    def kill(self) -> None:
        """End every process at once, by the engine where this worker may not write the cgroup."""
        if self._id is None or self._removed:
            return
        if kill_all(self._cgroup_root, self._id, between=self.counters):
            return
        if self._counting is not None and self._counting.is_visible and is_gone(self._cgroup_root, self._id):
            return
        log.info("kill.by_engine", container=self.profile.name)
        self._engine.lift_cpu(self._id)
        self._engine.kill(self._id)

    def destroy(self) -> None:
        self.stream.close()
        try:
            if self._id is None and self._asked:  # the answer to the creation was lost
                self._id = self._engine.find(self.profile.name)
            if self._id is not None:
                remove(self._engine, self._cgroup_root, self._id)
            self._removed = True
        finally:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
            if self._counting is not None:
                self._counting.close()

    def _made_id(self) -> str:
        if self._id is None:
            raise RuntimeUnavailable("The sandbox has not been started.")
        return self._id

    def _slow_down(self, caps: Caps) -> None:
        """Lower the CPU limit of a gVisor sandbox through its cgroup, since runsc has no update for an engine to
        call.
        """
        id = self._made_id()
        with translated("update"):
            cgroups.set_cpu(self._cgroup_root, id, caps)
        if differs := cgroups.weaker_caps_if_visible(self._cgroup_root, id, caps):
            raise WeakContainer(f"The kernel did not apply the requested limits: {', '.join(differs)}.")

    def _refuse_other_limits(self, caps: Caps, made: dict[str, Any]) -> None:
        """Check each limit in the engine, and in the kernel if the cgroup is visible. Raises :class:`WeakContainer`."""
        refuse_other_limits(caps, made["HostConfig"])
        if differs := cgroups.weaker_caps_if_visible(self._cgroup_root, made["Id"], caps):
            raise WeakContainer(f"The kernel did not apply the requested limits: {', '.join(differs)}.")

    def _next_stdout(self) -> bytes:
        """The complete stdout payloads, or the received part of the current payload; frames may span payloads."""
        out = bytearray()
        while len(self._buffer) >= STREAM_HEADER.size:
            kind, length = STREAM_HEADER.unpack_from(self._buffer)
            end = STREAM_HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = self._buffer[STREAM_HEADER.size : end]
            if kind == STDOUT:
                out += payload
            else:
                self.diagnostics = (self.diagnostics + payload)[:MAX_DIAGNOSTICS]
            del self._buffer[:end]
        return bytes(out)
