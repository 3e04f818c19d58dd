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
# The extension's scenarios need tools of their own that run as tasks; Mayfly's tasks are executions.
TASKS = "tasks-"
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


def checks_of(clients: NodeClients, url: str, revision: str, home: Path) -> dict[str, dict[str, str]]:
    """Of each scenario that a revision has: the status of each check, with its message, by the check's id."""
    done = subprocess.run(
        [*clients.conformance, "server", "--url", url, "--requirements", revision, "--output-dir", "results"],
        env=environment(home), cwd=home, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for file in sorted(home.glob("results/*/checks.json")):
        scenario = DIRECTORY.match(file.parent.name)
        assert scenario is not None, file
        statuses = found.setdefault(scenario[1], {})
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
    found = checks_of(node_clients, keyed_api("fixture"), revision, tmp_path)
    wrong = {name: failures(checks) for name, checks in found.items() if not name.startswith(TASKS)}
    assert {name: failed for name, failed in wrong.items() if failed} == {}
    passed = sum(status.startswith("SUCCESS") for checks in found.values() for status in checks.values())
    assert (len(found), passed) >= {"2026-07-28": (50, 110), "2025-11-25": (33, 40)}[revision]


@pytest.mark.parametrize("revision", REVISIONS)
def test_product_passes_what_applies_to_it(
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
