"""Environments have a maintained release of Node.js."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from orchestrator.environments import Environment, load_environments
from orchestrator.host.posture.finding import Finding
from orchestrator.host.posture.lifetimes import check_node
from orchestrator.settings import Settings

ENVIRONMENTS = load_environments(Settings().environments_dirs)


def test_declared_node_is_maintained_today() -> None:
    """A failure by the calendar: declare a newer line in ``node.toml``, and its dates in ``lifetimes.py``."""
    found = check_node(ENVIRONMENTS.values(), datetime.now(UTC).date())
    assert [finding.name for finding in found] == ["node of node"]
    assert [finding for finding in found if finding.status != "ok"] == []


def test_builds_of_all_architectures_are_of_one_release() -> None:
    node = ENVIRONMENTS["node"]
    builds = {one.architecture: one.version for one in node.npm if one.name.startswith("node-linux-")}
    assert set(builds) == {"amd64", "arm64"}
    assert {version.split(".")[0] for version in builds.values()} == {node.version}
    assert len(set(builds.values())) == 1


def declared(version: str) -> Environment:
    """The environment `node` with that release."""
    packages = [one.model_copy(update={"version": version}) for one in ENVIRONMENTS["node"].npm]
    return ENVIRONMENTS["node"].model_copy(update={"npm": tuple(packages)})


@pytest.mark.parametrize(
    ("version", "today", "status"),
    [
        ("24.21.0", date(2025, 10, 27), "weak"), ("24.21.0", date(2025, 10, 28), "ok"),
        ("24.21.0", date(2028, 4, 30), "ok"), ("24.21.0", date(2028, 5, 1), "weak"),
        ("18.20.4", date(2026, 11, 30), "weak"), ("25.9.0", date(2026, 4, 1), "weak"),
    ],
)  # fmt: skip
def test_line_has_its_time(version: str, today: date, status: str) -> None:
    [found] = check_node([declared(version)], today)
    assert isinstance(found, Finding)
    assert found.status == status
    assert f"Node.js {version.split('.')[0]}" in found.detail
    assert bool(found.remedy) == (status == "weak")
