"""Lanes keep specifications with fields of a later version from workers that do not know them."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import features
from orchestrator.features import FEATURES, LEVEL, Feature, lane_of, lanes
from orchestrator.models import ISOLATIONS, Specification
from orchestrator.models.fleet import FIRST_LEVEL
from tests.builders.records import specification

# The fields of version 0.1.0, in the specification and in what it contains. Never add to these: a later field gets
# `exclude_if`, and a row in FEATURES.
FIRST = {
    "Specification": "args artifacts created_at entrypoint env environment files id isolation labels limits loopback "
    "mode policy priority retry stdin tenant tools traceparent",
    "CallerTool": "description inputSchema name outputSchema",
    "Finding": "column file line message rule",
    "Limits": "cpu_cores cpu_seconds disk_bytes memory_bytes output_bytes processes wall_seconds",
    "PolicyReport": "findings mode omitted",
    "Stdin": "blob content encoding stream",
    "StoredFile": "blob content encoding path",
}


def fields(schema: dict[str, Any]) -> dict[str, str]:
    """The names of the fields of each model in a schema."""
    models = {"Specification": schema, **schema.get("$defs", {})}
    return {name: " ".join(sorted(model.get("properties", ()))) for name, model in models.items()}


def test_fields_after_the_first_version_have_a_level() -> None:
    found, later = fields(Specification.model_json_schema()), set[str]()
    for name, listed in found.items():
        later |= {f"{name}.{field}" for field in {*listed.split()} - {*FIRST.get(name, "").split()}}
    assert later == FEATURES.keys(), "give each later field `exclude_if`, and a row in FEATURES"
    assert {name: listed for name, listed in FIRST.items() if not {*listed.split()} <= {*found[name].split()}} == {}


def test_levels_are_counted_without_gaps() -> None:
    assert {feature.level for feature in FEATURES.values()} | {FIRST_LEVEL} == set(range(FIRST_LEVEL, LEVEL + 1))


def test_execution_waits_in_the_lane_of_its_highest_level(monkeypatch: pytest.MonkeyPatch) -> None:
    made = specification(isolation="hardened")
    assert lane_of(made) == "hardened"
    rows = {"args": 2, "env": 3}
    for name, level in rows.items():
        feature = Feature(level, lambda one, name=name: bool(getattr(one, name)))  # type: ignore[misc]
        monkeypatch.setitem(features.FEATURES, name, feature)
    assert lane_of(made) == "hardened"
    assert lane_of(made.model_copy(update={"args": ("a",)})) == "hardened-2"
    both = made.model_copy(update={"args": ("a",), "env": {"A": "b"}})
    assert (lane_of(both), features.used(both)) == ("hardened-3", rows)
    assert lane_of(specification().model_copy(update={"env": {"A": "b"}})) == "standard-3"


def test_worker_serves_the_lanes_up_to_its_level() -> None:
    assert lanes(ISOLATIONS, 1) == ["standard", "hardened"]
    assert lanes(["hardened"], 3) == ["hardened", "hardened-2", "hardened-3"]
