"""A soak of seconds instead of an hour, and that its checks can fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.store import keys
from tests.chaos.installations.installation import Installation
from tests.chaos.mixture import CLIENTS
from tests.chaos.soak import Holdings, Watch, grown, soak
from tests.harness import eventually

pytestmark = pytest.mark.timeout(900)  # on a slow machine the waits alone may sum up to more than 300 s
SECONDS, RETENTION_SECONDS = 8.0, 8.0


def test_soak_loses_nothing_and_reports_resources_in_use(installation: Callable[..., Installation]) -> None:
    stack = installation("none", retention_seconds=RETENTION_SECONDS)
    found = soak(stack, SECONDS, 7, trial_seconds=2)
    assert found.report.violations == []
    assert found.report.faults.total() > 0
    assert found.report.executions >= CLIENTS
    assert found.capacity > 0
    assert found.holdings[-1].redis_keys > 0
    assert found.holdings[-1].worker_descriptors > 0


def test_soak_finds_growing_resource() -> None:
    held = Holdings(**dict.fromkeys(Holdings.__dataclass_fields__, 100))
    flat = [held] * 40
    assert grown(flat) == []
    warming = [replace(held, worker_bytes=position) for position in range(10)] + [held] * 30
    assert grown(warming) == []
    for name in Holdings.__dataclass_fields__:
        leaking = [replace(held, **{name: 100 + position}) for position in range(40)]
        assert grown(leaking) == [f"{name} grew from 114 to 134"]


def test_soak_counts_descriptors_leases_and_keys(installation: Callable[..., Installation]) -> None:
    stack = installation("none")
    stack.redis.start()
    stack.start_api()
    (stack.directory / "state" / "sandboxes").mkdir()
    eventually(lambda: stack.raw.exists(keys.JANITOR, keys.RATES_SINCE) == 2, "the janitor's own keys exist")
    assert stack.api is not None
    stack.api.popen.send_signal(signal.SIGSTOP)  # else it writes keys of its own between the two looks, or some expire
    for key in stack.raw.scan_iter(count=1000):
        stack.raw.persist(key)
    watch = Watch(stack, os.getpid(), stack.raw, 3600)
    before = watch.look()
    pipes = [os.pipe() for _ in range(50)]
    (stack.directory / "state" / "sandboxes" / "leased").mkdir()
    (stack.directory / "state" / "blobs").mkdir(exist_ok=True)
    (stack.directory / "state" / "blobs" / "left").write_bytes(bytes(1_000_000))
    stack.raw.rpush("left behind", *["x" * 10_000] * 100)
    for number in range(300):
        stack.raw.set(keys.idempotency("default", str(number)), "x" * 10_000)
    after = watch.look()
    stack.api.popen.send_signal(signal.SIGCONT)
    for ends in pipes:
        os.close(ends[0])
        os.close(ends[1])
    watch.end()
    (stack.directory / "state" / "sandboxes" / "leased").rmdir()
    assert after.worker_descriptors - before.worker_descriptors == 100
    assert after.leased_uids - before.leased_uids == 1
    assert 1_000_000 <= after.disk_bytes - before.disk_bytes < 1_100_000
    assert after.redis_keys - before.redis_keys == 1
    assert 900_000 < after.redis_bytes - before.redis_bytes < 3_000_000  # without what is remembered
