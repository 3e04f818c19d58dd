"""The served OpenAPI document: it is the committed one, it is true, and nothing made from it brings the API down.

``python -m tests.integration.orchestrator.api.test_schema`` writes ``docs/openapi.json`` anew after a wanted change.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orchestrator.api import create_app
from orchestrator.settings import Settings, create_secret_file
from tests.harness import PATIENCE, ROOT, Stack

COMMITTED = ROOT / "docs" / "openapi.json"
REGENERATE = "python -m tests.integration.orchestrator.api.test_schema"
SUBMIT = "/api/v1/executions"
PROBLEM = "application/problem+json"
FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def document() -> dict[str, Any]:
    """The OpenAPI document of this checkout, without a process or a Redis."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        create_secret_file(state / "secret")
        made: dict[str, Any] = create_app(Settings(state_dir=state)).app.openapi()
        return made


def rendered(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"queue_limit": 1_000_000}


@pytest.fixture(scope="module")
def served(api: Stack) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{api.env['MAYFLY_URL']}/openapi.json", timeout=60).json()
    return found


@pytest.fixture(scope="module")
def ended(api: Stack) -> str:
    """The id of an execution that can neither keep a reader waiting nor change."""
    id: str = api.client.post(SUBMIT, json=NEARLY).json()["id"]
    assert api.client.post(f"{SUBMIT}/{id}/cancel").status_code == 202
    return id


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_served_schema_equals_the_committed_schema(served: dict[str, Any]) -> None:
    assert COMMITTED.exists(), f"there is none yet; {REGENERATE} writes it"
    assert COMMITTED.read_text(encoding="utf-8") == rendered(served), f"{REGENERATE} writes it anew"


def test_the_document_is_complete(served: dict[str, Any]) -> None:
    assert served["openapi"].startswith("3.1.")
    text = json.dumps(served)
    references = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references == set(served["components"]["schemas"]), "every schema is used, and each that is used is there"
    assert "HTTPValidationError" not in text
    names = [operation["operationId"] for _, _, operation in operations(served)]
    assert len(set(names)) == len(names)
    submission = served["components"]["schemas"]["Submission"]
    assert (submission["additionalProperties"], submission["required"]) == (False, ["environment"])


def test_every_refusal_in_the_document_is_a_problem(served: dict[str, Any]) -> None:
    for method, path, operation in operations(served):
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
        assert "default" in refusals, (method, path)
        for status, answer in refusals.items():
            expected = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            assert answer["content"] == expected, (method, path, status)
            assert answer["description"], (method, path, status)
    assert set(served["components"]["schemas"]["Problem"]["required"]) == {
        "type", "title", "status", "detail", "code", "request_id",
    }  # fmt: skip


def test_routes_require_a_key_exactly_where_documented(api: Stack, served: dict[str, Any]) -> None:
    for method, path, operation in operations(served):
        url = api.env["MAYFLY_URL"] + path.replace("{id}", "0" * 32).replace("{path}", "x")
        refused = httpx2.request(method.upper(), url, timeout=60).status_code == 401
        assert refused == bool(operation.get("security")) == ("401" in operation["responses"]), (method, path)


