"""The bound of each figure: one table, as data. Absolute times are printed beside it and never asserted.

A bound is the largest good value, or with ``AT_LEAST`` the smallest. A figure without a bound is only printed.
"""

from __future__ import annotations

from dataclasses import dataclass

AT_MOST, AT_LEAST = "≤", "≥"


@dataclass(frozen=True)
class Figure:
    """One row."""

    key: str
    title: str
    unit: str
    better: str
    bound: float | None = None
    ratio: bool = False  # of two values of the same run, so it may be compared between machines

    def verdict(self, value: float | None) -> str:
        """``pass``, ``short``, a dash where it has no bound, or ``not measured``."""
        if value is None:
            return "not measured"
        if self.bound is None:
            return "–"
        good = value <= self.bound if self.better == AT_MOST else value >= self.bound
        return "pass" if good else "short"

    def worse(self, value: float, baseline: float) -> bool:
        """Whether it fell by a third: it takes half as much again, or gives a third less."""
        return value > baseline * 3 / 2 if self.better == AT_MOST else value < baseline * 2 / 3


FIGURES = (
    Figure("oci_p50", "REST with wait, print(1), warm, oci/crun: p50", "ms", AT_MOST, 12),
    Figure("oci_p99", "the same: p99", "ms", AT_MOST, 40),
    Figure("docker_p50", "the same with docker/runc: p50", "ms", AT_MOST, 45),
    Figure("docker_p99", "the same with docker/runc: p99", "ms", AT_MOST, 120),
    Figure("hardened_p50", "the same in the hardened tier, with gVisor of Debian's backports: p50", "ms", AT_MOST, 40),
    Figure("hardened_throughput", "… sustained throughput", "/s", AT_LEAST),
    Figure("first_byte", "first byte of output over SSE after the submission was sent, warm: p50", "ms", AT_MOST, 8),
    Figure("first_byte_accepted", "the same, after its 202 came", "ms", AT_MOST),
    Figure("control_plane", "total minus what the container itself takes (its run and its end): p50", "ms", AT_MOST, 6),
    Figure("control_plane_to_agent", "p50 minus that of raw waiting crun with the same agent", "ms", AT_MOST, 6),
    Figure("oci_throughput", "sustained throughput, oci/crun", "/s", AT_LEAST),
    Figure("oci_throughput_to_raw", "… against raw waiting crun", "×", AT_LEAST, 0.8, ratio=True),
    Figure("oci_throughput_to_agent", "… against raw waiting crun, the same agent", "×", AT_LEAST, 0.8, ratio=True),
    Figure("oci_throughput_to_bare", "… against raw waiting crun without a wall", "×", AT_LEAST, 0.65, ratio=True),
    Figure("docker_throughput", "sustained throughput, docker/runc", "/s", AT_LEAST),
    Figure("docker_throughput_to_raw", "… against the raw engine loop", "×", AT_LEAST, 0.95, ratio=True),
    Figure("docker_latency_to_raw", "latency, docker/runc, against the raw engine loop", "×", AT_MOST, 0.2, ratio=True),
    Figure("oci_latency_to_agent", "latency, oci/crun, against raw waiting crun", "×", AT_MOST, ratio=True),
    Figure("epicbox_latency", "latency: epicbox takes times as long", "×", AT_LEAST, 12, ratio=True),
    Figure("epicbox_throughput", "throughput: times epicbox's", "×", AT_LEAST, 8, ratio=True),
    Figure("oci_burst_to_raw", "burst on an idle stack, oci/crun, against raw", "×", AT_MOST, 1.2, ratio=True),
    Figure("docker_burst_to_raw", "the same, docker/runc", "×", AT_MOST, 1.2, ratio=True),
    Figure("warm_to_cold", "print(1), warm against cold", "×", AT_MOST, ratio=True),
    Figure("data_warm_to_cold", "python-data import and group-by, warm against cold", "×", AT_MOST, 0.1, ratio=True),
    Figure("idle_memory", "idle waiting container (python), beyond shared pages", "MB", AT_MOST, 12),
    Figure("idle_helper_memory", "the process of the runtime or engine beside it", "MB", AT_MOST),
    Figure("worker_memory", "worker's resident memory after all executions", "MB", AT_MOST, 120),
    Figure("worker_growth", "the same, against half of the executions", "×", AT_MOST, 1.05, ratio=True),
    Figure("worker_leaks", "descriptors, threads, mounts, cgroups and uids left over", "", AT_MOST, 0),
    Figure("submit_only", "submit only, one API process", "/s", AT_LEAST, 800),
    Figure("guards", "authentication, authorization, rate, quotas and audit of a submission: p50", "ms", AT_MOST, 1.5),
    Figure("guards_to_bare", "… the submission against one without them", "×", AT_MOST, ratio=True),
    Figure("innocent_output", "an innocent's p99 beside a flood of output, to idle", "×", AT_MOST, 3, ratio=True),
    Figure("innocent_forks", "… beside fork bombs", "×", AT_MOST, 3, ratio=True),
    Figure("innocent_disks", "… beside full disks", "×", AT_MOST, 3, ratio=True),
    Figure("innocent_queue", "… beside many queued jobs of one tenant", "×", AT_MOST, 3, ratio=True),
    Figure("agent_overhead", "execute_code beside REST, MCP 2026-07-28: p50 of the differences", "ms", AT_MOST, 3),
    Figure("agent_overhead_legacy", "the same, MCP 2025-11-25", "ms", AT_MOST, 3),
    Figure("agents_rate", "a hundred agents at once, one API process", "/s", AT_LEAST),
    Figure("agents_growth", "… the API's resident memory, last round against first", "×", AT_MOST, 1.05, ratio=True),
    Figure("agent_budget", "10 MB of output within a budget of tokens, beside one line: p50", "ms", AT_MOST, 50),
    Figure("agent_budget_beside", "… other requests meanwhile: p99", "ms", AT_MOST, 50),
    Figure("tool_inside_p50", "a program's call of an empty tool and back: p50", "ms", AT_MOST, 5),
    Figure("tool_overlap", "twenty calls at once of a tool of 50 ms, to twenty in turn", "×", AT_MOST, 0.5, ratio=True),
    Figure("tool_direct_p50", "the same call from a process outside a sandbox: p50", "ms", AT_MOST),
    Figure("tool_rate", "calls of an empty tool through one broker", "/s", AT_LEAST, 1000),
    Figure("tool_broker_cpu", "… the broker's CPU time for a call", "ms", AT_MOST),
    Figure("fleet", "control plane with the empty driver, 4 worker processes", "/s", AT_LEAST, 400),
)
BY_KEY = {figure.key: figure for figure in FIGURES}


def fallen(values: dict[str, float], baseline: dict[str, float], *, complete: bool) -> list[str]:
    """The ratios that fell by a third, in words. A ratio that is missing counts as fallen if all are wanted."""
    found = []
    for key, before in baseline.items():
        figure, value = BY_KEY[key], values.get(key)
        if complete if value is None else figure.worse(value, before):
            now = "not measured" if value is None else f"{value:.3g}"
            found.append(f"{key}: {now}, baseline {before:.3g}, wanted {figure.better}: {figure.title}")
    return found
