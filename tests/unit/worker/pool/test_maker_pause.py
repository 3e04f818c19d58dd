"""The pool leaves the CPU to results in progress, without delaying executions that wait for a container."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from orchestrator.environments import load_environments
from orchestrator.settings import Settings
from tests.harness import ROOT, eventually
from worker.pool import pool as pool_module
from worker.pool.pool import Pool

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments"])
PYTHON = ENVIRONMENTS["python"]


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
    """An event that records its waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.append(timeout)
        return super().wait(timeout)


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


def test_a_result_goes_before_the_next_container(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher: Any = Launcher()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    pool = Pool(
        launcher, ENVIRONMENTS, Settings(pool_size=0, pool_sizes={"python": 2}), lambda _: None, lambda _: False
    )
    closed = pool._closed = Closed()
    pool.start()
    eventually(lambda: pool.sizes().get("python") == 2, "two containers wait in the pool")
    monkeypatch.setattr(pool_module, "BREATH_SECONDS", 600.0)
    first = pool.take(PYTHON, "standard", PYTHON.defaults, "default")
    pool.discard(first)
    eventually(lambda: closed.waiting.count(600.0) == 2, "a maker and the keeper pause")
    second = pool.take(PYTHON, "standard", PYTHON.defaults, "default")
    eventually(lambda: launcher.made >= 3, "the empty pool makes the next container at once")
    assert launcher.destroyed == []
    pool.close()
    assert launcher.destroyed[0] == first.name
    pool.discard(second)
    assert second.name in launcher.destroyed