def answered_well(answer: httpx2.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == PROBLEM, answer.text
        assert {"type", "title", "status", "detail", "code", "request_id"} <= set(answer.json())
        assert answer.json()["status"] == answer.status_code


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, 10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=20)
    | st.text(st.sampled_from("\ud800\udfff\0\n/.~*ü\U0001f98b"), max_size=8)  # json escapes surrogates, as clients can
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from(["a", "a/b", "../a", "/a", "a\0", "main.py", "", "ü", "a" * 300]) | st.text(max_size=12)
NEARLY: dict[str, Any] = {
    "environment": "python",
    "code": "print(1)",
    "files": [
        {"path": "data/in.csv", "content": "a,b\n", "encoding": "utf-8"},
        {"path": "b", "content": "YQ==", "encoding": "base64"},
    ],
    "args": ["--fast"],
    "env": {"MODE": "x"},
    "stdin": "text",
    "isolation": "standard",
    "limits": {"wall_seconds": 5.0, "cpu_cores": 1.0, "memory_bytes": 536870912, "processes": 64},
    "mounts": [],
    "artifacts": ["*.png"],
    "labels": {"team": "x"},
    "priority": "default",
}


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good submission with up to three of its parts replaced, removed or joined by another."""
    body = copy.deepcopy(NEARLY)
    for _ in range(draw(st.integers(0, 3))):
        place: Any = body
        key: Any = draw(st.sampled_from(sorted(place)))
        while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        match draw(st.sampled_from(["replace", "remove", "add", "path"])):
            case "replace":
                place[key] = draw(SCALARS | ANYTHING)
            case "remove" if len(place) > 1:
                del place[key]
            case "add" if isinstance(place, dict):
                place[draw(st.text(max_size=8))] = draw(ANYTHING)
            case _:
                body.setdefault("files", [])
                if isinstance(body["files"], list):
                    body["files"].append({"path": draw(PATHS), "content": draw(st.text(max_size=8))})
        if not body:
            break
    return body


@settings(FUZZ, max_examples=400)
@given(body=ANYTHING | mutated())
def test_no_submission_breaks_the_api(api: Stack, body: Any) -> None:
    answer = api.client.post(SUBMIT, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    answered_well(answer)
    assert answer.status_code in (202, 400, 422)


def test_unmutated_requests_are_accepted(api: Stack) -> None:
    assert api.client.post(SUBMIT, json=NEARLY).status_code == 202


@settings(FUZZ, max_examples=100)
@given(body=st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789.eE+-\\ntfu', max_size=100).map(str.encode))
def test_no_bytes_break_the_api(api: Stack, body: bytes) -> None:
    answered_well(api.client.post(SUBMIT, content=body, headers={"Content-Type": "application/json"}))


@settings(FUZZ, max_examples=100)
@given(
    query=st.dictionaries(
        st.sampled_from(["limit", "cursor", "state", "environment", "label", "other"]),
        st.text(max_size=30) | st.integers().map(str),
    ),
    tag=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
    | st.text(st.sampled_from('0123456789²-,="*W/ '), max_size=30),
    zeros=st.text(st.sampled_from('0²³¹ ,;="'), max_size=6),  # no wait that would hold the test up
)
def test_no_query_and_no_header_breaks_the_api(
    api: Stack, ended: str, query: dict[str, str], tag: str, zeros: str
) -> None:
    raw: Any = tag.strip().encode("latin-1")  # as a header's value beside a name that is text
    answered_well(api.client.get(SUBMIT, params=query, headers={"X-Request-Id": raw}))
    headers = {"If-None-Match": raw, "Last-Event-ID": raw, "Range": b"bytes=" + raw}
    for rest in ("", "/stdout", "/stream", "/artifacts/x"):
        answer = api.client.get(f"{SUBMIT}/{ended}{rest}", headers=headers)
        answered_well(answer)
    wanted: Any = {"Prefer": f"wait={zeros}".strip().encode("latin-1"), "Idempotency-Key": raw, "traceparent": raw}
    answered_well(api.client.post(SUBMIT, json=NEARLY, headers=wanted))


def test_schemathesis_finds_no_server_error(api: Stack, ended: str) -> None:
    """Every operation, with data the schema allows and data it forbids; half of the ids are of an execution."""
    url = api.env["MAYFLY_URL"]
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=120)
    tried = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        tried.add((operation.method, operation.path))
        cases = operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE)

        @settings(FUZZ, max_examples=20)
        @given(case=cases, real=st.booleans())
        def send(case: Any, real: bool) -> None:
            if real and case.method != "DELETE" and "id" in case.path_parameters:
                case.path_parameters["id"] = ended
            case.headers.pop("Prefer", None)  # it could hold the test up for a minute, as could the wait for an event
            if case.path == "/api/v1/security-events" and isinstance(case.query, dict):
                case.query.pop("wait", None)
            answer = case.call(base_url=url, headers={"Authorization": f"Bearer {api.key}"}, timeout=60 * PATIENCE)
            if case.path == "/readyz":  # without a worker it rightly is 503
                assert answer.status_code in (503, 405)
                return
            if answer.status_code == 503 and case.path == "/api/v1/tools/{server}/{tool}/calls":  # nor a broker
                assert answer.json()["code"] == "tool_unavailable"
                return
            case.validate_response(answer, checks=CHECKS)

        send()
    assert tried == {(method, path) for method, path, _ in operations(schema.raw_schema)}
    assert api.client.get("/livez").status_code == 200


if __name__ == "__main__":
    COMMITTED.write_text(rendered(document()), encoding="utf-8")
