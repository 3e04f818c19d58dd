"""The pool leaves the CPU to results in progress, without delaying executions that wait for a container."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.environments import load_environments
from orchestrator.settings import Settings
from tests.harness import ROOT, eventually
from worker.pool import pool as pool_module
from worker.pool.pool import Pool

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments"])
PYTHON = ENVIRONMENTS["python"]
PAUSE = 600.0


class Container:
    """A container as the pool sees it."""

    environment, isolation, runtime, image = "python", "standard", "crun", "its image"

    def __init__(self, number: int) -> None:
        self.name, self.born = str(number), float("inf")
        self.sandbox: Any = self

    def receive(self, timeout_seconds: float) -> None:
        return None

    def counters(self) -> Any:
        return self

    def restore_cpu_weight(self) -> None:
        """It has no share of CPU time."""

    peak_memory_bytes = 10**6


class Closed(threading.Event):
    """An event that records its waits, each by its thread; those of ``PAUSE`` last until ``over`` is set, too."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []
        self.over = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        if timeout != PAUSE:
            return super().wait(timeout)
        self.waiting.append(threading.current_thread().name)
        while not self.is_set() and not self.over.is_set():
            super().wait(0.01)
        return self.is_set()


class Launcher:
    """Counts what is made and destroyed."""

    def __init__(self) -> None:
        self.runtimes = {"standard": "crun"}
        self.images: Any = {"python": type("Image", (), {"id": Container.image})}
        self.made, self.destroyed = 0, [""][:0]
        self._lock = threading.Lock()

    def able(self) -> tuple[str, ...]:
        return ("standard",)

    def launch(self, *_: Any, ahead: bool = False) -> Container:
        with self._lock:
            self.made += 1
            return Container(self.made)

    def destroy(self, lease: Container) -> None:
        self.destroyed.append(lease.name)


Filled = Callable[[Any, int, int], tuple[Pool, Closed]]


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    """Makes a pool that waits, whose next pauses last until the test ends them."""
    made: list[tuple[Pool, Closed]] = []

    def make(launcher: Any, containers: int, makers: int) -> tuple[Pool, Closed]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(makers)))
        monkeypatch.setattr(pool_module, "BREATH_SECONDS", 0.0)
        monkeypatch.setattr(pool_module, "LOOK_SECONDS", PAUSE)  # a look wakes all makers
        settings = Settings(pool_size=0, pool_sizes={"python": containers}, slots=containers)
        pool = Pool(launcher, ENVIRONMENTS, settings, lambda _: None, lambda _: False)
        closed = pool._closed = Closed()
        made.append((pool, closed))
        pool.start()
        eventually(lambda: pool.sizes().get("python") == containers, "all containers wait in the pool")
        monkeypatch.setattr(pool_module, "BREATH_SECONDS", PAUSE)
        return pool, closed

    yield make
    for pool, closed in made:
        closed.over.set()
        pool.close()


def test_a_result_goes_before_the_next_container(filled: Filled) -> None:
    launcher: Any = Launcher()
    pool, closed = filled(launcher, 2, 2)
    first = pool.take(PYTHON, "standard", PYTHON.defaults, "default")
    pool.discard(first)
    eventually(lambda: len(closed.waiting) == 2, "a maker and the keeper pause")
    second = pool.take(PYTHON, "standard", PYTHON.defaults, "default")
    eventually(lambda: launcher.made >= 3, "the empty pool makes the next container at once")
    assert launcher.destroyed == []
    pool.close()
    assert launcher.destroyed[0] == first.name
    pool.discard(second)
    assert second.name in launcher.destroyed


def test_one_pause_is_enough_for_several_used_containers(filled: Filled) -> None:
    launcher: Any = Launcher()
    pool, closed = filled(launcher, 4, 1)
    leases = [pool.take(PYTHON, "standard", PYTHON.defaults, "default") for _ in range(3)]
    pool.discard(leases[0])
    eventually(lambda: len(closed.waiting) == 2, "the maker and the keeper pause")
    for lease in leases[1:]:
        pool.discard(lease)
    assert (launcher.made, launcher.destroyed) == (4, [])
    closed.over.set()
    eventually(lambda: pool.sizes()["python"] == 4, "the pool makes all of them anew")
    eventually(lambda: len(launcher.destroyed) == 3, "all used containers are destroyed")
    assert closed.waiting.count("pool-keeper") == 1


def test_a_long_execution_is_replaced_without_its_end(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher: Any = Launcher()
    monkeypatch.setattr(pool_module, "COURTESY_SECONDS", 0.05)
    pool, closed = filled(launcher, 4, 2)
    closed.over.set()
    for taken in range(3):
        pool.take(PYTHON, "standard", PYTHON.defaults, "default")
        eventually(lambda made=5 + taken: launcher.made == made, "a maker makes the next container")  # type: ignore[misc]


def test_each_maker_makes_one_of_several_missing_containers(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several executions at once only the first wakes a maker, since that one looks in time for all."""
    launcher: Any = Launcher()
    monkeypatch.setattr(pool_module, "COURTESY_SECONDS", 0.5)
    pool, closed = filled(launcher, 4, 3)
    pool.take(PYTHON, "standard", PYTHON.defaults, "default")
    eventually(lambda: pool._alarm_at < float("inf"), "a maker has its alarm set")
    for _ in range(2):
        pool.take(PYTHON, "standard", PYTHON.defaults, "default")
    eventually(lambda: len(set(closed.waiting)) == 3, "three makers pause before their containers")
