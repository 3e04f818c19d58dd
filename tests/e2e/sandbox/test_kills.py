"""Programs that survive a kill of one process, or leave it no processor: bounded, with the right fault."""

from __future__ import annotations

import pytest

from tests.builders.tier import Tier
from tests.harness import PATIENCE
from tests.selection import ways
from worker.agent.deadlines import GRACE_SECONDS

WALL_SECONDS = 1.0
# Where the first process alone was killed, such a program lived on for 28 s and more.
SLOW_MACHINE = 6 * PATIENCE
STARVING = """
import os
try: os.setpriority(os.PRIO_PROCESS, 1, 19)
except OSError: pass
ready, go = os.pipe()
for _ in range(250):
    if os.fork() == 0:
        os.close(go)
        os.read(ready, 1)
        while True: pass
os.close(go)
while True: pass
"""


@pytest.mark.alone
@pytest.mark.parametrize("tier", ways("docker-runc", "oci-crun"), indirect=True)
@pytest.mark.parametrize(("cpu_cores", "busy"), [(0.1, 5), (2.0, 50)], ids=["tenth", "two"])
def test_program_that_starves_pid_1_ends_in_time(tier: Tier, cpu_cores: float, busy: int) -> None:
    limits = {"wall_seconds": WALL_SECONDS, "cpu_seconds": 60, "cpu_cores": cpu_cores, "processes": 256}
    ended = tier.run(code=STARVING, limits=limits)
    assert (ended["state"], ended["reason"], ended["fault"], ended["attempt"]) == ("failed", "timed_out", "user", 1)
    took = ended["timings"]["run_seconds"] + ended["timings"]["collect_seconds"]
    assert took < SLOW_MACHINE * (WALL_SECONDS + GRACE_SECONDS)
    assert None not in ended["usage"].values()
    assert ended["usage"]["peak_processes"] > busy  # it makes as many as its CPU time allows
    assert ended["usage"]["wall_seconds"] >= WALL_SECONDS
    assert [event["clock"] for event in tier.stack.security(ended["id"]) if event["kind"] == "timeout"] == ["wall"]


@pytest.mark.parametrize("tier", ways("docker-runc", "docker-runsc"), indirect=True)
@pytest.mark.parametrize("cpu_cores", [0.01, 0.05])
def test_next_to_no_processor_ends_truthfully(tier: Tier, cpu_cores: float) -> None:
    ended = tier.run(code="print(1)", limits={"cpu_cores": cpu_cores, "wall_seconds": 2})
    assert (ended["state"], ended["reason"]) in (("succeeded", None), ("failed", "timed_out")), ended
    assert ended["attempt"] == 1, tier.stack.failed_attempts(ended["id"])
    kinds = [event["kind"] for event in tier.stack.security(ended["id"])]
    assert kinds == ([] if ended["state"] == "succeeded" else ["timeout"])
