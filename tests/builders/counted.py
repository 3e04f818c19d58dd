"""Reads this process's Prometheus counters."""

from __future__ import annotations

from prometheus_client import REGISTRY


def counted(name: str, **labels: str) -> float:
    """The value of a metric that there is."""
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, name
    return value
