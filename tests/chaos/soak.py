"""A soak: hours of load and faults, checked for lost executions and growing resources.

Clients keep an installation at seven tenths of its throughput, which is measured first, while faults come. Each
execution is checked as soon as its client knows the end, and expires soon afterwards; at the end nothing is left. One
worker and the API are not killed, since their resources are watched all the time.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from orchestrator.store import keys
from tests.chaos.installations.installation import Installation, Load
from tests.chaos.installations.proxy import Proxy
from tests.chaos.invariants import Accepted, of_one
from tests.chaos.kills import Report
from tests.chaos.mixture import BY_DRIVER, CLIENTS, Mixture, plan
from tests.harness import eventually

WORKERS = 2
SHARE = 0.7  # of the capacity
TRIAL_SECONDS = 30.0  # without a fault, to find the capacity
RETENTION_SECONDS = 60.0
LOOKS = 240  # in the whole time
PAUSES = 10.0  # how much longer between faults than in a mixture, at most half a second there
UNTOUCHED = ("api killed",)


@dataclass(frozen=True)
class Holdings:
    """The resources in use at one moment.

    Of what Redis holds that is left out which grows for longer than a soak: a counter of rates for each ten seconds of
    an hour, and a key for each submission of a day, by which it is known when it is sent again.
    """

    api_bytes: int
    api_descriptors: int
    api_threads: int
    worker_bytes: int
    worker_descriptors: int
    worker_threads: int
    redis_keys: int
    redis_bytes: int
    host_cgroups: int
    leased_uids: int
    disk_bytes: int  # of files of executions


@dataclass(frozen=True)
class Soaked:
    """The executions, their rate, and the resources in use during the soak."""

    report: Report
    capacity: float
    holdings: list[Holdings]


def soak(stack: Installation, seconds: float, seed: int, trial_seconds: float = TRIAL_SECONDS) -> Soaked:
    """Load and faults for so long. The installation has to have ``RETENTION_SECONDS``."""
    proxy = Proxy(stack.redis.socket, seed)
    stack.env["MAYFLY_REDIS_URL"] = proxy.url
    mixture = Mixture(stack, proxy)
    # Redis is killed, too: a reader has to wait until it is back.
    redis: Any = Redis.from_url(stack.redis.url, retry=Retry(ConstantBackoff(0.2), 150))
    faults = {name: share for name, share in BY_DRIVER[stack.driver].items() if name not in UNTOUCHED}
    found: list[str] = []

    def judge(one: Accepted) -> None:
        found.extend(of_one(redis, one))

    try:
        crew = stack.begin(WORKERS, iter(()))
        eventually(crew.pids, "there are workers")
        mixture.spared = crew.pids()[0]
        capacity = _capacity(stack, trial_seconds, seed)
        load = Load(stack, CLIENTS, seed, per_second=SHARE * capacity, judge=judge)
        watch = Watch(stack, mixture.spared, redis, seconds / LOOKS)
        until = time.monotonic() + seconds
        for step in takewhile(lambda _: time.monotonic() < until and load.busy, plan(seed, faults)):
            mixture.inject(step)
            time.sleep(min(step.pause * PAUSES, max(0.0, until - time.monotonic())))
        looks = watch.end()
        load.stop()
        eventually(
            lambda: not list(redis.scan_iter(keys.execution("*"), 1000)),
            "every execution expires",
            3 * RETENTION_SECONDS,
        )
        found += load.refused + stack.check([], all_kept=False)
        return Soaked(Report(load.forgotten, mixture.done, load.again, found), capacity, looks)
    finally:
        mixture.close()
        proxy.close()
        redis.close()


def _capacity(stack: Installation, seconds: float, seed: int) -> float:
    """Executions a second when each client submits again at each end: for so many seconds, and one for each client."""
    load = Load(stack, CLIENTS, seed, judge=lambda _: None)
    eventually(lambda: load.reported, "the first execution has ended", 120)
    began, before = time.monotonic(), load.forgotten
    time.sleep(seconds)
    eventually(lambda: load.forgotten - before >= CLIENTS, "there is a rate", 120)
    rate = (load.forgotten - before) / (time.monotonic() - began)
    load.stop()
    return rate


class Watch:
    """Samples the resources in use until it is stopped."""

    def __init__(self, stack: Installation, worker: int, redis: Any, pause_seconds: float) -> None:
        assert stack.api is not None
        self._api, self._worker, self._redis = psutil.Process(stack.api.pid), psutil.Process(worker), redis
        self._state, self._pause_seconds = stack.directory / "state", pause_seconds
        self._looks: list[Holdings] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> list[Holdings]:
        """The looks so far. Raises if an observed process is gone."""
        self._ended.set()
        self._thread.join()
        self._looks.append(self.look())
        return self._looks

    def _run(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            self._looks.append(self.look())

    def look(self) -> Holdings:
        """The resources in use now."""
        api, worker, redis = self._api, self._worker, self._redis
        rates = sum(1 for _ in redis.scan_iter(f"{keys.RATES}[0-9]*", 1000))
        remembered = list(redis.scan_iter(keys.idempotency("*", "*"), 1000))
        remembered_bytes = len(remembered) * redis.memory_usage(remembered[0]) if remembered else 0
        stats = redis.memory_stats()
        tables = stats.get("db.0", {}).get("overhead.hashtable.expires", 0)
        return Holdings(
            api_bytes=api.memory_info().rss,
            api_descriptors=api.num_fds(),
            api_threads=api.num_threads(),
            worker_bytes=worker.memory_info().rss,
            worker_descriptors=worker.num_fds(),
            worker_threads=worker.num_threads(),
            redis_keys=redis.dbsize() - rates - len(remembered),
            redis_bytes=stats["total.allocated"] - remembered_bytes - tables,
            host_cgroups=sum(1 for _ in Path("/sys/fs/cgroup").glob("*/mayfly/*")),
            leased_uids=sum(1 for _ in (self._state / "sandboxes").iterdir()),
            disk_bytes=sum(map(_size, _below(self._state / "blobs"))),
        )


def _below(directory: Path) -> Iterator[str]:
    """The files and directories below a directory from which others are removed meanwhile."""
    for path, directories, files in os.walk(directory):
        yield from (os.path.join(path, name) for name in (*directories, *files))


def _size(path: str) -> int:
    """The bytes that a file or directory takes on the disk; 0 once it is gone."""
    with suppress(FileNotFoundError):
        return 512 * os.stat(path).st_blocks
    return 0


def growth(looks: Sequence[Holdings]) -> dict[str, tuple[float, float]]:
    """Of everything held, the medians of the second and of the last quarter: the first is for getting warm."""
    quarter = len(looks) // 4

    def middle(part: Sequence[Holdings]) -> dict[str, float]:
        return {name: statistics.median(asdict(look)[name] for look in part) for name in asdict(part[0])}

    before, after = middle(looks[quarter : 2 * quarter]), middle(looks[-quarter:])
    return {name: (before[name], after[name]) for name in before}


def grown(looks: Sequence[Holdings], most: float = 1.1) -> list[str]:
    """The resources whose last quarter exceeds their second quarter by more than a factor."""
    return [
        f"{name} grew from {before:,.0f} to {after:,.0f}"
        for name, (before, after) in growth(looks).items()
        if after > most * before
    ]
