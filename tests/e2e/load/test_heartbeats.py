"""Busy programs keep no heartbeat of their worker from arriving within the default lease.

The stacks that tests share have longer leases, so that other tests beside them are not taken for busy programs.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.settings import Settings
from tests.harness import Stack

PROGRAMS = 8
BUSY = """
import os, time
end = time.monotonic() + SECONDS
for _ in range(3):
    os.fork()
while time.monotonic() < end:
    pass
"""


@pytest.mark.alone
def test_busy_programs_cost_their_worker_no_lease(own_stack: Callable[..., Stack]) -> None:
    lease_seconds = Settings.model_fields["lease_seconds"].default
    stack = own_stack(slots=PROGRAMS, lease_seconds=lease_seconds).start()
    code = BUSY.replace("SECONDS", str(2 * lease_seconds))
    limits = {"wall_seconds": 250, "cpu_seconds": 250}
    begun = [stack.submit(environment="python", code=code, limits=limits).json()["id"] for _ in range(PROGRAMS)]
    ended = [stack.ended(id) for id in begun]
    assert [(one["state"], one["attempt"]) for one in ended] == [("succeeded", 1)] * PROGRAMS, [
        line for id in begun for line in stack.failed_attempts(id)
    ]
