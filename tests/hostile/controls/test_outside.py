"""Guarantees that only the host can observe, each true and weakened."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.controls.table import LIMITS, host
from tests.hostile.sandbox import Bench, Edit, Sandbox

SECONDS = 8.0  # in which a container that is not held back would have shown it
PATIENT_SECONDS = 60.0  # for what must come, on the busiest machine
BUSY = """
import os, time
end = time.monotonic() + 0.5
for _ in range(3):
    os.fork()
while time.monotonic() < end:
    pass
"""


def inspect(sandbox: Sandbox) -> dict[str, Any]:
    driver: Any = sandbox.driver  # the engine's, whose connection is its own business
    found: dict[str, Any] = driver.engine.api().inspect_container(sandbox.lease.name)
    return found


def within(seconds: float, probe: Callable[[], bool]) -> bool:
    """Whether it becomes true in that time."""
    deadline = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.02)  # between probes of a state that nothing announces
    return found


def is_throttled(sandbox: Sandbox, _weakened: bool) -> bool:
    sandbox.run(BUSY)
    seconds = sandbox.lease.sandbox.counters().throttled_seconds
    assert seconds is not None
    return seconds > 0


def keeps_no_log(sandbox: Sandbox, _weakened: bool) -> bool:
    sandbox.run("print('something')")
    log = inspect(sandbox)["LogPath"]
    return not log or not Path(log).stat().st_size


def stays_ended(sandbox: Sandbox, weakened: bool) -> bool:
    sandbox.run("pass")
    sandbox.end()
    return not within(PATIENT_SECONDS if weakened else SECONDS, lambda: inspect(sandbox)["RestartCount"] > 0)


def ends_with_worker(sandbox: Sandbox, weakened: bool) -> bool:
    one: Any = sandbox.lease.sandbox
    one.stream.close()  # what the kernel does for a worker that dies
    return within(SECONDS if weakened else PATIENT_SECONDS, lambda: not inspect(sandbox)["State"]["Running"])


def not_only_once(config: dict[str, Any]) -> None:
    config["StdinOnce"] = False


CONTROLS: dict[str, tuple[Callable[[Sandbox, bool], bool], Edit]] = {
    "NanoCpus": (is_throttled, host(NanoCpus=0)),
    "LogConfig": (keeps_no_log, host(LogConfig={"Type": "json-file", "Config": {}})),
    "RestartPolicy": (stays_ended, host(RestartPolicy={"Name": "always", "MaximumRetryCount": 0})),
    "StdinOnce": (ends_with_worker, not_only_once),
}


@pytest.mark.parametrize("field", CONTROLS)
def test_weakened_field_is_observed(bench: Bench, field: str) -> None:
    holds, weaken = CONTROLS[field]
    # So little that eight busy processes exceed it on the busiest machine.
    limits = LIMITS.model_copy(update={"cpu_cores": 0.1}) if field == "NanoCpus" else LIMITS
    with bench.sandbox(limits=limits) as sandbox:
        assert holds(sandbox, False)
    with bench.sandbox(limits=limits, edit=weaken) as sandbox:
        assert not holds(sandbox, True), "weaker, and it does not show"
    assert any(field in refusal for refusal in sandbox.refusals)
