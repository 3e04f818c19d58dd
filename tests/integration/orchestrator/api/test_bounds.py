"""A refusal that has a bound carries the bound as a number, beside the sentence with its unit."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

import mayfly
from tests.harness import Stack

EXECUTIONS = "/api/v1/executions"
OK: dict[str, Any] = {"environment": "python", "code": "print(1)"}
DEEP = "/".join("a" * 17)
# A submission, the invalid field and its bound.
SUBMISSIONS: dict[str, tuple[dict[str, Any], str, float | None]] = {
    "limit above": ({"limits": {"memory_bytes": 2**45}}, "limits.memory_bytes", 2 * 2**30),
    "limit below": ({"limits": {"cpu_cores": 1e-10}}, "limits.cpu_cores", 0.01),
    "long list": ({"artifacts": ["a"] * 65}, "artifacts", 64),
    "long text": ({"environment": "p" * 65}, "environment", 64),
    "short text": ({"environment": ""}, "environment", 1),
    "deep path": ({"files": [{"path": DEEP, "content": "x"}]}, "files.0.path", 16),
    "pattern with many stars": ({"artifacts": ["*a" * 17]}, "artifacts.0", 16),
    "pattern with control characters": ({"artifacts": ["\n"]}, "artifacts.0", None),
    "unknown field": ({"x": 1}, "x", None),
}


def refused(answer: httpx2.Response, status: int = 422) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(("fields", "field", "bound"), SUBMISSIONS.values(), ids=SUBMISSIONS)
def test_invalid_field_has_its_bound_as_a_number(
    api: Stack, fields: dict[str, Any], field: str, bound: float | None
) -> None:
    found = refused(api.submit(**{**OK, **fields}))
    (error,) = found["errors"]
    assert (error["field"], error.get("bound"), found.get("bound")) == (field, bound, bound)
    assert bound is None or f"{bound:.12g}" in error["message"], "the sentence has the number too"


def test_several_invalid_fields_have_a_bound_each(api: Stack) -> None:
    found = refused(api.submit(**OK, args=["a"] * 257, artifacts=["a"] * 65, x=1))
    assert {error["field"]: error.get("bound") for error in found["errors"]} == {
        "args": 256, "artifacts": 64, "x": None
    }  # fmt: skip
    assert "bound" not in found


def test_refused_item_of_a_batch_has_its_bound(api: Stack) -> None:
    answer = api.client.post(f"{EXECUTIONS}/batch", json={"executions": [{**OK, "limits": {"cpu_cores": 1e-10}}]})
    assert answer.json()[0]["problem"]["bound"] == 0.01


@pytest.mark.parametrize(("query", "bound"), [("limit=201", 200), ("limit=0", 1), ("limit=x", None)])
def test_query_parameter_has_its_bound(api: Stack, query: str, bound: int | None) -> None:
    assert refused(api.client.get(f"{EXECUTIONS}?{query}")).get("bound") == bound


def test_idempotency_key_has_a_bound_only_if_too_long(api: Stack) -> None:
    answers = [api.submit(headers={"Idempotency-Key": key}, **OK) for key in ("k" * 256, "a b")]
    assert [refused(answer).get("bound") for answer in answers] == [255, None]


def test_sdk_raises_a_refusal_with_its_bound(api: Stack) -> None:
    with (
        mayfly.Client(api.env["MAYFLY_URL"], api.env["MAYFLY_TOKEN"]) as client,
        pytest.raises(mayfly.InvalidRequest) as caught,
    ):
        client.submit("print(1)", environment="python", limits={"cpu_cores": 1e-10})
    assert caught.value.bound == 0.01
