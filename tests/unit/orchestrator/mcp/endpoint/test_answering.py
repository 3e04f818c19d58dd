"""The form of answers in both eras: JSON, or events where there is something to send before the result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp_types import CallToolRequestParams, CallToolResult, TextContent
from prometheus_client import REGISTRY
from starlette.responses import Response

from orchestrator.errors import ValidationFailed
from orchestrator.identity import Principal
from orchestrator.mcp.arguments import MOST_LISTED, ExecuteCode, parse
from orchestrator.mcp.endpoint import answering
from orchestrator.mcp.endpoint.legacy import LegacyEndpoint
from orchestrator.mcp.endpoint.modern import ModernEndpoint
from orchestrator.mcp.parts import Caller
from tests.builders.mcp_calls import ERAS, LEGACY, MODERN, Agent

Context = ServerRequestContext[Any, Any]
Handler = Callable[[Context, CallToolRequestParams], Awaitable[CallToolResult]]
DONE = CallToolResult(content=[TextContent(type="text", text="done \ud800")])
PARAMS = {"name": "t", "_meta": {"progressToken": "p"}}
UNUSED: Any = None


class Exchange:
    """One request to an endpoint whose only tool is ``handler``; ``gone`` is set once the client is."""

    def __init__(self, handler: Handler, era: str) -> None:
        self.handler, self._era = handler, era
        self.gone = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.began = asyncio.Event()  # the answer has a first part

    async def run(self) -> None:
        body, headers = Agent(UNUSED, self._era).message("tools/call", PARAMS)
        unread = [json.dumps(body).encode()]

        async def receive() -> dict[str, Any]:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)
            if message["type"] == "http.response.body":
                self.began.set()

        lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        lines.append((b"content-type", b"application/json"))
        scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": lines, "state": {}}
        server: Server[Any] = Server("test", on_call_tool=self.handler)
        if self._era == MODERN:
            await ModernEndpoint(server).handle(scope, receive, send)
            return
        caller = Caller(Principal(id="key:k", key_id="k", tenant="t", scopes=frozenset()), lambda: None)
        await LegacyEndpoint(server, UNUSED).handle(LEGACY, caller, scope, receive, send)

    @property
    def head(self) -> dict[bytes, bytes]:
        (start,) = (message for message in self.sent if message["type"] == "http.response.start")
        assert start["status"] == 200
        return dict(start["headers"])

    @property
    def body(self) -> bytes:
        parts = [message for message in self.sent if message["type"] == "http.response.body"]
        assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]
        return b"".join(part["body"] for part in parts)


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def exchange(handler: Handler, era: str) -> Exchange:
    made = Exchange(handler, era)
    asyncio.run(made.run())
    return made


async def done(context: Context, params: CallToolRequestParams) -> CallToolResult:
    return DONE


def test_answer_without_notifications_is_json_that_keeps_lone_surrogates(era: str) -> None:
    found = exchange(done, era)
    assert found.head[b"content-type"] == b"application/json"
    assert int(found.head[b"content-length"]) == len(found.body)
    assert json.loads(found.body)["result"]["content"][0]["text"] == "done \ud800"


def test_notifications_come_before_the_result_in_a_stream(era: str) -> None:
    async def progress(context: Context, params: CallToolRequestParams) -> CallToolResult:
        async with anyio.create_task_group() as group:  # from several tasks
            for number in (1, 2):
                group.start_soon(context.session.report_progress, number, None, "x")
        return DONE

    found = exchange(progress, era)
    assert found.head[b"content-type"] == b"text/event-stream"
    events = [json.loads(line[6:]) for line in found.body.decode().splitlines() if line.startswith("data: ")]
    assert [event.get("method") for event in events] == ["notifications/progress"] * 2 + [None]
    assert events[0]["params"] == {"progressToken": "p", "progress": 1, "message": "x"}
    assert events[-1]["id"] == 7


def test_silent_stream_gets_comments(era: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "SILENT_SECONDS", 0.01)

    async def silent(context: Context, params: CallToolRequestParams) -> CallToolResult:
        with anyio.fail_after(20):
            await made.began.wait()
        return DONE

    made = Exchange(silent, era)
    asyncio.run(made.run())
    assert made.body.startswith(b": ping\r\n\r\n")
    assert b'"id":7' in made.body


def test_call_of_a_client_that_went_away_is_cancelled(era: str) -> None:
    made, outcome = Exchange(done, era), []

    async def wait(context: Context, params: CallToolRequestParams) -> CallToolResult:
        made.gone.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            outcome.append("cancelled")
            raise
        return DONE

    made.handler = wait
    asyncio.run(made.run())
    assert (outcome, made.sent) == (["cancelled"], [])


def internal_errors() -> float:
    return REGISTRY.get_sample_value("mayfly_requests_refused_total", {"code": "internal"}) or 0.0


def test_internal_error_is_counted_and_stays_inside(era: str) -> None:
    async def crash(context: Context, params: CallToolRequestParams) -> CallToolResult:
        raise RuntimeError("/srv/canary")

    before = internal_errors()
    found = exchange(crash, era)
    assert json.loads(found.body)["error"]["code"] == -32603
    assert b"canary" not in found.body
    assert internal_errors() == before + 1


def test_message_of_many_values_is_refused_unparsed() -> None:
    def message(arguments: dict[str, Any]) -> bytes:
        params = {"name": "t", "arguments": arguments}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()

    many = answering.parsed(message({f"a{number}": 1 for number in range(answering.MOST_VALUES // 2)}))
    assert isinstance(many, Response)
    assert (many.status_code, b"more than 100000 values" in many.body) == (400, True)
    assert not isinstance(answering.parsed(message({"code": ",[{" * answering.MOST_VALUES})), Response)


def test_many_mistakes_are_counted_and_not_described() -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse(ExecuteCode, {"code": "1"} | {f"a{number}": 1 for number in range(MOST_LISTED + 1)})
    assert refused.value.message == f"arguments: have {MOST_LISTED + 1} mistakes"
