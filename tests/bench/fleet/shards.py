"""``make bench-shards``: tenants shared out among installations, each with a Redis of its own.

Theory of operation
===================
A machine of two cores cannot keep eight Redis busy. So each Redis gets the same small share of one core
(:class:`Throttle`), which makes Redis the bound of each shard; workers with the empty driver (:mod:`.empty`) then need
a fraction of the machine. For each number of shards the queues of so many shards are filled, their workers continue,
and each shard's rate is that of its own executions until its last has ended. The sum should grow with the shards, and
Redis's time for an execution should stay the same. More workers on a single shard are the control: they add nothing.

A tenant belongs to one shard, and its key counts there alone; the bench checks that no shard has another's executions.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from orchestrator.settings import Settings
from orchestrator.store import keys
from tests.bench.fleet.installation import BODY, Fleet, fleet
from tests.bench.wire import Wire
from tests.harness import ROOT, eventually

SHARDS = (1, 2, 4, 8)
SHARE = 0.02  # of a core, for each Redis
TENANTS = 2  # of each shard
EXECUTIONS = "/api/v1/executions/batch"
BATCH = 50
LOOK_SECONDS = 0.002
BEGIN, END = "<!-- begin shards -->\n", "<!-- end shards -->\n"


class Throttle:
    """Gives each process at most a share of one core, by signals: no cgroup and no right is needed for that."""

    def __init__(self, pids: Sequence[int], share: float) -> None:
        self._share = share
        self._over = threading.Event()
        self._stopped: set[int] = set()
        self._before = {pid: cpu_seconds(pid) for pid in pids}
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="throttle")

    def __enter__(self) -> Throttle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for pid in self._stopped:
            os.kill(pid, signal.SIGCONT)

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            elapsed = time.monotonic() - self._began
            for pid, before in self._before.items():
                is_over = exceeds(cpu_seconds(pid) - before, elapsed, self._share)
                if is_over != (pid in self._stopped):
                    os.kill(pid, signal.SIGSTOP if is_over else signal.SIGCONT)
                    self._stopped ^= {pid}


def exceeds(used_seconds: float, elapsed_seconds: float, share: float) -> bool:
    """Whether a process has used more than its share of a core."""
    return used_seconds > share * elapsed_seconds


def cpu_seconds(pid: int) -> float:
    """The time for which a process's first thread has run, exact to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


class Shard:
    """One installation, its tenants, and the number of their executions."""

    def __init__(self, number: int, made: Fleet) -> None:
        self.made = made
        self.tenants = [f"tenant-{number}-{letter}" for letter in range(TENANTS)]
        self._tokens = {
            tenant: str(made.new_key("executions:write", tenant=tenant)["secret"]) for tenant in self.tenants
        }
        self._client: Any = made.redis.client()
        self._submitted = 0
        self.start_workers(1)

    @property
    def redis_pid(self) -> int:
        assert self.made.redis.process is not None
        return self.made.redis.process.pid

    def start_workers(self, count: int) -> None:
        """Start idle workers."""
        self.made.start_idle_workers(count)
        self._submitted = self._client.zcard(keys.EXPIRY)

    def fill(self, runs: int) -> None:
        """Submit executions of every tenant, which no worker takes yet."""
        self._submitted += runs
        for number, (tenant, token) in enumerate(self._tokens.items()):
            left = runs // TENANTS + (number < runs % TENANTS)
            with Wire(self.made.port, token) as wire:
                while left:
                    batch = [json.loads(BODY)] * min(BATCH, left)
                    answers = wire.post(EXECUTIONS, {"executions": batch})
                    assert all("execution" in answer for answer in answers), (tenant, answers)
                    left -= len(batch)

    def seconds_to_end(self, began: float) -> float:
        """The time from ``began`` to the end of every execution."""
        eventually(lambda: self._client.zcard(keys.EXPIRY) == self._submitted, "every execution has ended", 300)
        return time.monotonic() - began

    def owners(self) -> set[str]:
        """The tenants of this shard's executions, without those that warmed its workers up."""
        indexes = [key.decode() for key in self._client.scan_iter(keys.tenant_index("*"), 1000)]
        return {key.split(":")[2] for key in indexes} - {"default"}

    def close(self) -> None:
        self._client.close()


