"""How long an innocent tenant waits while another one misbehaves.

The innocent submits one small program after another with a pause between; the other keeps one of the worker's slots
busy with hostile programs all the time, or fills the queue as fast as it can. What is compared is the innocent's p99
with that of the same minutes without the other.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.bench.mayfly import EXECUTIONS, WAIT_SECONDS, Mayfly
from tests.bench.measure import summary
from tests.bench.programs import PRINT
from tests.bench.wire import Refused

PAUSE_SECONDS = 0.2
BATCH = 100
HOSTILE = {
    "output": "while True: print('x' * 60_000)",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "disks": "import itertools\nfor n in itertools.count():\n    for place in ('/tmp', '/work', '/output'):\n"
    "        try: open(f'{place}/{n}', 'wb').write(bytes(2**20))\n        except OSError: pass",
}


def bad_cases(mayfly: Mayfly, runs: int, jobs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The innocent's latency, idle and beside each kind of misbehaviour, and the ratios of their p99."""
    innocent, other = _tenant(mayfly, "innocent"), _tenant(mayfly, "other")
    found: dict[str, Any] = {"worker": mayfly.name, "jobs": jobs}
    say(f"an innocent alone, {mayfly.name}")
    idle = _innocent(mayfly, innocent, runs)
    for name, code in HOSTILE.items():
        say(f"an innocent beside: {name}")
        with _misbehaving(mayfly, other, code):
            found[name] = summary(_innocent(mayfly, innocent, runs))
    say(f"an innocent beside: {jobs} jobs")
    with _queueing(mayfly, other, jobs):
        found["queue"] = summary(_innocent(mayfly, innocent, runs))
    say("an innocent alone again")
    found["idle"] = summary(idle + _innocent(mayfly, innocent, runs))
    names = (*HOSTILE, "queue")
    found["figures"] = {f"innocent_{name}": found[name]["p99_ms"] / found["idle"]["p99_ms"] for name in names}
    return found


def _innocent(mayfly: Mayfly, token: str, runs: int) -> list[float]:
    mayfly.let_rest(PRINT.environment)
    seconds = []
    with mayfly.wire(token) as wire:
        request = wire.prepared("POST", EXECUTIONS, mayfly.body(PRINT), WAIT_SECONDS)
        for _ in range(runs):
            time.sleep(PAUSE_SECONDS)  # think time: the figure is one of latency, not of throughput
            began = time.monotonic()
            answer = wire.exchange(request)
            seconds.append(time.monotonic() - began)
            if answer["state"] != "succeeded":  # it has waited as long as one may; what it would take is more
                break
    return seconds


def _misbehaving(mayfly: Mayfly, token: str, code: str) -> AbstractContextManager[None]:
    """One hostile program after another."""
    body = {"environment": "python", "code": code}

    def submit(over: threading.Event) -> None:
        with mayfly.wire(token) as wire:
            while not over.is_set():
                wire.post(EXECUTIONS, body, WAIT_SECONDS)

    return _meanwhile(submit)


@contextmanager
def _queueing(mayfly: Mayfly, token: str, jobs: int) -> Iterator[None]:
    """Many jobs, submitted as fast as they are taken; those that are left afterwards are cancelled."""
    ids: list[str] = []

    def submit(over: threading.Event) -> None:
        with mayfly.wire(token) as wire:
            for start in range(0, jobs, BATCH):
                if over.is_set():
                    return
                batch = [mayfly.body(PRINT)] * min(BATCH, jobs - start)
                answers = wire.post(f"{EXECUTIONS}/batch", {"executions": batch})
                ids.extend(answer["execution"]["id"] for answer in answers if "execution" in answer)

    try:
        with _meanwhile(submit):
            yield
    finally:
        with mayfly.wire(token) as wire, contextlib.suppress(Refused):  # the first that has ended: so have those before
            for id in reversed(ids):
                wire.post(f"{EXECUTIONS}/{id}/cancel", {})


@contextmanager
def _meanwhile(submit: Callable[[threading.Event], None]) -> Iterator[None]:
    """``submit`` runs beside what is done here, until its event is set."""
    over = threading.Event()
    thread = threading.Thread(target=submit, args=[over])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tenant(mayfly: Mayfly, name: str) -> str:
    """A key of a tenant."""
    wanted = {"name": name, "tenant": name, "scopes": ["executions:read", "executions:write"]}
    with mayfly.wire() as wire:
        return str(wire.post("/api/v1/api-keys", wanted)["secret"])
