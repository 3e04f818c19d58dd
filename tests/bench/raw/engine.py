"""The container engine without anything around it: its command line, its API from nothing, and containers that wait.

Run as ``python -m tests.bench.raw.engine`` by ``bench/systems/child.py``. The API gets the fields that Mayfly's driver
sends. ``loop`` creates, attaches, starts, waits and removes; ``waiting, agent`` has containers ahead, in
which Mayfly's agent waits. Removal is in no latency, and in every throughput.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker

from tests.bench.peers.serve import Contestant, check, serve
from tests.bench.raw.bundle import UID, environments, leased, profile_of
from tests.bench.raw.waiting import Agent
from worker.drivers.docker.config import container_config

HEADER = struct.Struct(">BxxxI")
AHEAD = 2


class CommandLine(Contestant):
    """``docker run --rm``, with what a careful person would type."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self._images = setting["images"]

    def about(self) -> dict[str, str]:
        return {"docker": docker.from_env().version()["Version"]}

    def run(self, program: dict[str, Any]) -> float:
        command = [
            "docker", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--memory", "512m",
            "--cpus", "1", "--pids-limit", "65", "--security-opt", "no-new-privileges", "--user", f"{UID}:{UID}",
            "--tmpfs", "/work:mode=1777", "--tmpfs", "/tmp:mode=1777", "--log-driver", "none",
            "--entrypoint", program["command"][0], self._images[program["environment"]], *program["command"][1:],
        ]  # fmt: skip
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, check=True)
        seconds = time.monotonic() - began
        check(program, done.stdout)
        return seconds


class Api(Contestant):
    """The common part: one client for each thread, and containers made of the sandbox profile."""

    runtime = "runc"

    def __init__(self, setting: dict[str, Any], runtime: str) -> None:
        self._images = setting["images"]
        self.runtime = runtime
        self._environments = environments()
        self._directory = tempfile.TemporaryDirectory(prefix="mayfly-bench-")  # gone with this process
        self._lease = leased(Path(self._directory.name))
        self._local = threading.local()

    def about(self) -> dict[str, str]:
        version = self.api().version()
        return {"docker": version["Version"], "docker-py": docker.__version__, "runtime": self.runtime}

    def prepare(self, program: dict[str, Any], at_once: int) -> None:
        environment = self._environments[program["environment"]]
        (self._lease.inputs / environment.file_name).write_text(program["code"], encoding="utf-8")
        image = self._images[environment.name]
        profile = profile_of(environment, image, self.runtime, self._lease, "bench")
        self._config = {**container_config(profile), "Entrypoint": self.entrypoint(program)}

    def entrypoint(self, program: dict[str, Any]) -> list[str]:
        """The command of the container."""
        return list(program["command"])

    def api(self) -> Any:
        """This thread's client."""
        if not hasattr(self._local, "api"):
            self._local.api = docker.APIClient()
        return self._local.api

    def make(self) -> tuple[str, socket.socket]:
        """A started container and its stream."""
        id = self.api().create_container_from_config(self._config)["Id"]
        wrapped = self.api().attach_socket(id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        stream = socket.socket(fileno=socket.dup(wrapped.fileno()))
        wrapped._response.close()
        wrapped.close()
        stream.settimeout(None)
        self.api().start(id)
        return id, stream

    def wait(self, id: str) -> None:
        """Wait until the engine reports a successful end."""
        code = self.api().wait(id)["StatusCode"]
        assert code == 0, f"the container ended with {code}"


class Loop(Api):
    """Everything for each program."""

    def run(self, program: dict[str, Any]) -> float:
        began = time.monotonic()
        id, stream = self.make()
        stream.shutdown(socket.SHUT_WR)
        out = b"".join(iter(lambda: stream.recv(2**18), b""))
        self.wait(id)
        seconds = time.monotonic() - began
        stream.close()
        self.api().remove_container(id, force=True)
        check(program, demultiplexed(out))
        return seconds


class Waiting(Api):
    """Containers started ahead; one thread for each run at a time removes the old and makes the next."""

    def __init__(self, setting: dict[str, Any], runtime: str) -> None:
        super().__init__(setting, runtime)
        self._waiting: deque[Future[tuple[str, socket.socket, int]]] = deque()
        self._threads: ThreadPoolExecutor | None = None

    def prepare(self, program: dict[str, Any], at_once: int) -> None:
        self._side = Agent(self._environments[program["environment"]])
        super().prepare(program, at_once)
        self._threads = ThreadPoolExecutor(at_once)
        for _ in range(AHEAD * at_once):
            self._waiting.append(self._threads.submit(self._next, None))

    def entrypoint(self, program: dict[str, Any]) -> list[str]:
        return self._side.command

    def settle(self) -> None:
        for future in list(self._waiting):
            future.result()

    def run(self, program: dict[str, Any]) -> float:
        began = time.monotonic()
        id, stream, source = self._waiting.popleft().result()
        self._side.converse(stream.fileno(), source, program)
        self.wait(id)
        seconds = time.monotonic() - began
        os.close(source)
        stream.close()
        assert self._threads
        self._waiting.append(self._threads.submit(self._next, id))
        return seconds

    def close(self) -> None:
        while self._waiting:
            id, stream, source = self._waiting.popleft().result()
            os.close(source)
            stream.close()
            self.api().remove_container(id, force=True)
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _next(self, old: str | None) -> tuple[str, socket.socket, int]:
        if old is not None:
            self.api().remove_container(old, force=True)
        id, stream = self.make()
        source, sink = os.pipe()
        threading.Thread(target=_pump, args=(stream, sink), daemon=True).start()
        self._side.ready(source)
        return id, stream, source


def _pump(stream: socket.socket, sink: int) -> None:
    """Standard output of the engine's multiplexed stream, as a plain one."""
    with os.fdopen(sink, "wb", buffering=0) as plain, stream.dup().makefile("rb") as source:
        while len(header := source.read(HEADER.size)) == HEADER.size:
            kind, length = HEADER.unpack(header)
            data = source.read(length)
            if kind == 1:
                plain.write(data)


def demultiplexed(data: bytes) -> bytes:
    """Standard output of a whole multiplexed stream."""
    out, at = bytearray(), 0
    while at + HEADER.size <= len(data):
        kind, length = HEADER.unpack_from(data, at)
        at += HEADER.size + length
        if kind == 1:
            out += data[at - length : at]
    return bytes(out)


def make(setting: dict[str, Any]) -> dict[str, Contestant]:
    """The variants; those with crun where the engine has it."""
    found: dict[str, Contestant] = {"run": CommandLine(setting), "loop runc": Loop(setting, "runc")}
    found["waiting runc"] = Waiting(setting, "runc")
    if "crun" in setting["runtimes"]:
        found |= {"loop crun": Loop(setting, "crun"), "waiting crun": Waiting(setting, "crun")}
    return found


if __name__ == "__main__":
    serve(make)