@contextmanager
def sharded(count: int) -> Iterator[list[Shard]]:
    """So many shards, each with one idle worker."""
    with ExitStack() as ends:

        def start(number: int) -> Shard:
            shard = Shard(number, ends.enter_context(fleet()))
            ends.callback(shard.close)
            return shard

        with ThreadPoolExecutor(2) as starters:
            shards = list(starters.map(start, range(count)))
        yield shards


def drained(shards: Sequence[Shard], runs: int, share: float) -> dict[str, Any]:
    """The rates at which shards at work together drain their queues."""
    for shard in shards:
        shard.made.signal_workers(signal.SIGSTOP)
        shard.fill(runs)
        assert shard.made.api is not None
        shard.made.api.popen.send_signal(signal.SIGSTOP)  # its janitor would need a part of Redis's share
    pids = [shard.redis_pid for shard in shards]
    with ThreadPoolExecutor(len(shards)) as watchers, Throttle(pids, share):
        began, before = time.monotonic(), sum(map(cpu_seconds, pids))
        for shard in shards:
            shard.made.signal_workers(signal.SIGCONT)
        seconds = list(watchers.map(lambda shard: shard.seconds_to_end(began), shards))
        used = sum(map(cpu_seconds, pids)) - before
    for shard in shards:
        assert shard.made.api is not None
        shard.made.api.popen.send_signal(signal.SIGCONT)
    rates = [runs / each for each in seconds]
    return {
        "shards": len(shards),
        "workers": sum(len(shard.made.workers) for shard in shards),
        "sum": sum(rates),
        "rates": rates,
        "redis_ms": 1000 * used / (runs * len(shards)),
    }


def measure(counts: Sequence[int], runs: int, share: float) -> list[dict[str, Any]]:
    """A row for each number of shards; then the control, as many workers on a single shard."""
    with sharded(max(counts)) as shards:
        found = [drained(shards[:count], runs, share) for count in counts]
        shards[0].start_workers(max(counts) - 1)
        found.append(drained(shards[:1], runs, share))
        for shard in shards:
            assert shard.owners() == set(shard.tenants), (shard.owners(), shard.tenants)
    return found


def table(found: Sequence[dict[str, Any]], share: float) -> str:
    """Markdown."""
    lines = [
        ("Redis", "workers", "executions /s, all", "of one shard: least, most", "Redis, ms for one", "times the first"),
        ("---:",) * 6,
    ]
    for row in found:
        least, most = min(row["rates"]), max(row["rates"])
        grown = row["sum"] / found[0]["sum"]
        lines.append((
            str(row["shards"]), str(row["workers"]), f"{row['sum']:.0f}", f"{least:.0f}, {most:.0f}",
            f"{row['redis_ms']:.2f}", f"{grown:.1f}",
        ))  # fmt: skip
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"Each Redis has {share:.0%} of a core; {os.cpu_count()} cores in all.\n\n{text}"


def publish(text: str) -> None:
    """Replace the table in docs/scaling.md."""
    page = ROOT / "docs" / "scaling.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


def main() -> int:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(prog="make bench-shards", description=__doc__)
    parser.add_argument("--shards", type=lambda text: tuple(map(int, text.split(","))), default=SHARDS)
    parser.add_argument("--runs", type=int, default=400, help="executions of each shard")
    parser.add_argument("--share", type=float, default=SHARE, help="of a core, for each Redis")
    parser.add_argument("--json", type=Path, default=Settings().state_dir / "bench" / "shards.json")
    parser.add_argument("--publish", action="store_true", help="also write the table into docs/scaling.md")
    options = parser.parse_args()
    found = measure(options.shards, options.runs, options.share)
    text = table(found, options.share)
    print(text)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.publish:
        publish(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
