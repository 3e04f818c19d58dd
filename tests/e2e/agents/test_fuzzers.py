"""Other people's checks and fuzzers of MCP servers: no internal error, no unbounded answer, nothing internal in one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from tests.agents.installed import environment
from tests.harness import Stack

SECONDS = 280
MOST_BYTES = 256 * 1024  # of an answer to a fuzzer: texts within a budget of tokens, or the list of tools
# Texts with a harmless answer, and a program's own words in its own traceback.
EXPECTED = {"accepted_malformed", "error_leakage", "injection_reflection"}


def run(words: list[str], home: Path, **variables: str) -> str:
    done = subprocess.run(
        words, cwd=home, env=environment(home, **variables), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_foreign_names_and_origins_are_refused(
    python_clients: Path, stack: Stack, agent_key: str, tmp_path: Path
) -> None:
    url = f"{stack.env['MAYFLY_URL']}/mcp"
    report = tmp_path / "report.json"
    words = [str(python_clients / "mcp-ssrf-check"), "--url", url, "--json-out", str(report)]
    run(words, tmp_path, MCP_SSRF_CHECK_BEARER=agent_key)
    found = {check["id"]: check["status"] for check in json.loads(report.read_text())["checks"]}
    assert {name for name, status in found.items() if status == "pass"} == {"baseline", "host-header", "origin-header"}
    assert "fail" not in found.values()


def test_fuzzer_finds_no_internal_error_and_no_unbounded_answer(
    python_clients: Path, keyed_api: Callable[..., str], tmp_path: Path
) -> None:
    answers = tmp_path / "answers.jsonl"
    url = keyed_api(f"answers={answers}")
    words = [
        str(python_clients / "mcp-fuzzer"), "--mode", "all", "--phase", "both", "--protocol-phase", "aggressive",
        "--protocol", "streamablehttp", "--endpoint", url, "--no-network", "--runs", "8", "--runs-per-type", "4",
        "--seed", "1", "--timeout", "60", "--no-corpus", "--output-dir", "out", "--fs-root", str(tmp_path / "root"),
    ]  # fmt: skip
    run(words, tmp_path)
    findings: list[dict[str, Any]] = json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]
    assert {finding["category"] for finding in findings} <= EXPECTED
    control = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "orchestrator/control"}}
    httpx2.post(url, json=control, headers={"Accept": "application/json, text/event-stream"})
    *seen, last = [json.loads(line) for line in answers.read_text().splitlines()]
    assert last["internal"]  # the control: a path of the source in an answer is seen
    assert len(seen) > 100
    assert [one for one in seen if one["status"] >= 500 or one["bytes"] > MOST_BYTES or one["internal"]] == []
    assert {one["status"] for one in seen} >= {200, 202}
