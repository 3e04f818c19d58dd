"""Tools that the client of an execution fulfils, over REST: events of calls, and their answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from orchestrator.errors import StaleAttempt, StoreFull
from orchestrator.models.tools import ToolOutcome
from orchestrator.store import Store, keys
from tests.builders.tools.caller_calls import LOOKUP, CallingProgram, store_of
from tests.harness import Stack, eventually

RESPONSE_BYTES = 4096
UNKNOWN = "0" * 32


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"tool_response_bytes": RESPONSE_BYTES, "lease_seconds": 600.0}  # no worker renews the leases


@pytest.fixture
def store(api: Stack) -> Iterator[Store]:
    with store_of(api) as store:
        yield store


def submit(api: Stack, *tools: Any) -> str:
    body = {"environment": "python", "code": "1", "tools": list(tools or (LOOKUP,))}
    answer = api.client.post("/api/v1/executions", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def program(api: Stack, store: Store) -> Iterator[CallingProgram]:
    made = CallingProgram(store, submit(api))
    yield made
    with suppress(StaleAttempt):  # the test has ended it
        made.end()


def answer(api: Stack, id: str, call_id: str, **body: Any) -> httpx2.Response:
    return api.client.post(f"/api/v1/executions/{id}/tool-results/{call_id}", json=body)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    return problem


def events(api: Stack, id: str, after: str | None = None, last: str = "tool_call") -> list[dict[str, Any]]:
    """The events of a stream up to one of type ``last``, each with its id and name."""
    headers = {"Last-Event-ID": after} if after else {}
    found, event = [], {}
    with api.client.stream("GET", f"/api/v1/executions/{id}/stream", headers=headers) as stream:
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
                continue
            found.append({"id": event["id"], "event": event["event"], **json.loads(event["data"])})
            if event["event"] in (last, "done"):
                return found
            event = {}
    return found


def test_call_is_an_event_and_its_answer_reaches_the_program(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="ä\u2028\n")
    event = events(api, program.id)[-1]
    assert (event["call_id"], event["name"], event["arguments"]) == (call_id, "lookup", {"key": "ä\u2028\n"})
    assert event["attempt"] == program.attempt
    assert event["deadline"].endswith("+00:00")
    assert answer(api, program.id, call_id, result={"count": 3}).status_code == 204
    assert program.outcome(call_id) == ToolOutcome(result='{"count":3}')


def test_error_of_the_client_is_a_failure_of_the_call(api: Stack, program: CallingProgram) -> None:
    first, second = program.call(key="a"), program.call(key="b")
    assert answer(api, program.id, first, error={"message": "no such key"}).status_code == 204
    denied = answer(api, program.id, second, error={"message": "not approved", "code": "tool_denied"})
    assert denied.status_code == 204
    for call_id, code, message in ((first, "tool_failed", "no such key"), (second, "tool_denied", "not approved")):
        failure = program.outcome(call_id).failure
        assert failure is not None
        assert (failure.code, failure.message) == (code, message)


def test_result_may_be_any_json_where_the_tool_has_no_output_schema(api: Stack, store: Store) -> None:
    program = CallingProgram(store, submit(api, {"name": "any", "inputSchema": {"type": "object"}}))
    results: list[Any] = [None, False, 0, "", [], {"é": [1.5, None]}, 2**70]
    for result in results:
        call_id = program.call("any")
        assert answer(api, program.id, call_id, result=result).status_code == 204
        text = program.outcome(call_id).result
        assert text is not None
        assert json.loads(text) == result
    program.end()


def test_stream_resumes_behind_a_call_without_repeating_the_call(api: Stack, program: CallingProgram) -> None:
    ids = [program.call(key=str(n)) for n in range(3)]
    first = events(api, program.id)[-1]
    assert first["call_id"] == ids[0]
    program.end()
    rest = events(api, program.id, after=first["id"], last="done")
    assert [event["call_id"] for event in rest if event["event"] == "tool_call"] == ids[1:]
    whole = events(api, program.id, last="done")
    assert [event["call_id"] for event in whole if event["event"] == "tool_call"] == ids


def test_large_arguments_reach_the_client(api: Stack, program: CallingProgram) -> None:
    key = "ü" * 200_000
    call_id = program.call(key=key)
    assert events(api, program.id)[-1]["arguments"] == {"key": key}
    assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204
    assert program.outcome(call_id) == ToolOutcome(result='{"count":1}')
    program.end()
    [event] = [event for event in events(api, program.id, last="done") if event["event"] == "tool_call"]
    assert (event["call_id"], event["arguments"]) == (call_id, None)


def test_same_answer_again_changes_nothing_and_another_is_refused(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="a")
    for _ in range(2):
        assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204
    refused(answer(api, program.id, call_id, result={"count": 2}), 409, "tool_call_answered")
    refused(answer(api, program.id, call_id, error={"message": "no"}), 409, "tool_call_answered")
    assert program.outcome(call_id) == ToolOutcome(result='{"count":1}')
    assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204  # also when the program has it
    assert list(program.answered()) == [call_id]
    program.end()
    assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204
    refused(answer(api, program.id, call_id, result={"count": 2}), 409, "tool_call_answered")


def test_call_of_another_execution_is_unknown(api: Stack, store: Store, program: CallingProgram) -> None:
    other = CallingProgram(store, submit(api))
    call_id = other.call(key="a")
    refused(answer(api, program.id, call_id, result={"count": 1}), 404, "not_found")
    refused(answer(api, program.id, UNKNOWN, result={"count": 1}), 404, "not_found")
    refused(answer(api, UNKNOWN, call_id, result={"count": 1}), 404, "not_found")
    assert other.answered() == {}
    assert answer(api, other.id, call_id, result={"count": 1}).status_code == 204
    other.end()


def test_call_of_another_tenant_is_unknown(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="a")
    theirs = api.headers_of("other", "executions:write", "executions:read")
    url = f"/api/v1/executions/{program.id}/tool-results/{call_id}"
    stranger = api.client.post(url, json={"result": {"count": 1}}, headers=theirs)
    missing = api.client.post(url.replace(program.id, UNKNOWN), json={"result": 1}, headers=theirs)
    assert refused(stranger, 404, "not_found")["title"] == refused(missing, 404, "not_found")["title"]
    assert program.answered() == {}
    reader = api.headers_of("default", "executions:read")
    refused(api.client.post(url, json={"result": 1}, headers=reader), 403, "forbidden")


def test_late_answer_is_refused(api: Stack, store: Store, program: CallingProgram) -> None:
    call_id = program.call(seconds=0.2, key="a")
    deadline = float(store.redis.hget(keys.tool_call(call_id), "deadline"))
    eventually(lambda: store.now() > deadline, "the deadline has passed")
    refused(answer(api, program.id, call_id, result={"count": 1}), 409, "tool_call_expired")
    assert program.answered() == {}


def test_answer_after_the_end_is_refused(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="a")
    program.end()
    refused(answer(api, program.id, call_id, result={"count": 1}), 409, "tool_call_ended")
    refused(answer(api, program.id, UNKNOWN, result={"count": 1}), 409, "tool_call_ended")
    assert program.answered() == {}


def test_answer_to_an_earlier_attempt_is_refused(api: Stack, store: Store) -> None:
    program = CallingProgram(store, submit(api))
    call_id = program.call(key="a")
    assert store.records.requeue(program.id, program.attempt)
    refused(answer(api, program.id, call_id, result={"count": 1}), 409, "tool_call_ended")
    with pytest.raises(StaleAttempt):
        program.call(key="b")
    assert program.answered() == {}
    assert api.client.post(f"/api/v1/executions/{program.id}/cancel").status_code == 202


@pytest.mark.parametrize(
    ("body", "code", "reported"),
    [
        ({"result": {"count": "3"}}, "tool_result_invalid", "count"),
        ({"result": {}}, "tool_result_invalid", "count"),
        ({"result": None}, "tool_result_invalid", "object"),
        ({}, "validation_failed", "either result or error"),
        ({"result": {"count": 1}, "error": {"message": "no"}}, "validation_failed", "either result or error"),
        ({"error": "no"}, "validation_failed", "object"),
        ({"error": {"message": ""}}, "validation_failed", "at least 1 character"),
        ({"error": {"message": "x" * 4097}}, "validation_failed", "at most 4096 characters"),
        ({"error": {"message": "x", "code": "tool_unknown"}}, "validation_failed", "tool_failed"),
        ({"result": {"count": 1}, "more": 1}, "validation_failed", "not permitted"),
    ],
)
def test_mistake_in_an_answer_leaves_the_call_open(
    api: Stack, program: CallingProgram, body: dict[str, Any], code: str, reported: str
) -> None:
    call_id = program.call(key="a")
    assert reported in refused(answer(api, program.id, call_id, **body), 422, code)["detail"]
    assert program.answered() == {}
    assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204


def test_result_beyond_its_bound_is_refused_with_the_bound(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="a")
    padding = RESPONSE_BYTES - len('{"count":1,"p":""}')
    large = answer(api, program.id, call_id, result={"count": 1, "p": "x" * (padding + 1)})
    assert refused(large, 413, "tool_result_too_large")["bound"] == RESPONSE_BYTES
    assert program.answered() == {}
    assert answer(api, program.id, call_id, result={"count": 1, "p": "x" * padding}).status_code == 204


def test_body_of_100_megabytes_is_refused_before_its_end(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="a")
    body = b'{"result": "' + b"x" * (100 * 2**20) + b'"}'
    url = f"/api/v1/executions/{program.id}/tool-results/{call_id}"
    large = api.client.post(url, content=body, headers={"Content-Type": "application/json"})
    assert refused(large, 413, "payload_too_large")["bound"] == 32 * 2**20
    assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204


def test_number_that_json_does_not_have_is_refused(api: Stack, store: Store) -> None:
    program = CallingProgram(store, submit(api, {"name": "any", "inputSchema": {"type": "object"}}))
    url = f"/api/v1/executions/{program.id}/tool-results/{program.call('any')}"
    infinite = api.client.post(url, content=b'{"result": [1e400]}', headers={"Content-Type": "application/json"})
    refused(infinite, 422, "tool_result_invalid")
    program.end()


def test_answers_at_once_settle_a_call_once(api: Stack, program: CallingProgram) -> None:
    call_id = program.call(key="a")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: answer(api, program.id, call_id, result={"count": n}), range(8)))
    assert sorted(found.status_code for found in answers) == [204] + [409] * 7
    [accepted] = [n for n, found in enumerate(answers) if found.status_code == 204]
    assert program.outcome(call_id) == ToolOutcome(result=f'{{"count":{accepted}}}')


def test_record_shows_no_tools_and_frees_the_schemas_at_the_end(api: Stack, store: Store) -> None:
    program = CallingProgram(store, submit(api))
    assert "tools" not in api.client.get(f"/api/v1/executions/{program.id}").json()
    record = keys.execution(program.id)
    assert json.loads(store.redis.hget(record, "tool_outputs")) == {"lookup": LOOKUP["outputSchema"]}
    program.end()
    assert store.redis.hget(record, "tool_outputs") is None
    room = keys.tenant_room("default")
    before = int(store.redis.hget(room, "bytes"))
    assert api.client.delete(f"/api/v1/executions/{program.id}").status_code == 204
    assert int(store.redis.hget(room, "bytes")) < before


def test_call_without_room_for_its_event_is_refused(api: Stack, store: Store, program: CallingProgram) -> None:
    room = keys.tenant_room("default")
    store.redis.hset(room, "most", 1)
    try:
        with pytest.raises(StoreFull):
            program.call(key="a")
    finally:
        store.redis.hdel(room, "most")
    assert [entry.type for entry in store.output.read(program.id)] == ["state", "state", "state"]
    call_id = program.call(key="a")
    assert answer(api, program.id, call_id, result={"count": 1}).status_code == 204
