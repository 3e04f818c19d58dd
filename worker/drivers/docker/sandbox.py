"""One container of Docker Engine: its attach stream, and what its cgroup counts."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

from worker.counters import Counters
from worker.drivers.stream import Stream
from worker.host.cgroups import Counted
from worker.host.exits import ExitWatch
from worker.host.killing import is_gone, kill_all
from worker.host.unrouted import Unrouted
from worker.sandbox.profile import SandboxProfile

STREAM_HEADER = struct.Struct(">BxxxI")
STDOUT = 1
MAX_DIAGNOSTICS = 4096


class DockerSandbox:
    """A container and its attach stream, in which the engine multiplexes stdout (frames) and stderr (diagnostics)."""

    def __init__(
        self,
        id: str,
        profile: SandboxProfile,
        stream: socket.socket,
        cgroup_root: Path,
        watch: ExitWatch | None,
        unrouted: Unrouted | None,
    ) -> None:
        self.id = id
        self._unrouted = unrouted
        self._watch = watch
        self.profile = profile
        self._stream = Stream(stream)
        self._buffer = bytearray()
        self._cgroup_root = cgroup_root
        self._cgroup = Counted(cgroup_root, id)
        self._counted = Counters()
        self.cgroup_survives_exit = False
        self.diagnostics = b""

    def send(self, data: bytes, timeout_seconds: float) -> None:
        self._stream.send(data, timeout_seconds)

    def receive(self, timeout_seconds: float) -> bytes | None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            if payload := self._next_stdout():
                return payload
            data = self._stream.receive(deadline - time.monotonic())
            if not data:
                return data
            self._buffer += data

    def counters(self) -> Counters:
        # gVisor dies when its cgroup is out of memory, and that goes before the stream's end is here.
        counted = self._cgroup.counters().after(self._counted)
        if self._unrouted is not None:
            counted = replace(counted, unrouted=self._unrouted.count(), sockets=self._unrouted.sockets())
        if self.profile.isolation == "hardened":
            counted = replace(counted, peak_processes=None)  # those would be the threads of gVisor
        self._counted = counted
        return self._counted

    def exit_code(self, timeout_seconds: float) -> int | None:
        return None if self._watch is None else self._watch.wait(timeout_seconds)

    def kill(self) -> bool:
        """End every process at once; whether none is left. Not where this worker may not write the cgroup."""
        if kill_all(self._cgroup_root, self.id, between=self.counters):
            return True
        seen = self._counted.cpu_seconds is not None
        return seen and is_gone(self._cgroup_root, self.id)

    def close(self) -> None:
        self._stream.close()
        if self._watch is not None:
            self._watch.close()
        if self._unrouted is not None:
            self._unrouted.close()
            self._unrouted = None

    def _next_stdout(self) -> bytes:
        """Stdout payloads that are complete, or as much of the current one as has come; frames span payloads anyway."""
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
