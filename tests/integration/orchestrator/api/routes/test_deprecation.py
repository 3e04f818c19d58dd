"""Deprecated versions, routes and fields: their headers, and the policy that the table keeps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import pytest

from orchestrator.api.deprecation import DEPRECATED, LEAST, Deprecation
from orchestrator.identity.authorization import ROUTES
from tests.harness import Process, Stack, bearer, eventually, free_port

SINCE, SUNSET, LATER = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 8, 9))
LINK = "https://example.org/changes"
PROGRAM = f"""
import datetime, sys
from orchestrator.api import __main__, deprecation
since, sunset, later = {SINCE!r}, {SUNSET!r}, {LATER!r}
route = deprecation.Deprecation(since, later, {LINK!r})
deprecation.DEPRECATED["GET /api/v1/environments"] = route
deprecation.DEPRECATED["POST /api/v1/executions#labels"] = route
deprecation.DEPRECATED["GET /api/v1/queues"] = route
if sys.argv[1:]:
    deprecation.DEPRECATED["/api/v1"] = deprecation.Deprecation(since, sunset, {LINK!r})
__main__.main()
"""


@pytest.fixture(params=[(), ("version",)], ids=["routes", "version"])
def old(request: pytest.FixtureRequest, api: Stack, tmp_path: Path) -> Iterator[tuple[httpx2.Client, bool]]:
    """Another API process of the installation, with deprecated parts."""
    port = free_port()
    env = {**api.env, "MAYFLY_API_PORT": str(port)}
    process = Process([sys.executable, "-c", PROGRAM, *request.param], env, tmp_path / "api.log")
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer(api.key), timeout=90) as client:

        def answers() -> bool:
            try:
                return client.get("/livez").status_code == 200
            except httpx2.TransportError:
                return False

        try:
            eventually(answers, "the API answers", 180)
            yield client, bool(request.param)
        finally:
            process.stop()


def sunset(answer: httpx2.Response) -> datetime | None:
    """The time of the header, of an answer whose three headers belong together."""
    found = {name: answer.headers.get(name) for name in ("Deprecation", "Sunset", "Link")}
    if set(found.values()) == {None}:
        return None
    assert found["Deprecation"] == f"@{int(SINCE.timestamp())}"
    assert found["Link"] == f'<{LINK}>; rel="deprecation"'
    return parsedate_to_datetime(str(found["Sunset"]))


def test_deprecated_parts_answer_with_headers(old: tuple[httpx2.Client, bool]) -> None:
    client, whole_version = old
    current = SUNSET if whole_version else None
    part = SUNSET if whole_version else LATER
    body = {"environment": "python", "code": "1"}
    assert sunset(client.get("/api/v1/environments")) == part
    assert sunset(client.get("/api/v1/environments", headers=bearer("wrong"))) == part, "a refusal has them, too"
    assert sunset(client.head("/api/v1/environments")) == part
    assert sunset(client.post("/api/v1/executions", json=body)) == current
    assert sunset(client.post("/api/v1/executions", json={**body, "labels": {"a": "b"}})) == part
    assert sunset(client.get("/livez")) is None
    shown = {"status": "deprecated", "sunset": "2026-08-01T00:00:00Z"} if whole_version else {}
    [version] = client.get("/api/versions").json()["versions"]
    assert version == {"version": "v1", "status": "current", "sunset": None} | shown
    paths = client.get("/openapi.json").json()["paths"]
    assert paths["/api/v1/queues"]["get"]["deprecated"] is True
    assert ("deprecated" in paths["/api/v1/workers"]["get"]) is whole_version


def faults(table: dict[str, Deprecation]) -> list[str]:
    """Entries that break the policy."""
    wrong = [name for name, one in table.items() if one.sunset - one.since < LEAST]
    return wrong + [name for name in table if name != "/api/v1" and name.partition("#")[0] not in ROUTES]


def test_table_keeps_the_policy() -> None:
    assert faults(DEPRECATED) == []
    assert faults({"GET /api/v1/queues": Deprecation(SINCE, SINCE + LEAST, LINK)}) == []
    assert faults({"/api/v1": Deprecation(SINCE, SINCE, LINK)}) == ["/api/v1"]
    assert faults({"GET /nowhere": Deprecation(SINCE, SUNSET, LINK)}) == ["GET /nowhere"]
