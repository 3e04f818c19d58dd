"""Measures what authentication, authorization, rate limit, quotas and audit cost a submission, together.

Two API processes on one Redis: a whole one, with an API key of a tenant, a rate limit that is never reached, quotas of
tenant and key, and submissions in the audit log; and :mod:`.bare_api`, without any of these. Both get the same
submission, by turns, over a connection each, so whatever else the machine does concerns both alike.

``python -m tests.bench.guards.measuring`` measures these alone, in a minute.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.systems.mayfly import EXECUTIONS
from tests.bench.systems.programs import PRINT
from tests.bench.wire import Wire
from tests.harness import Process, Stack, eventually, free_port

SETTLING, PAIRS = 200, 2000
MANY = 10**9
QUOTAS: dict[str, Any] = {
    "queued": MANY, "running": MANY, "submissions_per_second": 10**6, "executions_per_day": MANY,
}  # fmt: skip


def figures(directory: Path, pairs: int = PAIRS) -> dict[str, float]:
    """The difference of the medians in milliseconds, and their ratio."""
    guarded = {"rate_limit": "1000000000/second", "audit_submissions": True}
    stack = Stack(directory, queue_limit=4 * (pairs + SETTLING), **guarded)
    port, bare = free_port(), None
    try:
        stack.start(workers=0)
        key = stack.new_key("executions:write", tenant="guarded")
        for of in ("tenants/guarded", f"api-keys/{key['id']}"):
            answer = stack.client.put(f"/api/v1/{of}/quotas", json=QUOTAS)
            assert answer.status_code == 200, answer.text
        changed = {"MAYFLY_API_PORT": str(port), "MAYFLY_RATE_LIMIT": "off", "MAYFLY_AUDIT_SUBMISSIONS": "false"}
        command = [sys.executable, "-m", "tests.bench.guards.bare_api"]
        bare = Process(command, stack.env | changed, directory / "bare.log")
        with Wire(stack.port, key["secret"]) as whole, Wire(port, "none") as without:
            eventually(lambda: _is_up(without), "the bare API answers")
            return _compared(whole, without, pairs)
    finally:
        if bare is not None:
            bare.stop()
        stack.stop()


def _compared(whole: Wire, without: Wire, pairs: int) -> dict[str, float]:
    body = {"environment": PRINT.environment, "code": PRINT.code}
    wires = [(wire, wire.prepared("POST", EXECUTIONS, body)) for wire in (whole, without)]
    seconds: list[list[float]] = [[], []]
    for turn in range(SETTLING + pairs):
        for which in (0, 1) if turn % 2 else (1, 0):
            wire, request = wires[which]
            began = time.perf_counter()
            assert wire.exchange(request)["state"] == "queued"
            if turn >= SETTLING:
                seconds[which].append(time.perf_counter() - began)
    guarded, bare = (statistics.median(taken) for taken in seconds)
    return {"guards": (guarded - bare) * 1000, "guards_to_bare": guarded / bare}


def _is_up(wire: Wire) -> bool:
    try:
        return bool(wire.get("/livez"))
    except OSError:
        return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as made:
        print(json.dumps(figures(Path(made)), indent=1))
