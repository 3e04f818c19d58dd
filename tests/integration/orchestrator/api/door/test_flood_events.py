"""Floods of refusals are security events, one for each caller and minute; ordinary use makes none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from orchestrator.api.door.connections import MAX_URL_BYTES
from orchestrator.api.door.floods import MANY, MAX_CALLERS
from tests.builders.processes.sockets import connections, exchange, is_closed
from tests.harness import Stack, bearer, eventually

LONG = b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\n\r\n"
MANY_HEADERS = b"GET /livez HTTP/1.1\r\n" + b"X-A: b\r\n" * 200 + b"\r\n"
HALF = b"GET /livez HTTP/1.1\r\nX-A: b\r\n"
WHOLE = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
FROM_ONE = 20


# A single window, so that no test spans two of them on a slow machine.
LASTING = """
from orchestrator.api import __main__
from orchestrator.api.door import floods
floods.WINDOW_SECONDS = 3600.0
__main__.main()
"""


@pytest.fixture(scope="module")
def api(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"address_connections": FROM_ONE, "connections": 3 * FROM_ONE, "streams": 1}
    made = Stack(tmp_path_factory.mktemp("api"), **settings)
    made.api_command = [sys.executable, "-c", LASTING]
    try:
        yield made.start(workers=0)
    finally:
        made.stop()


def floods(api: Stack) -> list[dict[str, Any]]:
    found = api.client.get("/api/v1/security-events", params={"type": "request_flood", "limit": 200}).json()["items"]
    return [item["data"] for item in found]


def of(api: Stack, **about: str) -> list[dict[str, Any]]:
    return [data for data in floods(api) if about.items() <= data.items()]


def test_ordinary_use_and_a_few_refusals_are_no_flood(api: Stack) -> None:
    """The control."""
    for _ in range(2 * MANY):
        assert exchange(api.port, WHOLE, "127.0.0.20").status == 200
    for _ in range(MANY // 2):
        assert exchange(api.port, LONG, "127.0.0.20").status == 414
    for _ in range(MANY):
        exchange(api.port, LONG, "127.0.0.21")
    eventually(lambda: of(api, address="127.0.0.21"), "the flood of refusals is reported")
    assert not of(api, address="127.0.0.20")


def test_each_refused_caller_gets_one_event(api: Stack) -> None:
    source = "127.0.0.22"
    for request in (LONG, MANY_HEADERS, b"no request\r\n\r\n"):
        for _ in range(MANY):
            exchange(api.port, request, source)
    with connections(api.port, FROM_ONE, HALF, source):
        for _ in range(MANY):
            assert exchange(api.port, WHOLE, source).status == 429
    for _ in range(MANY):
        exchange(api.port, LONG, "127.0.0.23")
    eventually(lambda: of(api, address="127.0.0.23"), "the last flood is reported")
    (event,) = of(api, address=source)
    assert event["count"] >= MANY
    assert set(event["refusals"]) <= {
        "uri_too_long", "headers_too_large", "malformed_request", "too_many_connections"
    }  # fmt: skip
    assert event["refusals"]["uri_too_long"] == MANY


def test_evicted_half_sent_requests_are_reported(api: Stack) -> None:
    for _ in range(1 + MANY // FROM_ONE):
        with ExitStack() as stack:
            made = [
                stack.enter_context(connections(api.port, FROM_ONE, HALF, f"127.0.0.{number}"))
                for number in range(24, 28)
            ]
            eventually(lambda made=made: all(map(is_closed, made[0])), "the first connections are evicted")  # type: ignore[misc]
    eventually(lambda: of(api, address="127.0.0.24"), "the flood is reported")
    (event,) = of(api, address="127.0.0.24")
    assert set(event["refusals"]) == {"gave_way"}


def test_refusal_with_a_key_is_reported_to_its_tenant(api: Stack) -> None:
    key = api.new_key("executions:read", "executions:write", "security:read", tenant="loud")
    headers = bearer(key["secret"])
    id = api.submit(headers=headers, environment="python", code="1").json()["id"]
    with api.client.stream("GET", f"/api/v1/executions/{id}/stream", headers=headers):
        for _ in range(MANY):
            assert api.client.get(f"/api/v1/executions/{id}/stream", headers=headers).status_code == 429

        def reported() -> list[dict[str, Any]]:
            answer = api.client.get("/api/v1/security-events", headers=headers, params={"type": "request_flood"})
            return [item["data"] for item in answer.json()["items"]]

        eventually(reported, "the refusal is reported to its tenant")
        (event,) = reported()
    assert (event["key"], event["refusals"]) == (key["id"], {"too_many_streams": MANY})
    assert "address" not in event


def test_many_callers_make_a_bounded_number_of_events(api: Stack) -> None:
    for number in range(3 * MAX_CALLERS):
        for _ in range(MANY):
            exchange(api.port, LONG, f"127.0.1.{number}")
    eventually(
        lambda: [data for data in floods(api) if "many different callers" in data["detail"]],
        "the other callers are reported together",
    )
    assert len(floods(api)) <= MAX_CALLERS + 1
    assert len(of(api)) < 3 * MAX_CALLERS
