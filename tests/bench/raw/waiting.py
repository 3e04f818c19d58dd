"""The process that waits in a raw container: Mayfly's own agent, or a least Python program with the same task.

Both wait on standard input for one program, fork, run it, and end with its exit code.
"""

from __future__ import annotations

import json
import os
import platform
import select
from base64 import b64encode
from typing import Any

from orchestrator.environments import Environment
from tests.bench.peers.serve import check
from worker.agent.frames import Decoder, FromAgent, ToAgent, encode
from worker.agent.requests import copy_bytes
from worker.sandbox.log_filter import log_filter

AGENT = ["/usr/bin/python3", "/usr/lib/mayfly/agent.pyc"]
BARE = r"""
import json, os, sys
imports = sys.argv[1:]
for name in imports: __import__(name)
os.write(1, b"READY\n")
start = json.loads(sys.stdin.readline())
pid = os.fork()
if pid == 0:
    if start["code"] is None: os.execv(start["command"][0], start["command"])
    exec(compile(start["code"], "main.py", "exec"), {"__name__": "__main__"})
    sys.stdout.flush()
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
READ_BYTES = 256 * 1024


def bare_command(environment: Environment) -> list[str]:
    """The least program; it has loaded ahead what matters for the program at hand, and skips ``site`` if it can."""
    heavy = [name for name in environment.preload if name in ("pandas", "numpy")]
    return ["/usr/bin/python3", *([] if heavy else ["-I", "-S"]), "-c", BARE, *heavy]


class Bare:
    """The host's side of the least program."""

    def __init__(self, environment: Environment) -> None:
        self._fork = environment.fork
        self.command = bare_command(environment)

    def ready(self, source: int) -> None:
        """Wait until it waits."""
        assert os.read(source, 64) == b"READY\n"

    def converse(self, sink: int, source: int, program: dict[str, Any]) -> None:
        """Send the program, and read all it prints."""
        start = {"code": program["code"] if self._fork else None, "command": program["command"]}
        _write(sink, json.dumps(start).encode() + b"\n")
        out = bytearray()
        while data := os.read(source, READ_BYTES):
            out += data
        check(program, bytes(out))


class Agent:
    """The host's side of Mayfly's agent, without anything that guards against it."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._denial_log = b64encode(log_filter(platform.machine())).decode()
        self.command = AGENT

    def ready(self, source: int) -> None:
        decoder = Decoder()
        while data := os.read(source, READ_BYTES):
            if any(frame.kind is FromAgent.READY for frame in decoder.feed(data)):
                return
        raise AssertionError("the agent ended before it was ready")

    def converse(self, sink: int, source: int, program: dict[str, Any]) -> None:
        _write(sink, encode(ToAgent.START, self._start()) + encode(ToAgent.STDIN, b""))
        decoder, out = Decoder(), bytearray()
        while data := os.read(source, READ_BYTES):
            for frame in decoder.feed(data):
                if frame.kind is FromAgent.STDOUT:
                    out += frame.payload
                elif frame.kind is FromAgent.EXIT:
                    _write(sink, encode(ToAgent.BYE))
        check(program, bytes(out))

    def _start(self) -> dict[str, Any]:
        limits, entrypoint = self._environment.defaults, f"/work/{self._environment.file_name}"
        return {
            "run": [entrypoint if part == "{entrypoint}" else part for part in self._environment.run],
            "fork": self._environment.fork,
            "entrypoint": entrypoint,
            "args": [],
            "env": self._environment.env,
            "compile": None,
            "wall_seconds": limits.wall_seconds,
            "cpu_seconds": limits.cpu_seconds,
            "memory_bytes": limits.memory_bytes,
            "cpu_cores": limits.cpu_cores,
            "artifacts": ["**"],
            "artifact_bytes": 64 * 2**20,
            "artifact_files": 1000,
            "denial_log": self._denial_log,
            "copy_bytes": copy_bytes(limits),
        }


def _write(sink: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        select.select([], [sink], [])
        rest = rest[os.write(sink, rest) :]
