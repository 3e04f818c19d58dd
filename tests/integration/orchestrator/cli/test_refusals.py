"""The command's exit code and message for refusals by a real API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import Stack


def mayfly(api: Stack, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env=os.environ | api.env | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "printed", "advice"),
    [
        (("run", "-c", "1", "--env", "cobol"), "there is no environment 'cobol'", "known are: bash, "),
        (("run", "-c", "1", "--timeout", "4000"), "limits.wall_seconds: ", "above the bound of 300"),
        (("run", "-c", "1", "--memory", "900G"), "limits.memory_bytes: ", "above the bound of 2147483648"),
        (("run", "-c", "1", "--isolation", "none"), "isolation: ", "'standard' or 'hardened'"),
        (("submit", "-c", "1", "--priority", "urgent"), "priority: ", "'high', 'default' or 'low'"),
        (("show", "nope"), "There is no execution 'nope'", "not_found"),
        (("cancel", "nope"), "There is no execution 'nope'", "not_found"),
        (("logs", "-f", "nope"), "There is no execution 'nope'", "not_found"),
        (("ls", "--state", "odd"), "state: ", "'queued', "),
    ],
    ids=lambda value: "-".join(value[:1] + value[-1:]) if isinstance(value, tuple) else "",
)
def test_usage_mistake_exits_with_2_and_names_the_bound(
    api: Stack, words: tuple[str, ...], printed: str, advice: str
) -> None:
    done = mayfly(api, *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("mayfly: ")
    assert printed in line
    assert advice in line


def test_a_wrong_key_is_a_mistake_and_a_missing_scope_is_policy(api: Stack) -> None:
    wrong = mayfly(api, "ls", MAYFLY_TOKEN="mfk_wrong")
    reader = api.new_key("executions:read")["secret"]
    forbidden = mayfly(api, "run", "-c", "1", MAYFLY_TOKEN=reader)
    assert (wrong.returncode, forbidden.returncode) == (2, 126)
    assert "MAYFLY_TOKEN" in wrong.stderr
    assert [done.stderr.count("\n") for done in (wrong, forbidden)] == [1, 1]


def test_api_without_redis_is_a_platform_fault(tmp_path: Path) -> None:
    alone = Stack(tmp_path)
    try:
        alone.redis.start()
        alone.start_api()
        alone.redis.stop()
        done = mayfly(alone, "submit", "-c", "1")
    finally:
        alone.stop()
    assert (done.returncode, done.stdout) == (125, "")
    assert "store_unavailable" in done.stderr
