"""Computes the figures of ``expected.py`` from samples. A figure without samples is omitted."""

from __future__ import annotations

import statistics

from tests.bench.measure import Measured, percentile
from tests.bench.systems.contestants import AGENT, BARE, DOCKER, EPICBOX, HARDENED, LOOP, OCI, WAITING

MILLISECONDS = 1000.0


def figures(measured: Measured) -> dict[str, float]:
    """All figures that these samples allow."""
    found: dict[str, float | None] = {}
    for key, name in (("oci", OCI), ("docker", DOCKER), ("hardened", HARDENED)):
        totals = measured.totals.get(("print", name))
        if totals:
            found[f"{key}_p50"] = statistics.median(totals) * MILLISECONDS
            found[f"{key}_p99"] = percentile(totals, 0.99) * MILLISECONDS
        found[f"{key}_throughput"] = measured.rate(name)
    found["oci_throughput_to_raw"] = _ratio(measured.rate(OCI), measured.rate(WAITING))
    found["oci_throughput_to_agent"] = _ratio(measured.rate(OCI), measured.rate(AGENT))
    found["oci_throughput_to_bare"] = _ratio(measured.rate(OCI), measured.rate(BARE))
    found["docker_throughput_to_raw"] = _ratio(measured.rate(DOCKER), measured.rate(LOOP))
    found["docker_latency_to_raw"] = _ratio(_p50(measured, DOCKER), _p50(measured, LOOP))
    found["oci_latency_to_agent"] = _ratio(_p50(measured, OCI), _p50(measured, AGENT))
    found["oci_burst_to_raw"] = _ratio(_burst(measured, OCI), _burst(measured, WAITING))
    found["docker_burst_to_raw"] = _ratio(_burst(measured, DOCKER), _burst(measured, LOOP))

    best = measured.taking_part.best.name
    found["epicbox_latency"] = _ratio(_p50(measured, EPICBOX), _p50(measured, best))
    found["epicbox_throughput"] = _ratio(measured.rate(best), measured.rate(EPICBOX))
    found["warm_to_cold"] = _ratio(_p50(measured, best), _cold(measured, "print", best))
    found["data_warm_to_cold"] = _ratio(_p50(measured, best, "group-by"), _cold(measured, "group-by", best))
    if first := measured.first_bytes.get(best):
        found["first_byte"] = statistics.median(since_sent for since_sent, _ in first) * MILLISECONDS
        found["first_byte_accepted"] = statistics.median(since_accepted for _, since_accepted in first) * MILLISECONDS
    if samples := measured.samples.get(best):
        # Mayfly's own figures are subtracted, execution by execution, which also removes the machine's drift.
        own = (one.total - one.run - one.collect for one in samples)
        found["control_plane"] = statistics.median(own) * MILLISECONDS
    if best == OCI and (mine := _p50(measured, OCI)) and (raw := _p50(measured, AGENT)):
        found["control_plane_to_agent"] = (mine - raw) * MILLISECONDS
    return {key: value for key, value in found.items() if value is not None}


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
