"""A driver whose containers are directories: they cost nothing, and stay behind when their worker is killed.

The sandbox's own end of the pipe plays the program: it prints the number of numbered lines given in the arguments, with
a pause before each.
"""

from __future__ import annotations

import glob
import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.fleet.empty import ENDED, EmptyDriver, EmptySandbox, frame, report
from worker.agent.frames import HEADER, FromAgent, ToAgent
from worker.counters import KILLED, Ended
from worker.drivers.base import Owned
from worker.sandbox.profile import SandboxProfile


def lines(token: str, number: int) -> list[str]:
    """The program's output."""
    return [f"{token}:{position}\n" for position in range(number)]


class Talking(EmptySandbox):
    """A sandbox whose answers come one after the other, each when it is due."""

    def __init__(self, profile: SandboxProfile, directory: Path) -> None:
        self.profile = profile
        self._directory = directory
        self._changed = threading.Condition()
        self._coming = deque([(0.0, frame(FromAgent.READY, report(profile)))])
        self._over = self.killed = False

    def start(self) -> None:
        self._directory.mkdir(parents=True)

    def send(self, data: bytes, timeout_seconds: float) -> None:
        kind, length = HEADER.unpack_from(data)
        with self._changed:
            if kind == ToAgent.START.value:
                self._begin(json.loads(data[HEADER.size : HEADER.size + length])["args"])
            elif kind == ToAgent.STOP.value and not self._over:
                self._coming = deque([(0.0, frame(FromAgent.EXIT, ENDED))])
            self._changed.notify()

    def receive(self, timeout_seconds: float) -> bytes | None:
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not self.killed:
                now = time.monotonic()
                if self._coming and self._coming[0][0] <= now:
                    return self._coming.popleft()[1]
                if now >= deadline:
                    return None
                due = self._coming[0][0] if self._coming else deadline
                self._changed.wait(max(0.0, min(due, deadline) - now))
            return b""

    def kill(self) -> None:
        with self._changed:
            self.killed = True
            self._changed.notify()

    def wait(self, timeout_seconds: float) -> Ended | None:
        return Ended(exit_code=KILLED if self.killed else 0, oom_killed=False)

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _begin(self, arguments: list[str]) -> None:
        token, number, pause_ms = arguments
        due = time.monotonic()
        self._coming.append((due, frame(FromAgent.RUNNING, {})))
        for line in lines(token, int(number)):
            due += int(pause_ms) / 1000
            self._coming.append((due, frame(FromAgent.STDOUT, line.encode())))
        self._coming.append((due, frame(FromAgent.EXIT, ENDED)))


class Container(NamedTuple):
    """The handle of a container, which is a directory."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def worker(self) -> str:
        return self.path.parent.name

    def destroy(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # two workers may reap it at once


class Directories(EmptyDriver):
    """Every environment; a container is the directory ``<root>/<worker>/<name>``."""

    name = "directories"

    def __init__(self, root: Path, worker: str) -> None:
        self._root, self._worker = root, worker

    def sandbox(self, profile: SandboxProfile) -> Talking:
        return Talking(profile, self._root / self._worker / profile.name)

    def owned(self) -> Sequence[Owned]:
        return [Container(Path(path)) for path in glob.glob(f"{self._root}/*/*")]
