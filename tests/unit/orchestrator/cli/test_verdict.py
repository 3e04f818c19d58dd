"""Exit codes and the line that explains them."""

from __future__ import annotations

from typing import Any

import pytest

from mayfly import Execution, MayflyError
from orchestrator.cli.verdict import EXPLANATIONS, exit_code, explanation, refusal, refusal_code
from orchestrator.states import Reason
from tests.builders.one_execution import LIMITS


def ended(state: str, reason: str | None = None, fault: str | None = None, **more: Any) -> Execution:
    document = {"id": "x", "state": state, "reason": reason, "fault": fault, "limits": LIMITS}
    return Execution.from_document({**document, **more})


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        (ended("succeeded", exit_code=0), 0),
        (ended("failed", "nonzero_exit", "user", exit_code=7), 7),
        (ended("failed", "signalled", "user", exit_code=139, signal="SIGSEGV"), 139),
        (ended("failed", "signalled", "user", exit_code=139), 139),
        (ended("failed", "timed_out", "user", exit_code=137), 124),
        (ended("failed", "cpu_exceeded", "user", exit_code=137), 124),
        (ended("failed", "oom_killed", "user", exit_code=None), 137),
        (ended("failed", "output_exceeded", "user", exit_code=124), 137),
        (ended("failed", "pids_exceeded", "user", exit_code=None), 1),
        (ended("failed", "disk_exceeded", "user", exit_code=5), 5),
        (ended("failed", "compile_failed", "user", exit_code=1, compile={"exit_code": 3}), 3),
        (ended("failed", "security_violation", "policy", exit_code=159), 126),
        (ended("errored", "worker_lost", "platform"), 125),
        (ended("cancelled", "cancelled_by_user"), 130),
    ],
)
def test_execution_has_its_exit_code(execution: Execution, expected: int) -> None:
    assert expected == exit_code(execution)


def test_every_reason_but_a_nonzero_exit_is_explained() -> None:
    assert set(Reason) - {Reason.NONZERO_EXIT} == set(EXPLANATIONS)
    for reason in EXPLANATIONS:
        line = explanation(ended("failed", reason.value, signal="SIGSEGV"))
        assert line is not None
        assert line.startswith(f"{reason.value}: it ended") is False
        assert "{" not in line


def test_nonzero_exit_is_reported_without_explanation() -> None:
    assert explanation(ended("succeeded")) is None
    assert explanation(ended("failed", "nonzero_exit")) is None


def test_a_reason_of_a_newer_server_is_still_shown() -> None:
    assert explanation(ended("failed", "melted", message="too hot")) == "melted: it ended failed (too hot)"


def test_refusals_name_fields_and_the_request() -> None:
    error = MayflyError("no", code="limit_exceeded", request_id="r1", errors=(("limits.a", "x"), ("b", "y")))
    assert refusal(error) == "limits.a: x; b: y [limit_exceeded, request r1]"
    many = MayflyError("no", code="policy_violation", errors=tuple((f"f{n}", "x") for n in range(4)))
    assert refusal(many) == "f0: x\n  f1: x\n  f2: x\n  f3: x [policy_violation]"


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("policy_violation", 422, 126),
        ("forbidden", 403, 126),
        ("rate_limited", 429, 126),
        ("tenant_queue_full", 429, 126),
        ("validation_failed", 422, 2),
        ("isolation_unavailable", 422, 2),
        ("malformed_body", 400, 2),
        ("unauthenticated", 401, 2),
        ("not_found", 404, 2),
        ("still_running", 409, 2),
        ("payload_too_large", 413, 2),
        ("bad_answer", 404, 2),
        ("bad_answer", 502, 125),
        ("internal", 500, 125),
        ("queue_full", 503, 125),
        ("policy_unavailable", 503, 125),
        ("api_unreachable", None, 125),
        ("stream_broken", None, 125),
        ("invalid_url", None, 2),
        ("no_mayfly", None, 2),
    ],
)
def test_exit_code_125_means_platform_fault(code: str, status: int | None, expected: int) -> None:
    assert refusal_code(MayflyError("no", code=code, status=status)) == expected
