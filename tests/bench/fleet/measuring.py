"""``make bench-fleet``: where the control plane saturates, with real APIs, workers and Redis over containers that cost
nothing (:mod:`tests.bench.fleet.empty`).

- *submit*: executions accepted a second by one API process, with no worker.
- *drain*: executions a second that 1, 2, 4, 8 workers take from a full queue; Redis and workers alone.
- *rq*: the same with RQ's own worker and a job that does nothing, which is the ceiling of a worker built on it.
- *wait*: executions a second through REST with ``Prefer: wait``, and how long one takes on an idle stack.

Rates are those of this machine at this moment. The CPU time of each process for one execution means more: it says what
one core can carry, and which process is the first to need another.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from orchestrator.settings import Settings
from orchestrator.store import keys
from tests.harness import ROOT, Process, RedisServer, Stack, eventually

BODY = json.dumps({"environment": "python", "code": "print(1)"})
WORKERS = (1, 2, 4, 8)
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
        for number in range(count):
            env = {**self.env, "MAYFLY_METRICS_PORT": "0"}
            log = self.directory / f"worker-{number}.log"
            self.workers.append(Process([sys.executable, "-m", "tests.bench.fleet.worker"], env, log))

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


def submit_only(runs: int) -> dict[str, Any]:
    with fleet() as made:
        submitted(made, CLIENTS, 202, CLIENTS)
        return measured(made, runs, lambda: timed(lambda: submitted(made, runs, 202, CLIENTS)))


def drained(runs: int, workers: int) -> dict[str, Any]:
    with fleet() as made:
        made.start_workers(workers)
        eventually(lambda: len(made.fleet()) == workers, "every worker is ready", 60)
        made.signal_workers(signal.SIGSTOP)
        submitted(made, runs, 202, CLIENTS)
        redis: Any = made.redis.client()

        def drain() -> None:
            made.signal_workers(signal.SIGCONT)
            eventually(lambda: redis.zcard(keys.EXPIRY) == runs, "every execution has ended", 300)

        found = measured(made, runs, lambda: timed(drain))
        redis.close()
        return found


RQ_WORKER = """
import sys, redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer
connection = redis.Redis.from_url(sys.argv[1])
connection.blpop("go")
worker = SimpleWorker(["jobs"], connection=connection, serializer=JSONSerializer, log_job_description=False)
worker.work(burst=True, logging_level="ERROR")
"""
RQ_JOBS = """
import sys, redis
from rq import Queue
from rq.serializers import JSONSerializer
queue = Queue("jobs", connection=redis.Redis.from_url(sys.argv[1]), serializer=JSONSerializer)
for _ in range(int(sys.argv[2])):
    queue.enqueue("time.time", result_ttl=0)
"""


def rq_drained(runs: int, workers: int) -> float:
    """Empty jobs a second of RQ's own worker that does not fork."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        server.start()
        redis: Any = server.client()
        log = Path(directory) / "rq.log"
        assert Process([sys.executable, "-c", RQ_JOBS, server.url, str(runs)], {}, log).popen.wait(120) == 0
        started = [Process([sys.executable, "-c", RQ_WORKER, server.url], {}, log) for _ in range(workers)]
        eventually(lambda: redis.info("clients")["blocked_clients"] == workers, "every worker is ready")
        redis.rpush("go", *range(workers))
        began = time.monotonic()
        eventually(lambda: not redis.exists("rq:queue:jobs"), "every execution has begun", 300)
        seconds = time.monotonic() - began
        for process in started:
            process.popen.wait(60)
        redis.close()
        server.stop()
    return runs / seconds


def waited(runs: int, workers: int) -> dict[str, Any]:
    with fleet() as made:
        made.start_workers(workers)
        made.ready()
        submitted(made, 50, 200, 1, "wait=60")
        alone: list[float] = []
        idle = measured(
            made, runs // 4, lambda: timed(lambda: alone.extend(submitted(made, runs // 4, 200, 1, "wait=60")))
        )
        found = measured(made, runs, lambda: timed(lambda: submitted(made, runs, 200, CLIENTS, "wait=60")))
    ordered = sorted(alone)
    idle |= {"p50_ms": 1000 * statistics.median(ordered), "p99_ms": 1000 * ordered[int(0.99 * len(ordered))]}
    return {"alone": idle, f"{CLIENTS} clients": found}


def measure(runs: int, workers: tuple[int, ...]) -> dict[str, Any]:
    """Everything."""
    return {
        "runs": runs,
        "submit": submit_only(runs),
        "drain": {str(count): drained(runs, count) for count in workers},
        "rq": {str(count): rq_drained(runs, count) for count in workers},
        "wait": waited(runs, min(4, max(workers))),
    }


def rows(figures: dict[str, Any]) -> list[list[str]]:
    """The table, its head first."""
    found = {"submit only, one API": figures["submit"]}
    found |= {f"drain, {count} workers": row for count, row in figures["drain"].items()}
    found |= {f"REST with wait, {name}": row for name, row in figures["wait"].items()}
    table = [["", "executions /s", "RQ alone /s", "API", "policy", "workers", "Redis", "all", "round trips"]]
    for name, row in found.items():
        rq = figures["rq"].get(name.removeprefix("drain, ").removesuffix(" workers"))
        cpu = [row["cpu_ms"][kind] for kind in ("api", "static policy", "workers", "redis")]
        cells = [f"{row['per_second']:.0f}", f"{rq:.0f}" if rq else "", *(f"{ms:.2f}" for ms in (*cpu, sum(cpu)))]
        table.append([name, *cells, f"{row['redis_round_trips']:.1f}"])
    return table


def alone(figures: dict[str, Any]) -> str:
    row = figures["wait"]["alone"]
    return f"REST with wait on an idle stack: p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms."


def show(figures: dict[str, Any]) -> None:
    """The table, at a terminal."""
    head, *body = rows(figures)
    table = Table(title=f"containers that cost nothing, {figures['runs']} executions; CPU time in ms for each")
    for heading in head:
        table.add_column(heading, justify="right" if heading else "left")
    for row in body:
        table.add_row(*row)
    console = Console(width=120)
    console.print(table)
    console.print(alone(figures))


def publish(figures: dict[str, Any]) -> None:
    """Put the figures at the end of the page about them."""
    page = ROOT / "docs" / "scaling.md"
    text, heading, _ = page.read_text(encoding="utf-8").partition("## Measured\n")
    head, *body = rows(figures)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = (
        f"{figures['runs']} executions, {os.cpu_count()} cores, on which clients run too. Between rates and round "
        "trips stands the CPU time of one execution, in milliseconds."
    )
    page.write_text(f"{text}{heading}\n{about}\n\n{table}\n\n{alone(figures)}\n", encoding="utf-8")


def main() -> int:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(prog="make bench-fleet", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--workers", type=lambda text: tuple(map(int, text.split(","))), default=WORKERS)
    parser.add_argument("--json", type=Path, default=Settings().state_dir / "bench" / "fleet.json")
    parser.add_argument("--publish", action="store_true", help="also write the figures into docs/scaling.md")
    options = parser.parse_args()
    figures = measure(options.runs, options.workers)
    show(figures)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.publish:
        publish(figures)
    return 0
