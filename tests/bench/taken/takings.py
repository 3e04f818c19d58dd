"""The resources taken from a host, by consumer: counters of the kernel, of processes and of Redis, before and after.

CPU time is split by cgroup: that of all sandboxes (with the kernel's work on their behalf while they run), and the rest
of the host. The cost of an abuse is the additional time of the rest, compared with an innocent neighbour alone.
Memory is sampled five times a second, and the most counts.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.harness import Stack

SAMPLE_SECONDS = 0.2
KERNEL_THREADS = 2  # pid of their parent
ENGINE = ("dockerd", "containerd")
SECTOR_BYTES = 512
CGROUP = Path("/sys/fs/cgroup")
# By driver: the group that has all sandboxes below it. With cgroup version 2 an engine has none such.
PARENTS = {"docker": "docker", "oci": "mayfly"}
MIB = 2**20


@dataclass(frozen=True)
class Counters:
    """The resources used up to a moment: seconds of CPU time by consumer, and the disks' flushes and bytes read."""

    busy: float
    sandboxes: float
    interrupts: float
    worker: float
    api: float
    redis: float
    engine: float
    kernel_threads: float
    ours: float
    flushes: float
    read_bytes: float

    def since(self, before: Counters, seconds: float) -> dict[str, float]:
        """The rates since then, each a second."""
        return {name: (value - vars(before)[name]) / seconds for name, value in vars(self).items()}


@dataclass
class Memory:
    """Bytes that are in use, or the most of each."""

    outside: float = 0.0
    redis: float = 0.0
    api: float = 0.0

    def rise(self, other: Memory) -> None:
        for name, value in vars(other).items():
            setattr(self, name, max(getattr(self, name), value))


class Host:
    """One installation's host."""

    def __init__(self, stack: Stack, driver: str) -> None:
        assert stack.api is not None
        assert stack.redis.process is not None
        self._parent = PARENTS[driver]
        self._api, self._redis = stack.api.pid, stack.redis.process.pid
        self._worker = stack.workers[0].pid
        self._client = stack.redis.client()
        self._disks = [path.name for path in Path("/sys/block").iterdir() if (path / "device").exists()]
        self._start = self._memory()

    def counters(self, others: list[int]) -> Counters:
        """Now; ``others`` are processes that belong to the measurement."""
        kernel = engine = 0.0
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.ppid() == KERNEL_THREADS:
                    kernel += _seconds(process)
                elif process.name() in ENGINE:
                    engine += _seconds(process)
        busy = psutil.cpu_times()
        flushes, read_bytes = self._disk()
        return Counters(
            busy=sum(busy) - busy.idle - busy.iowait - busy.guest - busy.guest_nice,
            sandboxes=self._sandboxes(),
            interrupts=busy.irq + busy.softirq,
            worker=_tree(self._worker),
            api=_tree(self._api),
            redis=_tree(self._redis),
            engine=engine,
            kernel_threads=kernel,
            ours=_tree(psutil.Process().pid) + sum(_tree(pid) for pid in others),
            flushes=flushes,
            read_bytes=read_bytes,
        )

    @contextlib.contextmanager
    def most(self) -> Iterator[Memory]:
        """Within, the most memory is noted that is in use beyond what was at the start."""
        most, over = Memory(), threading.Event()

        def sample() -> None:
            while not over.wait(SAMPLE_SECONDS):
                now = self._memory()
                most.rise(Memory(*(value - vars(self._start)[name] for name, value in vars(now).items())))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()

    def rest(self) -> None:
        """Take the present use as the start."""
        self._start = self._memory()

    def close(self) -> None:
        self._client.close()

    def _memory(self) -> Memory:
        about: Any = self._client.info("memory")
        taken = psutil.virtual_memory().total - psutil.virtual_memory().available
        return Memory(taken - self._charged(), about["used_memory"], _resident(self._api))

    def _charged(self) -> float:
        for path in (f"memory/{self._parent}/memory.usage_in_bytes", f"{self._parent}/memory.current"):
            with contextlib.suppress(OSError):
                return float((CGROUP / path).read_text())
        return 0.0

    def _sandboxes(self) -> float:
        with contextlib.suppress(OSError):
            return int((CGROUP / f"cpuacct/{self._parent}/cpuacct.usage").read_text()) / 1e9
        with contextlib.suppress(OSError):
            text = (CGROUP / self._parent / "cpu.stat").read_text()
            return int(text.split()[1]) / 1e6  # usage_usec comes first
        return 0.0

    def _disk(self) -> tuple[float, float]:
        flushes = read = 0
        for line in Path("/proc/diskstats").read_text().splitlines():
            fields = line.split()
            if fields[2] in self._disks:
                read += int(fields[5]) * SECTOR_BYTES
                flushes += int(fields[18]) if len(fields) > 18 else 0
        return flushes, read


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree(pid: int) -> float:
    """CPU time of a process, of its children, and of those that it has reaped."""
    found = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                found += sum(times[:4])
    return found


def _resident(pid: int) -> float:
    found = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found += one.memory_info().rss
    return found
