"""Metrics as Prometheus sees them: well-formed, complete, without ids or tenants."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress

import httpx2
import pytest

from tests.harness import Stack, eventually

LABELS = {"environment", "state", "reason", "fault", "start", "method", "route", "status", "code", "priority", "action",
          "kind", "dimension", "what", "outcome", "call", "isolation", "cause", "tool", "le"}  # fmt: skip


@pytest.fixture
def texts(stack: Stack) -> dict[str, str]:
    eventually(stack.waiting, "a container is warm")
    stack.run(code="print(1)")
    stack.run(code="import sys; sys.exit(1)")
    assert stack.submit(environment="nothing", code="x").status_code == 422
    return counted(stack)


def counted(stack: Stack) -> dict[str, str]:
    """The metrics, as they are now: an execution or a request is counted after its answer."""
    api = stack.client.get("/metrics")
    assert api.status_code == 200
    worker = httpx2.get(f"http://127.0.0.1:{stack.env['MAYFLY_METRICS_PORT']}/metrics")
    return {"api": api.text, "worker": worker.text}


def test_promtool_accepts_every_metric(texts: dict[str, str]) -> None:
    for text in texts.values():
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
        ours = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("mayfly_")]
        assert ours == []
        assert checked.returncode == 0, checked.stderr


def test_promtool_would_complain() -> None:
    bad = "# HELP mayfly_bad_milliseconds x\n# TYPE mayfly_bad_milliseconds counter\nmayfly_bad_milliseconds 1\n"
    checked = subprocess.run(["promtool", "check", "metrics"], input=bad, text=True, capture_output=True)
    assert checked.returncode != 0


EXPECTED = {
    "worker": (
        'mayfly_executions_finished_total{environment="python",fault="",reason="",start="warm",state="succeeded"',
        'mayfly_executions_finished_total{environment="python",fault="user",reason="nonzero_exit",start=',
        *(f'mayfly_execution_{n}_seconds_count{{environment="python"}} [1-9]' for n in ("queue", "start", "run")),
        'mayfly_execution_collect_seconds_count{environment="python"} [1-9]',
        'mayfly_pool_leases_total{environment="python",outcome="hit"} [1-9]',
        'mayfly_pool_containers{environment="python",isolation="standard"}',
        "mayfly_worker_slots [1-9]",
    ),
    "api": (
        'mayfly_requests_refused_total{code="unknown_environment"} [1-9]',
        'mayfly_executions_submitted_total{environment="python",priority="default"} [1-9]',
        'route="/api/v1/executions",status="202"|route="/api/v1/executions",status="200"',
    ),
}


@pytest.mark.usefixtures("texts")
def test_metrics_count_executions_leases_and_refusals(stack: Stack) -> None:
    missing: list[str] = []

    def complete() -> bool:
        texts = counted(stack)
        missing[:] = [line for name, lines in EXPECTED.items() for line in lines if not re.search(line, texts[name])]
        return not missing

    with suppress(AssertionError):
        eventually(complete, "the metrics count all of them")
    assert missing == []


def test_labels_are_from_small_sets(stack: Stack, texts: dict[str, str]) -> None:
    for text in texts.values():
        ours = "\n".join(line for line in text.splitlines() if line.startswith("mayfly_"))
        assert set(re.findall(r'[{,]([a-z_]+)="', ours)) <= LABELS
        assert not re.search(r"[0-9a-f]{32}", ours)


def test_the_apis_metrics_need_a_scope(stack: Stack) -> None:
    assert httpx2.get(f"{stack.env['MAYFLY_URL']}/metrics").status_code == 401
