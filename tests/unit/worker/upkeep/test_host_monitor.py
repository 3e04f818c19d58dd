"""How a worker learns whether its engine answers."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from orchestrator.errors import RuntimeUnavailable
from tests.harness import eventually
from worker.upkeep.host_monitor import HostMonitor


class HangingEngine:
    """A caller waits until the engine gives up."""

    def __init__(self) -> None:
        self.asked = 0
        self.gives_up = threading.Event()

    def refresh(self) -> None:
        self.asked += 1
        self.gives_up.wait(60)
        raise RuntimeUnavailable("It hangs.")


def test_all_slots_share_a_check_of_a_hanging_engine() -> None:
    engine: Any = HangingEngine()
    nothing: Any = None
    care = HostMonitor("w", nothing, engine, nothing, nothing, nothing, set, nothing, nothing)
    slots = [threading.Thread(target=care.look_at_engine) for _ in range(8)]
    for slot in slots:
        slot.start()
    eventually(lambda: engine.asked == 1, "one slot checks the engine")
    engine.gives_up.set()
    for slot in slots:
        slot.join()
    assert engine.asked <= 2  # one that came after the answer asks anew
    assert care.engine is None


class Ordered(HostMonitor):
    """Records its rounds."""

    found: list[str]

    def look_at_engine(self) -> None:
        self.found.append("engine")

    def look_at_host(self) -> None:
        self.found.append("host")

    def _reap(self) -> None:
        self.found.append("reap")


def test_slow_contents_do_not_delay_the_removal_of_orphans() -> None:
    """The look at the host may wait for an API that does not answer."""
    nothing: Any = None
    care = Ordered("w", nothing, nothing, nothing, nothing, nothing, set, nothing, nothing)
    care.engine, care.found = "an engine", []
    stopped: Any = SimpleNamespace(wait=lambda seconds: bool(care.found))
    care.run(stopped)
    assert care.found == ["engine", "reap", "host"]
