"""An installation of real processes whose workers have the empty driver, its clients, and what its executions cost."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from orchestrator.store import keys
from tests.harness import Process, Stack, eventually

BODY = json.dumps({"environment": "python", "code": "print(1)"})
SLOTS = 4
CLIENTS = 8


class Fleet(Stack):
    """An installation whose workers have the empty driver."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, accept_weaker=True, pool_size=0, pool_sizes={"python": 2 * SLOTS}, slots=SLOTS,
            lease_seconds=60, janitor_seconds=2,
        )  # fmt: skip

    def start_workers(self, count: int) -> None:
        for _ in range(count):
            env = {**self.env, "MAYFLY_METRICS_PORT": "0"}
            log = self.directory / f"worker-{len(self.workers)}.log"
            self.workers.append(Process([sys.executable, "-m", "tests.bench.fleet.worker"], env, log))

    def start_idle_workers(self, count: int) -> None:
        """Start workers, and wait until they have run some executions and all their slots are idle."""
        self.start_workers(count)
        redis: Any = self.redis.client()
        ended, runs, slots = redis.zcard(keys.EXPIRY), 4 * SLOTS * count, SLOTS * len(self.workers)

        def await_idle() -> None:
            eventually(lambda: redis.info("clients")["blocked_clients"] >= slots, "every slot is idle", 60)

        await_idle()
        submitted(self, runs, 202, CLIENTS)
        eventually(lambda: redis.zcard(keys.EXPIRY) == ended + runs, "every execution has ended", 60)
        await_idle()
        redis.close()

    def signal_workers(self, number: int) -> None:
        for worker in self.workers:
            worker.popen.send_signal(number)

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time so far of each kind of process."""
        assert self.api is not None
        assert self.redis.process is not None
        api = psutil.Process(self.api.pid)
        kinds = {
            "api": [api],
            "static policy": api.children(),
            "workers": [psutil.Process(worker.pid) for worker in self.workers],
            "redis": [psutil.Process(self.redis.process.pid)],
        }
        return {kind: sum(sum(process.cpu_times()[:2]) for process in found) for kind, found in kinds.items()}

    def commands(self) -> dict[str, int]:
        """Commands that Redis has carried out, and times it read a request."""
        client = self.redis.client()
        stats: Any = client.info("stats")
        client.close()
        return {"commands": stats["total_commands_processed"], "round_trips": stats["total_reads_processed"]}

    def stop(self) -> None:
        for process in (*self.workers, *([self.api] if self.api else [])):
            process.stop()
        self.redis.stop()
        self.client.close()
        sandboxes = self.directory / "state" / "sandboxes"
        if sandboxes.is_symlink():
            shutil.rmtree(sandboxes.resolve().parent)


@contextmanager
def fleet() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory() as directory:
        made = Fleet(Path(directory))
        made.redis.start()
        made.start_api()
        try:
            yield made
        finally:
            made.stop()


def measured(made: Fleet, runs: int, work: Callable[[], float]) -> dict[str, Any]:
    """The cost of ``runs`` executions, which ``work`` has done; it returns the seconds they took."""
    cpu, before = made.cpu_seconds(), made.commands()
    seconds = work()
    spent, after = made.cpu_seconds(), made.commands()
    return {
        "per_second": runs / seconds,
        "cpu_ms": {kind: 1000 * (spent[kind] - cpu[kind]) / runs for kind in cpu},
        **{f"redis_{name}": (after[name] - before[name]) / runs for name in before},
    }


class Client:
    """One kept-alive connection, as cheap as Python has it."""

    def __init__(self, made: Fleet, prefer: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", made.port)
        self._headers = {"Authorization": f"Bearer {made.key}", "Content-Type": "application/json"}
        self._headers |= {"Prefer": prefer} if prefer else {}

    def submit(self, wanted: int) -> float:
        """Seconds until the answer is here."""
        began = time.monotonic()
        self._connection.request("POST", "/api/v1/executions", BODY, self._headers)
        with self._connection.getresponse() as answer:
            text = answer.read()
        assert answer.status == wanted, text
        return time.monotonic() - began

    def close(self) -> None:
        self._connection.close()


def submitted(made: Fleet, runs: int, wanted: int, clients: int, prefer: str | None = None) -> list[float]:
    """How long each of ``runs`` submissions took, from so many clients at once."""

    def one_client(number: int) -> list[float]:
        client = Client(made, prefer)
        try:
            return [client.submit(wanted) for _ in range(number, runs, clients)]
        finally:
            client.close()

    with ThreadPoolExecutor(clients) as threads:
        return [seconds for found in threads.map(one_client, range(clients)) for seconds in found]


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
