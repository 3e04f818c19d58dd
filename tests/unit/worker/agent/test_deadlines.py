"""No frame lifts a bound, and a passed deadline has the right fault."""

from __future__ import annotations

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from worker.agent.deadlines import (
    COLLECT_CPU_SECONDS,
    COLLECT_SECONDS,
    GRACE_SECONDS,
    SILENT_SECONDS,
    Deadlines,
)
from worker.counters import Counters

LIMITS = DEFAULT_LIMITS.model_copy(update={"wall_seconds": 1.0, "cpu_seconds": 2.0, "cpu_cores": 0.02})
BEFORE = Counters(cpu_seconds=10.0, throttled_seconds=5.0)


def begun() -> Deadlines:
    deadlines = Deadlines(LIMITS, host_counts_cpu=True)
    deadlines.begin(100.0, BEFORE)
    return deadlines


def counted(cpu: float = 0.0, throttled: float = 0.0) -> Counters:
    return Counters(cpu_seconds=10.0 + cpu, throttled_seconds=5.0 + throttled)


def collecting() -> Deadlines:
    deadlines = begun()
    deadlines.used_up(counted(), collecting=False)
    deadlines.collect(101.0)
    deadlines.record_frames(101.0, 0.0)
    return deadlines


def test_agent_has_a_grace_period_beyond_the_programs_wall_time() -> None:
    deadlines = begun()
    assert not deadlines.passed(100 + 1 + GRACE_SECONDS - 0.01)
    assert deadlines.passed(100 + 1 + GRACE_SECONDS)


def test_collecting_ends_with_its_own_time_despite_frames() -> None:
    deadlines = collecting()
    for second in range(30):
        deadlines.record_frames(101.0 + second, 0.0)
    assert not deadlines.passed(101 + COLLECT_SECONDS - 0.01)
    deadlines.record_frames(101 + COLLECT_SECONDS, 0.0)
    assert deadlines.passed(101 + COLLECT_SECONDS)


def test_cpu_time_is_bounded_in_every_phase_for_any_share() -> None:
    deadlines = begun()
    assert not deadlines.used_up(counted(2.0), collecting=False)
    assert deadlines.used_up(counted(2.1), collecting=False)
    deadlines.collect(100.1)
    assert not deadlines.used_up(counted(2.0 + COLLECT_CPU_SECONDS), collecting=True)
    assert deadlines.used_up(counted(2.1 + COLLECT_CPU_SECONDS), collecting=True)


def test_unreadable_cgroup_triggers_no_deadline() -> None:
    deadlines = Deadlines(LIMITS, host_counts_cpu=False)
    deadlines.begin(100, Counters())
    assert not deadlines.used_up(Counters(), collecting=False)
    assert not deadlines.used_up(counted(1e9), collecting=False)
    assert not deadlines.is_throttled(101, Counters())


SLOW: dict[str, tuple[Counters, float, str]] = {
    "the agent worked all the time": (counted(cpu=9.0), 0.0, "collect"),
    "the agent was held back as its caller asked": (counted(cpu=0.2, throttled=9.0), 0.0, "collect"),
    "the agent got no processor": (counted(cpu=0.2), 0.0, "platform"),
    "the worker was busy with what came": (counted(cpu=9.0), 9.0, "platform"),
}


@pytest.mark.parametrize("what", SLOW)
def test_slow_collection_has_the_expected_fault(what: str) -> None:
    counters, busy, owner = SLOW[what]
    deadlines = collecting()
    deadlines.record_frames(105, busy)
    assert deadlines.too_slow(111, counters) == owner


def test_without_counters_silence_decides() -> None:
    deadlines = Deadlines(LIMITS, host_counts_cpu=False)
    deadlines.begin(100, Counters())
    deadlines.collect(101)
    deadlines.record_frames(105, 0.0)
    assert deadlines.too_slow(110, Counters()) == "platform"
    assert deadlines.too_slow(105 + SILENT_SECONDS, Counters()) == "collect"


def test_silence_decides_if_the_counter_of_throttling_is_unreadable() -> None:
    deadlines = Deadlines(LIMITS, host_counts_cpu=False)
    deadlines.begin(100, Counters(cpu_seconds=0.0))
    deadlines.collect(101)
    deadlines.record_frames(101, 0.0)
    assert deadlines.too_slow(101 + SILENT_SECONDS, Counters(cpu_seconds=0.2)) == "collect"


def test_starvation_by_a_low_cpu_limit_is_no_engine_fault() -> None:
    deadlines = begun()
    assert deadlines.is_throttled(102, counted(throttled=1.5))
    assert not deadlines.is_throttled(102, counted(throttled=0.5))
