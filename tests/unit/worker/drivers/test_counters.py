"""Counters only grow, also after their cgroup is gone; socket buffers, which cgroup v1 does not charge, are bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentUnavailable
from worker.counters import Counters
from worker.host.cgroups import bound_buffers


def test_counters_stay_after_their_cgroup_is_gone() -> None:
    before = Counters(1.0, 0.5, 100, None, 1, 2)
    assert Counters().after(before) == before
    assert Counters().after(Counters()) == Counters()
    assert before.after(Counters()) == before
    later = Counters(cpu_seconds=2.0, peak_memory_bytes=100, peak_processes=3, oom_events=2)  # pids' is gone by now
    assert later.after(before) == Counters(2.0, 0.5, 100, 3, 2, 2)


@pytest.mark.parametrize("place", ["docker/abc", "system.slice/docker-abc.scope", "mayfly/abc"])
def test_socket_buffers_are_bounded_where_the_kernel_does_not_charge_them(tmp_path: Path, place: str) -> None:
    group = tmp_path / "memory" / place
    group.mkdir(parents=True)
    bound_buffers(tmp_path, "abc", 2**26)
    assert (group / "memory.kmem.tcp.limit_in_bytes").read_text() == "67108864"
    with pytest.raises(EnvironmentUnavailable):
        bound_buffers(tmp_path, "another", 2**26)


def test_memory_limit_bounds_socket_buffers_on_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    bound_buffers(tmp_path, "abc", 2**26)
    assert [path.name for path in tmp_path.iterdir()] == ["cgroup.controllers"]
