"""``make bench-fleet``: where the control plane saturates, with real APIs, workers and Redis over containers that cost
nothing (:mod:`tests.bench.fleet.empty`).

- *submit*: executions accepted a second by one API process, with no worker.
- *drain*: executions a second that 1, 2, 4, 8 workers take from a full queue; Redis and workers alone. The workers have
  started and run some executions before: the start of a process takes as long as hundreds of executions.
- *rq*: the same with RQ's own worker and a job that does nothing, which is the ceiling of a worker built on it.
- *wait*: executions a second through REST with ``Prefer: wait``, and how long one takes on an idle stack.

Rates are those of this machine at this moment. The CPU time of each process for one execution means more: it says what
one core can carry, and which process is the first to need another.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.settings import Settings
from orchestrator.store import keys
from tests.bench.fleet.installation import CLIENTS, fleet, measured, submitted, timed
from tests.harness import ROOT, Process, RedisServer, eventually

WORKERS = (1, 2, 4, 8)


def submit_only(runs: int) -> dict[str, Any]:
    with fleet() as made:
        submitted(made, CLIENTS, 202, CLIENTS)
        return measured(made, runs, lambda: timed(lambda: submitted(made, runs, 202, CLIENTS)))


def drained(runs: int, workers: int) -> dict[str, Any]:
    with fleet() as made:
        made.start_idle_workers(workers)
        made.signal_workers(signal.SIGSTOP)
        redis: Any = made.redis.client()
        ended = redis.zcard(keys.EXPIRY) + runs
        submitted(made, runs, 202, CLIENTS)

        def drain() -> None:
            made.signal_workers(signal.SIGCONT)
            eventually(lambda: redis.zcard(keys.EXPIRY) == ended, "every execution has ended", 300)

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
