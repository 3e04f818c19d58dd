"""From samples to the figures of ``expected.py``. A figure whose parts were not measured is left out."""

from __future__ import annotations

import statistics

from tests.bench.measure import Measured, percentile

OCI, DOCKER = "Mayfly oci/crun", "Mayfly docker/runc"
WAITING, AGENT, LOOP, EPICBOX = "crun waiting", "crun waiting, agent", "engine loop, runc", "epicbox"
MILLISECONDS = 1000.0


def figures(measured: Measured) -> dict[str, float]:
    """All that can be told from these samples."""
    found: dict[str, float | None] = {}
    for key, name in (("oci", OCI), ("docker", DOCKER)):
        totals = measured.totals.get(("print", name))
        if totals:
            found[f"{key}_p50"] = statistics.median(totals) * MILLISECONDS
            found[f"{key}_p99"] = percentile(totals, 0.99) * MILLISECONDS
        found[f"{key}_throughput"] = measured.rate(name)
    found["oci_throughput_to_raw"] = _ratio(measured.rate(OCI), measured.rate(WAITING))
    found["oci_throughput_to_agent"] = _ratio(measured.rate(OCI), measured.rate(AGENT))
    found["docker_throughput_to_raw"] = _ratio(measured.rate(DOCKER), measured.rate(LOOP))
    found["docker_latency_to_raw"] = _ratio(_p50(measured, DOCKER), _p50(measured, LOOP))
    found["oci_latency_to_agent"] = _ratio(_p50(measured, OCI), _p50(measured, AGENT))
    found["oci_burst_to_raw"] = _ratio(_burst(measured, OCI), _burst(measured, WAITING))
    found["docker_burst_to_raw"] = _ratio(_burst(measured, DOCKER), _burst(measured, LOOP))

    best = measured.who.best.name
    found["epicbox_latency"] = _ratio(_p50(measured, EPICBOX), _p50(measured, best))
    found["epicbox_throughput"] = _ratio(measured.rate(best), measured.rate(EPICBOX))
    found["warm_to_cold"] = _ratio(_p50(measured, best), _cold(measured, "print", best))
    found["data_warm_to_cold"] = _ratio(_p50(measured, best, "group-by"), _cold(measured, "group-by", best))
    if first := measured.first_bytes.get(best):
        found["first_byte"] = statistics.median(since_sent for since_sent, _ in first) * MILLISECONDS
        found["first_byte_accepted"] = statistics.median(since_told for _, since_told in first) * MILLISECONDS
    found["control_plane"] = _control_plane(measured, best)
    return {key: value for key, value in found.items() if value is not None}


def _control_plane(measured: Measured, best: str) -> float | None:
    """What Mayfly adds, in milliseconds: to the same agent in a container of the same kind, used without any guard.

    Where that was not measured, to the time from the program's start to its end, which leaves out the container's own.
    """
    mine, raw = _p50(measured, best), _p50(measured, AGENT if best == OCI else f"engine waiting, {_runtime(best)}")
    if mine is not None and raw is not None:
        return (mine - raw) * MILLISECONDS
    samples = measured.samples.get(best)
    return statistics.median(one.total - one.run for one in samples) * MILLISECONDS if samples else None


def _runtime(name: str) -> str:
    return name.rpartition("/")[2]


def _p50(measured: Measured, name: str, program: str = "print") -> float | None:
    totals = measured.totals.get((program, name))
    return statistics.median(totals) if totals else None


def _cold(measured: Measured, program: str, name: str) -> float | None:
    totals = measured.cold.get((program, name))
    return statistics.median(totals) if totals else None


def _burst(measured: Measured, name: str) -> float | None:
    seconds = measured.bursts.get(name)
    return statistics.mean(seconds) if seconds else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
