"""Counters only grow, also when the cgroup that counted is gone."""

from __future__ import annotations

from worker.drivers.base import Counters


def test_what_a_cgroup_counted_outlives_it() -> None:
    before = Counters(1.0, 0.5, 100, None, 1, 2)
    assert Counters().after(before) == before
    assert Counters().after(Counters()) == Counters()
    assert before.after(Counters()) == before
    later = Counters(cpu_seconds=2.0, peak_memory_bytes=100, peak_processes=3, oom_events=2)  # pids' is gone by now
    assert later.after(before) == Counters(2.0, 0.5, 100, 3, 2, 2)
