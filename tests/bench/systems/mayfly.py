"""Mayfly as a contestant: an installation of its own for each driver, asked over REST as any client would."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from orchestrator.models import Isolation
from orchestrator.settings import Settings
from tests.bench.systems.child import Absent
from tests.bench.systems.programs import Program
from tests.bench.wire import Wire
from tests.harness import Stack, eventually

EXECUTIONS = "/api/v1/executions"
WAIT_SECONDS = 60
BATCH = 100
COLD_BYTES = 4096  # a file system keeps the size it was mounted with, so no waiting container has this much less disk
POOL = re.compile(r'^mayfly_pool_(wanted_)?containers\{.*environment="([^"]+)".*\} ([\d.]+)$', re.MULTILINE)
BUSY = re.compile(r"^mayfly_worker_slots_busy ([\d.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Driver:
    """A driver, the runtime it is given, and the isolation that is asked for.

    ``directory`` has another release of the runtime than this host's; ``release`` names it.
    """

    driver: str
    runtime: str
    isolation: Isolation = "standard"
    release: str = ""
    directory: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.driver}/{self.runtime}{self.release and f' {self.release}'}"

    @property
    def contestant(self) -> str:
        return f"Mayfly {self.name}"


DRIVERS = (Driver("docker", "runc"), Driver("docker", "crun"), Driver("oci", "crun"))


def known(driver: Driver) -> bool:
    """Whether this Mayfly has that driver at all."""
    annotation = Settings.model_fields["driver"].annotation
    return driver.driver in get_args(annotation)


@dataclass(frozen=True)
class Sample:
    """One execution: seconds as its client saw them, and as Mayfly accounts for them."""

    total: float
    queue: float
    start: float
    run: float
    collect: float
    warm: bool


class Mayfly:
    """One installation with one worker."""

    def __init__(self, driver: Driver, directory: Path, **settings: Any) -> None:
        self.driver = driver
        self.name = driver.contestant
        chosen = {
            "driver": driver.driver,
            f"{driver.isolation}_runtime": driver.runtime,
            "janitor_seconds": 2.0,
            "lease_seconds": 10.0,
            "queue_limit": 50_000,
        }
        if driver.isolation == "hardened":  # whose containers wait only where the settings say so
            chosen |= {"standard_runtime": "crun"}
            settings |= {"pool_size": 0, "pool_sizes": {"python": 0, "python/hardened": 2}}
        self.stack = Stack(directory, **{**chosen, **settings})
        if driver.directory is not None:
            self.stack.env["PATH"] = f"{driver.directory}:{os.environ['PATH']}"
        self._full: dict[str, float] = {}

    def start(self) -> Mayfly:
        """Start it, and wait until its pool is full. Raises :class:`Absent` with the reason when that fails."""
        try:
            self.stack.start()
            self._full = eventually(self._settled, "the pool is full", 120)
        except AssertionError as error:
            raise Absent(f"{error}\n{self.stack.logs()}") from error
        return self

    def stop(self) -> None:
        self.stack.stop()

    @property
    def about(self) -> dict[str, str]:
        """Versions, and the driver and runtime of an execution."""
        [worker] = self.stack.fleet()
        return {"engine": worker["engine"], "driver": self.driver.driver, "runtime": self.driver.runtime}

    @property
    def warm_environments(self) -> set[str]:
        """Environments of which containers wait."""
        return {name for name, count in self._full.items() if count}

    def takes(self, program: Program) -> bool:
        """All programs; of the hardened tier the smallest alone."""
        return self.driver.isolation == "standard" or program.name == "print"

    def wire(self, token: str | None = None) -> Wire:
        """A client, of the administrator or of another tenant."""
        return Wire(self.stack.port, token or self.stack.key)

    def latency(self, program: Program, runs: int) -> list[float]:
        return [sample.total for sample in self.samples(program, runs)]

    def samples(self, program: Program, runs: int, cold: bool = False) -> list[Sample]:
        """``runs`` executions one after another, each on an idle stack whose pool is full."""
        with self.wire() as wire:
            request = wire.prepared("POST", EXECUTIONS, self.body(program, cold), WAIT_SECONDS)
            found = []
            for _ in range(runs):
                self.settle(program.environment)
                wire.connect()
                began = time.monotonic()
                execution = wire.exchange(request)
                found.append(_sample(time.monotonic() - began, execution, program))
        return found

    def first_byte(self, program: Program, runs: int) -> list[tuple[float, float]]:
        """Seconds to the first output over the event stream: since the submission was sent, and since its answer."""
        found = []
        with self.wire() as wire, self.wire() as listener:
            request = wire.prepared("POST", EXECUTIONS, self.body(program))
            for _ in range(runs):
                self.settle(program.environment)
                wire.connect(), listener.connect()
                began = time.monotonic()
                id = wire.exchange(request)["id"]
                accepted = time.monotonic()
                seen = listener.seconds_until(f"{EXECUTIONS}/{id}/stream", b"event: stdout")
                found.append((seen - began, seen - accepted))
        return found

    def throughput(self, program: Program, seconds: float, at_once: int) -> list[float]:
        """When each execution had ended, in seconds, with ``at_once`` clients that wait for theirs, for some time."""
        self.settle(program.environment)
        wires = [self.wire() for _ in range(at_once)]
        request = wires[0].prepared("POST", EXECUTIONS, self.body(program), WAIT_SECONDS)
        began = time.monotonic()

        def client(wire: Wire) -> list[float]:
            ends = []
            with wire:
                while time.monotonic() - began < seconds:
                    execution = wire.exchange(request)
                    ends.append(time.monotonic() - began)
                    _check(execution, program)
            return ends

        with ThreadPoolExecutor(at_once) as clients:
            return sorted(end for ends in clients.map(client, wires) for end in ends)

    def burst(self, program: Program, count: int, at_once: int) -> float:
        """Seconds from the submission of ``count`` executions at once to the last one's result.

        How many run at a time is the worker's business, not the client's.
        """
        self.settle(program.environment)
        with self.wire() as wire:
            began = time.monotonic()
            ids = []
            for start in range(0, count, BATCH):
                batch = [self.body(program)] * min(BATCH, count - start)
                answers = wire.post(f"{EXECUTIONS}/batch", {"executions": batch})
                ids += [answer["execution"]["id"] for answer in answers]
            for id in ids:
                _check(wire.get(f"{EXECUTIONS}/{id}?wait={WAIT_SECONDS}"), program)
            return time.monotonic() - began

    def settle(self, environment: str) -> None:
        """Wait until nothing runs, and as many containers wait as did at the start, or as the worker now wants."""
        eventually(lambda: self._idle(environment), f"the stack is idle and {environment} waits", 120)

    def let_rest(self, environment: str) -> None:
        """Settle, unless others keep it busy."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: self._idle(environment), "the stack is idle", 5)

    def body(self, program: Program, cold: bool = False) -> dict[str, Any]:
        """A program as a submission; ``cold`` asks for a limit that no waiting container has."""
        body: dict[str, Any] = {
            "environment": program.environment, "code": program.code, "isolation": self.driver.isolation
        }  # fmt: skip
        if program.input_bytes:
            each = base64.b64encode(b"x" * 2**20).decode()
            body["files"] = [
                {"path": f"data/{n}.txt", "content": each, "encoding": "base64"}
                for n in range(program.input_bytes // 2**20)
            ]
        if cold:
            body["limits"] = {"disk_bytes": 64 * 2**20 - COLD_BYTES}
        return body

    def _idle(self, environment: str) -> bool:
        busy, waiting, wanted = self._metrics()
        enough = max(self._full.get(environment, 0), wanted.get(environment, 0))
        return busy == 0 and waiting.get(environment, 0) >= enough

    def _settled(self) -> dict[str, float] | None:
        """Containers waiting, once none has been added for a while."""
        _, first, _ = self._metrics()
        time.sleep(1.5)  # longer than one takes to make, also a cold python-data
        _, second, _ = self._metrics()
        return second if second and first == second else None

    def _metrics(self) -> tuple[float, dict[str, float], dict[str, float]]:
        """Slots in use, and by environment the containers that wait and those that are wanted."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stack.env['MAYFLY_METRICS_PORT']}/metrics") as answer:
            text = answer.read().decode()
        found: dict[str, dict[str, float]] = {"": {}, "wanted_": {}}
        for which, environment, count in POOL.findall(text):
            found[which][environment] = found[which].get(environment, 0) + float(count)
        return float(BUSY.findall(text)[0]), found[""], found["wanted_"]


@contextlib.contextmanager
def installed(driver: Driver, directory: Path, **settings: Any) -> Iterator[Mayfly]:
    """An installation, ended when the block is left. Raises :class:`Absent` when it does not start."""
    place = directory / driver.name.replace("/", "-")
    place.mkdir()
    mayfly = Mayfly(driver, place, **settings)
    try:
        yield mayfly.start()
    finally:
        mayfly.stop()


def _sample(total: float, execution: dict[str, Any], program: Program) -> Sample:
    _check(execution, program)
    timings = execution["timings"]
    queue, start, run, collect = (timings[f"{part}_seconds"] for part in ("queue", "start", "run", "collect"))
    return Sample(total, queue, start, run, collect, warm=execution["start"] == "warm")


def _check(execution: dict[str, Any], program: Program) -> None:
    assert execution["state"] == "succeeded", execution
    assert execution["stdout_bytes"] == len(program.stdout), execution["stdout"][:200]
    assert program.stdout.startswith(execution["stdout"][:100])  # much of it stands in the record in part
    assert len(execution["artifacts"]) == program.artifacts
