"""The agent as an ordinary process on pipes."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from sandbox_image.debian import copy_agent
from tests.harness import eventually
from worker.agent.frames import Decoder, Frame, FromAgent, ToAgent, encode

_copy = tempfile.TemporaryDirectory(prefix="mayfly-agent-")
atexit.register(_copy.cleanup)
copy_agent(Path(_copy.name))
AGENT = Path(_copy.name) / "agent.py"  # in one directory with its modules, as in an image
SECONDS = 20.0
MEMORY_BYTES = 2**29


class Agent:
    """An agent started on pipes, with directories of its own in place of the container's mounts."""

    def __init__(self, root: Path, preload: tuple[str, ...] = ("json", "re", "threading"), **env: str) -> None:
        self.paths = {name: str(root / name) for name in ("inputs", "identity", "work", "tmp", "output")}
        for path in self.paths.values():
            Path(path).mkdir(parents=True)
        settings = {"name": "test", "version": "1", "fork": True, "preload": preload, "paths": self.paths}
        (root / "environment.json").write_text(json.dumps(settings))
        self.env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": self.paths["work"], **env}
        self.process = subprocess.Popen(
            [sys.executable, str(AGENT), str(root / "environment.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
        )
        self.decoder = Decoder()
        self.frames = self._frames()

    def _frames(self) -> Iterator[Frame]:
        assert self.process.stdout
        while data := os.read(self.process.stdout.fileno(), 65536):
            yield from self.decoder.feed(data)

    def write(self, kind: ToAgent, payload: bytes | dict[str, Any] = b"") -> None:
        assert self.process.stdin
        self.process.stdin.write(encode(kind, payload))
        self.process.stdin.flush()

    def input(self, name: str, text: str) -> str:
        path = Path(self.paths["inputs"], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def prepare(self, **changed: Any) -> int:
        """Have a process wait for its program, by default a fork; returns its pid."""
        entrypoint = f"{self.paths['work']}/main.py"
        prepared = {
            "run": [sys.executable, entrypoint],
            "fork": True,
            "entrypoint": entrypoint,
            "env": self.env,
            "cpu_seconds": SECONDS,
            "memory_bytes": MEMORY_BYTES,
            "denial_log": "",
            "preload": (),
            "idle_seconds": 0.0,
        }
        self.write(ToAgent.PREPARE, {**prepared, **changed})
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        [waiting] = eventually(lambda: children.read_text().split(), "the process waits")
        return int(waiting)

    def start(self, stdin: bytes = b"", run: list[str] | None = None, **changed: Any) -> None:
        entrypoint = f"{self.paths['work']}/main.py"
        fields: dict[str, Any] = {
            "run": run or [sys.executable, entrypoint],
            "fork": run is None,
            "entrypoint": entrypoint,
            "args": [],
            "env": self.env,
            "compile": None,
            "wall_seconds": SECONDS,
            "cpu_seconds": SECONDS,
            "memory_bytes": MEMORY_BYTES,
            "artifacts": ["**"],
            "artifact_bytes": 2**20,
            "artifact_files": 100,
            "denial_log": "",
            "copy_bytes": 2**20,
        }
        order = {**fields, **changed}
        left_out = {name for name, value in order.items() if value is None} - {"compile"}
        self.write(ToAgent.START, {name: value for name, value in order.items() if name not in left_out})
        self.write(ToAgent.STDIN, stdin)

    def end(self) -> Result:
        """Read to EXIT, say BYE, and wait for the agent's own end."""
        result = Result()
        for frame in self.frames:
            result.add(frame)
            if frame.kind is FromAgent.EXIT:
                break
        self.write(ToAgent.BYE)
        result.code = self.process.wait(SECONDS)
        return result

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()


def asleep(pid: int) -> Callable[[], bool]:
    """A probe: whether that process sleeps and has not run for three probes.

    ``/proc/<pid>/syscall`` shows the call, but that of an agent, which is not dumpable, to root alone.
    """
    seen: list[str] = []

    def probe() -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        seen.append("".join(line for line in status.splitlines() if "ctxt_switches" in line))
        return "\nState:\tS" in status and len(seen) > 3 and len(set(seen[-4:])) == 1

    return probe


class Result:
    """The frames that an agent sent after START."""

    def __init__(self) -> None:
        self.out: dict[FromAgent, bytes] = {}
        self.kinds: list[FromAgent] = []
        self.files: dict[str, bytes] = {}
        self.rejected: dict[str, str] = {}
        self.compiled: dict[str, Any] = {}
        self.exit: dict[str, Any] = {}
        self.code = -1
        self._path = ""

    def add(self, frame: Frame) -> None:
        self.kinds.append(frame.kind)
        assert len(frame.payload) <= 64 * 1024
        match frame.kind:
            case FromAgent.FILE:
                self._path = frame.json()["path"]
                self.files[self._path] = b""
            case FromAgent.FILE_DATA:
                self.files[self._path] += frame.payload
            case FromAgent.REJECTED:
                self.rejected[frame.json()["path"]] = frame.json()["why"]
            case FromAgent.COMPILED:
                self.compiled = frame.json()
            case FromAgent.EXIT:
                self.exit = frame.json()
            case kind:
                self.out[kind] = self.out.get(kind, b"") + frame.payload

    @property
    def stdout(self) -> bytes:
        return self.out.get(FromAgent.STDOUT, b"")

    @property
    def stderr(self) -> bytes:
        return self.out.get(FromAgent.STDERR, b"")


def unread(pipe: IO[bytes]) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
