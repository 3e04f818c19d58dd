"""MCP's conformance suite, in both eras: all of it against its own tools behind the API's middleware, and what applies
to any server against Mayfly's tools.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.installed import NodeClients, environment

REVISIONS = ("2026-07-28", "2025-11-25")
LINE = re.compile(r"^(✓|✗) ([\w-]+): (\d+) passed, (\d+) failed", re.MULTILINE)
# The extension needs tools of its own that run as tasks; Mayfly's tasks are executions.
TASKS = "tasks-"
APPLICABLE = {
    "2026-07-28": {
        "caching", "dns-rebinding-protection", "http-header-validation", "resources-list",
        "sep-2164-resource-not-found", "server-stateless", "tools-call-error", "tools-list",
    },
    "2025-11-25": {"dns-rebinding-protection", "ping", "resources-list", "server-initialize", "tools-list"},
}  # fmt: skip


def results(clients: NodeClients, url: str, revision: str, home: Path) -> dict[str, tuple[int, int]]:
    """Of each scenario that a revision has: the checks that passed, and those that failed."""
    done = subprocess.run(
        [*clients.conformance, "server", "--url", url, "--requirements", revision],
        env=environment(home), cwd=home, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    found = {name: (int(passed), int(failed)) for _, name, passed, failed in LINE.findall(summary)}
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return found


@pytest.mark.parametrize("revision", REVISIONS)
def test_suite_passes_behind_the_middleware(
    revision: str, node_clients: NodeClients, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    found = results(node_clients, keyed_api("fixture"), revision, tmp_path)
    failed = {name for name, (_, failures) in found.items() if failures and not name.startswith(TASKS)}
    assert failed == set()
    assert sum(passed for passed, _ in found.values()) > {"2026-07-28": 140, "2025-11-25": 75}[revision]


@pytest.mark.parametrize("revision", REVISIONS)
def test_product_passes_what_applies_to_it(
    revision: str, node_clients: NodeClients, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    found = results(node_clients, keyed_api(), revision, tmp_path)
    wrong = {name: found.get(name) for name in APPLICABLE[revision] if found.get(name, (0, 1))[1]}
    assert wrong == {}
    # The control: the suite's own tools are missing here, and the suite sees that.
    assert found["tools-call-image"][1] > 0
