"""Measures the submissions a second that one API process accepts, without workers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.systems.mayfly import EXECUTIONS
from tests.bench.systems.programs import Program
from tests.bench.wire import Wire
from tests.harness import Stack


def submit_only(directory: Path, program: Program, submissions: int, at_once: int) -> float:
    """Submissions a second, from ``at_once`` connections that each send the next when they have their answer."""
    stack = Stack(directory, queue_limit=submissions + 1000)
    try:
        stack.start(workers=0)
        wires = [Wire(stack.port, stack.key) for _ in range(at_once)]
        request = wires[0].prepared("POST", EXECUTIONS, {"environment": program.environment, "code": program.code})
        share = submissions // at_once

        def client(wire: Wire) -> None:
            with wire:
                for _ in range(share):
                    assert wire.exchange(request)["state"] == "queued"

        for wire in wires:
            wire.exchange(request)
        began = time.monotonic()
        with ThreadPoolExecutor(at_once) as clients:
            list(clients.map(client, wires))
        return share * at_once / (time.monotonic() - began)
    finally:
        stack.stop()
