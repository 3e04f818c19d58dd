"""MCP's conformance suite, in both eras: all of it against its own tools behind the API's middleware, and what applies
to any server against Mayfly's tools.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.installed import NodeClients, environment

REVISIONS = ("2026-07-28", "2025-11-25")
DIRECTORY = re.compile(r"server-(.+)-20\d\d-\d\d-\d\dT")
# Each of the extension's scenarios, and of its checks those that Mayfly's tasks do not pass, with the reason in
# docs/decisions/0020: a task never asks its client for anything, and a program's failure is no failure of the tool.
TASKS = "tasks-"
TASK_SCENARIOS: dict[str, set[str]] = {
    "tasks-capability-negotiation": set(),
    "tasks-dispatch-and-envelope": set(),
    "tasks-lifecycle": {"sep-2663-tasks-get-status-failed", "sep-2663-tool-error-uses-completed-status"},
    "tasks-request-headers": set(),
    "tasks-request-state-removal": set(),
    "tasks-wire-fields": set(),
}
# Scenarios that ask older clients something, or resume a stream, need the library's sessions.
WITH_SESSIONS = {
    "elicitation-sep1034-defaults", "elicitation-sep1330-enums", "tools-call-elicitation", "tools-call-sampling",
}  # fmt: skip
APPLICABLE = {
    "2026-07-28": {
        "caching", "dns-rebinding-protection", "http-header-validation", "resources-list",
        "sep-2164-resource-not-found", "server-sse-multiple-streams", "server-stateless", "tools-call-error",
        "tools-list",
    },
    "2025-11-25": {
        "dns-rebinding-protection", "ping", "resources-list", "server-initialize", "tools-call-error", "tools-list",
    },
}  # fmt: skip
# Of these scenarios, the checks that call one of the suite's own tools.
UNTESTABLE = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-http-server-no-independent-requests-on-stream",
    "sep-2575-server-no-log-without-loglevel",
}


def checks_of(
    clients: NodeClients, url: str, revision: str, home: Path, scenario: str | None = None
) -> dict[str, dict[str, str]]:
    """Of one scenario, or each that a revision has: the status of each check, with its message, by the check's id."""
    chosen = ["--requirements", revision] if scenario is None else ["--scenario", scenario]
    done = subprocess.run(
        [*clients.conformance, "server", "--url", url, *chosen, "--output-dir", "results"],
        env=environment(home), cwd=home, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for file in sorted(home.glob("results/*/checks.json")):
        name = DIRECTORY.match(file.parent.name)
        assert name is not None, file
        statuses = found.setdefault(name[1], {})
        for check in json.loads(file.read_text()):
            failed = statuses.get(check["id"], "").startswith("FAILURE")
            if not failed:
                statuses[check["id"]] = f"{check['status']} {check.get('errorMessage') or ''}".strip()
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return found


def failures(checks: dict[str, str]) -> dict[str, str]:
    return {id: status for id, status in checks.items() if status.startswith("FAILURE")}


@pytest.mark.parametrize("revision", REVISIONS)
def test_suite_passes_behind_the_middleware(
    revision: str, node_clients: NodeClients, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    found = checks_of(node_clients, keyed_api("fixture", "sessions"), revision, tmp_path)
    wrong = {name: failures(checks) for name, checks in found.items() if not name.startswith(TASKS)}
    assert {name: failed for name, failed in wrong.items() if failed} == {}
    passed = sum(status.startswith("SUCCESS") for checks in found.values() for status in checks.values())
    assert (len(found), passed) >= {"2026-07-28": (50, 110), "2025-11-25": (33, 40)}[revision]


def test_older_clients_are_answered_without_sessions_alike(
    node_clients: NodeClients, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    found = checks_of(node_clients, keyed_api("fixture"), "2025-11-25", tmp_path)
    wrong = {name for name, checks in found.items() if failures(checks)}
    assert wrong == WITH_SESSIONS


def test_tasks_pass_the_applicable_scenarios(
    node_clients: NodeClients, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    url, wrong, passed = keyed_api("tasks"), {}, 0
    for scenario, excluded in TASK_SCENARIOS.items():
        (home := tmp_path / scenario).mkdir()
        (checks,) = checks_of(node_clients, url, "2026-07-28", home, scenario).values()
        if set(found := failures(checks)) != excluded:
            wrong[scenario] = found
        passed += sum(status.startswith("SUCCESS") for status in checks.values())
    assert wrong == {}
    assert passed >= 20


@pytest.mark.parametrize("revision", REVISIONS)
def test_product_passes_the_applicable_scenarios(
    revision: str, node_clients: NodeClients, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    found = checks_of(node_clients, keyed_api(), revision, tmp_path)
    assert APPLICABLE[revision] <= set(found)
    wrong = {
        f"{name}: {id}": status
        for name in APPLICABLE[revision]
        for id, status in failures(found[name]).items()
        if id not in UNTESTABLE
    }
    assert wrong == {}
    # The control: the suite's own tools are missing here, and the suite sees that.
    assert failures(found["tools-call-image"])
