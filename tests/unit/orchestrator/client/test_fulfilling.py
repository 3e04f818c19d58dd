"""How the SDK fulfils calls, driven from a script: what is sent for each outcome, and what is raised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

import mayfly
from mayfly import Tool, WaitTimeout
from mayfly.steps import ConnectionLost, Read, Response, Send
from tests.builders.sandboxes.scripted import Script, Scripted, answer

QUEUED = {"id": "x", "state": "queued"}
ENDED = {"id": "x", "state": "succeeded", "exit_code": 0}
DONE = b"id: 9-1\nevent: done\ndata: {}\n\n"
TAKEN = Response(204)


def called(name: str = "f", position: int = 1, **arguments: Any) -> bytes:
    data = {"call_id": f"c{position}", "name": name, "arguments": arguments, "deadline": "2026-01-01T00:00:00+00:00"}
    return f"id: {position}-1\nevent: tool_call\ndata: {json.dumps(data)}\n\n".encode()


def problem(status: int, code: str, detail: str = "no") -> Response:
    return answer(status, {"code": code, "detail": detail})


def fulfilled(tools: Any, stream: Sequence[bytes | Exception], *answers: Scripted) -> list[tuple[str, Any]]:
    """The paths and bodies of what is sent, when a program makes these calls and ends."""
    script = Interleaved(answer(202, QUEUED), list(stream), *answers, answer(200, ENDED))
    execution = script.complete(script.calls.run("1", tools=tools))
    assert execution.has_succeeded
    return [(step.path.rpartition("/")[2], step.json) for step in script.sent if "tool-results" in step.path]


class Interleaved(Script):
    """A script whose stream continues after the requests that are sent beside it."""

    def take(self, step: Any) -> Any:
        kept = list(self._pieces)
        try:
            return super().take(step)
        finally:
            if isinstance(step, Send) and "tool-results" in step.path:
                self._pieces = kept


def raising(error: Exception) -> Tool:
    def call(**arguments: Any) -> None:
        raise error

    return Tool("f", call)


def test_function_is_called_and_its_value_sent() -> None:
    def f(a: int, b: str = "x") -> list[Any]:
        return [a, b]

    sent = fulfilled({"f": f}, [called(a=1), called(position=2, a=2, b="y"), DONE], TAKEN, TAKEN)
    assert sent == [("c1", {"result": [1, "x"]}), ("c2", {"result": [2, "y"]})]


def test_submission_has_the_definitions() -> None:
    script = Interleaved(answer(202, QUEUED), [DONE], answer(200, ENDED))
    script.complete(script.calls.run("1", tools=["github.*", Tool("f", dict)]))
    assert script.sent[0].json["tools"] == [
        "github.*",
        {"name": "f", "description": "", "inputSchema": {"type": "object"}},
    ]
    assert "Prefer" not in script.sent[0].headers


def test_coroutine_is_awaited() -> None:
    async def f(a: int) -> int:
        return a + 1

    assert fulfilled([f], [called(a=1), DONE], TAKEN) == [("c1", {"result": 2})]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such key"), "no such key"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 5000), "x" * 4000),
    ],
)
def test_exception_becomes_an_error_of_the_call(error: Exception, message: str) -> None:
    assert fulfilled([raising(error)], [called(), DONE], TAKEN) == [("c1", {"error": {"message": message}})]


def test_argument_that_does_not_fit_is_named_without_its_value() -> None:
    def f(a: int) -> int:
        return a

    [(_, body)] = fulfilled([f], [called(a="secret", b=1), DONE], TAKEN)
    message = body["error"]["message"]
    assert message.startswith("a: Input should be a valid integer")
    assert "b: Unexpected keyword argument" in message
    assert "secret" not in message


def test_value_that_is_no_json_becomes_an_error() -> None:
    [(_, body)] = fulfilled([Tool("f", object)], [called(), DONE], TAKEN)
    assert "object" in body["error"]["message"]


@pytest.mark.parametrize(("status", "code"), [(413, "tool_result_too_large"), (422, "tool_result_invalid")])
def test_refused_result_becomes_an_error_with_the_reason(status: int, code: str) -> None:
    sent = fulfilled([Tool("f", dict)], [called(), DONE], problem(status, code, "too much"), TAKEN)
    assert sent == [("c1", {"result": {}}), ("c1", {"error": {"message": "too much"}})]


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "tool_call_expired"), (409, "tool_call_ended"), (409, "tool_call_answered"), (404, "not_found")],
)
def test_answer_that_comes_too_late_is_no_failure(status: int, code: str) -> None:
    assert len(fulfilled([Tool("f", dict)], [called(), DONE], problem(status, code))) == 1


def test_lost_answer_is_sent_again() -> None:
    sent = fulfilled([Tool("f", dict)], [called(), DONE], ConnectionLost("cut"), TAKEN)
    assert sent == [("c1", {"result": {}})] * 2


def test_failure_to_send_is_raised() -> None:
    script = Interleaved(answer(202, QUEUED), [called(), DONE], problem(403, "forbidden"), answer(200, ENDED))
    with pytest.raises(mayfly.Forbidden):
        script.complete(script.calls.run("1", tools=[Tool("f", dict)]))


def test_tool_that_something_else_fulfils_is_left_alone() -> None:
    assert fulfilled([Tool("f", dict), {"name": "g", "inputSchema": {"type": "object"}}], [called("g"), DONE]) == []


def test_ended_call_whose_arguments_are_gone_is_not_made() -> None:
    data = {"call_id": "c1", "name": "f", "arguments": None, "deadline": "2026-01-01T00:00:00+00:00"}
    gone = f"id: 1-1\nevent: tool_call\ndata: {json.dumps(data)}\n\n".encode()
    assert fulfilled([Tool("f", dict)], [gone, DONE]) == []


def test_stream_that_breaks_is_resumed_and_no_call_is_made_twice() -> None:
    counted = []
    script = Interleaved(
        answer(202, QUEUED), [called(), ConnectionLost("cut")], TAKEN, [called(position=2), DONE], TAKEN,
        answer(200, ENDED),
    )  # fmt: skip
    script.complete(script.calls.run("1", tools=[Tool("f", lambda: counted.append(1))]))
    assert [step.headers.get("Last-Event-ID") for step in script.sent if step.streamed] == [None, "1-1"]
    assert len(counted) == 2


def test_running_execution_is_abandoned_after_the_timeout() -> None:
    class Slow(Interleaved):
        def take(self, step: Any) -> Any:
            self.now += 2 if isinstance(step, Read) else 0
            return super().take(step)

    running = answer(200, {"id": "x", "state": "running"})
    script = Slow(answer(202, QUEUED), [b": keep\n\n"] * 9, running)
    with pytest.raises(WaitTimeout, match="running after 5 s"):
        script.complete(script.calls.run("1", tools=[Tool("f", dict)], timeout_seconds=5))
    assert script.now == 1006.0


def test_wait_for_an_event_ends_with_the_timeout() -> None:
    class Silent(Interleaved):
        def take(self, step: Any) -> Any:
            if isinstance(step, Read):
                waits.append(step.timeout_seconds)
            return super().take(step)

    waits: list[float | None] = []
    script = Silent(answer(202, QUEUED), [DONE], answer(200, ENDED))
    script.complete(script.calls.run("1", tools=[Tool("f", dict)], timeout_seconds=5))
    assert waits == [5.0]
