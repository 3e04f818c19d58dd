"""Batches of 100 at every maximum: memory stays bounded, all is accepted, and a neighbour is answered meanwhile."""

from __future__ import annotations

import json
import statistics
import threading
import time
from typing import Any

import httpx2
import pytest

from orchestrator.api.bodies import MAX_MISTAKES
from orchestrator.api.door.uploads import PLACES
from orchestrator.api.routes.executions import MAX_BATCH
from tests.builders.processes.sockets import MIB, resident_bytes
from tests.harness import Stack

BATCH = "/api/v1/executions/batch"
CLIENTS = 6
VALUE_BYTES = 200  # of memory, for each value in JSON
COPIES = 3  # of a body: its bytes, what they are parsed into, and one item as it is taken in


def largest() -> dict[str, dict[str, Any]]:
    """One item of each batch, with as much of one thing as a hundred of them may have within one body."""
    code = "x = 1\n" * 100
    base = {"environment": "python", "code": "1"}
    return {
        "contents": {**base, "stdin": "x" * (31 * MIB // MAX_BATCH)},
        "escapes": {**base, "stdin": "\0" * (31 * MIB // MAX_BATCH // 6)},
        "files": {"environment": "python", "entrypoint": "f0", "files": [
            {"path": f"f{number}", "content": code} for number in range(90)]},
        "variables": {**base, "env": {f"V{number}": "x" * 1000 for number in range(256)}},
        "arguments": {**base, "args": ["x" * 1000] * 256},
        "labels": {**base, "labels": {f"l{number}": "x" * 256 for number in range(32)}},
        "code": {**base, "code": "x" + "+1" * 100_000},
        "tools": {**base, "tools": [{"name": f"t{number}", "inputSchema": {"type": "object", "properties": {
            f"p{n}": {"type": "string"} for n in range(60)}}} for number in range(30)]},
    }  # fmt: skip


def times(api: Stack, count: int) -> list[float]:
    """The times of some requests of a neighbour, in seconds."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert api.client.get("/api/v1/executions", params={"limit": 1}).status_code == 200
        taken.append(time.monotonic() - began)
    return taken


WAYS = [pytest.param(what, marks=() if what == "contents" else pytest.mark.complete) for what in largest()]


@pytest.mark.parametrize("what", WAYS)
def test_a_batch_of_a_hundred_at_a_maximum(api: Stack, what: str) -> None:
    """Six clients of three tenants send one each; all is accepted, with the memory of :data:`PLACES` bodies."""
    assert api.api is not None
    body = json.dumps({"executions": [largest()[what]] * MAX_BATCH}).encode()
    assert len(body) <= 32 * MIB
    keys = [api.headers_of(f"batch-{what}-{number % 3}", "executions:write") for number in range(CLIENTS)]
    answers: list[httpx2.Response] = []

    def send(headers: dict[str, str]) -> None:
        headers = {**headers, "Content-Type": "application/json"}
        answers.append(httpx2.post(api.env["MAYFLY_URL"] + BATCH, content=body, headers=headers, timeout=300))

    quiet = max(times(api, 20))
    before, most_bytes = resident_bytes(api.api.pid), 0
    clients = [threading.Thread(target=send, args=(headers,)) for headers in keys]
    for client in clients:
        client.start()
    taken: list[float] = []
    while any(client.is_alive() for client in clients):
        taken += times(api, 1)
        most_bytes = max(most_bytes, resident_bytes(api.api.pid) - before)
    for client in clients:
        client.join()
    assert {answer.status_code for answer in answers} == {207}, [answer.text[:300] for answer in answers]
    statuses = [item["status"] for answer in answers for item in answer.json()]
    assert statuses == [202] * (CLIENTS * MAX_BATCH)
    parsed_bytes = body.count(b":") * VALUE_BYTES
    assert most_bytes < PLACES * (COPIES * len(body) + parsed_bytes) + 64 * MIB
    quiet = max(quiet, *times(api, 20))  # what else the machine does changes meanwhile
    assert statistics.median(taken) < 5 * quiet, "a neighbour is answered all the while"


def test_tools_of_a_batch_are_checked_within_the_steps_of_one_check(api: Stack) -> None:
    """Schemas that are no other's, of which a few take as many steps as a check may."""
    schemas = [{"type": "object", "title": f"{number}", "allOf": [{}] * 3000} for number in range(MAX_BATCH)]
    items = [
        {"environment": "python", "code": "1", "tools": [{"name": "t", "inputSchema": schema}]} for schema in schemas
    ]
    answers = api.client.post(BATCH, json={"executions": items}, timeout=300).json()
    refused = [answer["problem"]["errors"][0]["message"] for answer in answers if answer["status"] == 422]
    assert MAX_BATCH - 20 < len(refused) < MAX_BATCH
    assert all("too many steps" in message for message in refused)
    last = {**items[-1], "labels": {"by": "itself"}}
    assert api.client.post("/api/v1/executions", json=last).status_code == 202, "the control: by itself"


def test_mistakes_of_a_batch_are_listed_up_to_a_bound_for_all(api: Stack) -> None:
    """A list of a thousand mistakes in each item would be 50 MB, which the event loop would write as JSON."""
    count = MAX_MISTAKES // 2
    item = {"environment": "python", "code": "1", **{f"unknown{number}": 1 for number in range(count)}}
    single = {"environment": "python", "code": "1", "unknown": 1}
    items = [*[item] * (MAX_BATCH - 1), single]
    *answers, last = api.client.post(BATCH, json={"executions": items}, timeout=300).json()
    assert {(answer["status"], answer["problem"]["code"]) for answer in answers} == {(422, "validation_failed")}
    assert [len(answer["problem"]["errors"]) for answer in answers] == [count] * 2 + [1] * (MAX_BATCH - 3)
    assert {answer["problem"]["detail"] for answer in answers[2:]} == {f"body: has {count} mistakes"}
    assert [error["field"] for error in last["problem"]["errors"]] == ["unknown"]
