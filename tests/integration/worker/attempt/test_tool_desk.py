"""A worker's desk of tools on a real Redis: calls reach a broker, outcomes the right line, and the end cancels."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from orchestrator import retry
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import ToolOutcome
from orchestrator.settings import Settings
from orchestrator.states import Reason, State
from orchestrator.store import Store, keys
from tests.builders.records import claimed, now, specification, submit
from tests.builders.tool_calls import SERVER, catalogue, serving
from tests.harness import eventually
from worker.agent.call_stream import LENGTHS
from worker.agent.frames import HEADER, Frame, FromAgent, ToAgent
from worker.attempt.attempt import Attempt
from worker.attempt.incidents import Incidents
from worker.attempt.tools import cost
from worker.attempt.tools.desk import ToolDesk


class Line:
    """The line of one running attempt, with the agent's end in the test."""

    def __init__(self, store: Store, desk: ToolDesk, *tools: str) -> None:
        self.attempt, self.answered, self.acknowledged = Attempt(), bytearray(), 0
        self.id = submit(store)
        claim = claimed(store, self.id)
        store.records.start(claim, now())
        granted = specification().model_copy(update={"tools": tools or ("files.*",)})
        calling = desk.line(claim, granted, self.attempt, self._send, Incidents())
        assert calling is not None
        self.calling = calling

    def _send(self, data: bytes, timeout_seconds: float) -> None:
        code, _ = HEADER.unpack_from(data)
        if code == ToAgent.ANSWER_DATA.value:
            self.answered += data[HEADER.size :]

    def call(self, seq: int, tool: str, server: str = "files", **arguments: Any) -> None:
        header, body = json.dumps({"seq": seq, "server": server, "tool": tool}).encode(), json.dumps(arguments).encode()
        message = LENGTHS.pack(len(header), len(body)) + header + body
        self.calling.receive(Frame(FromAgent.CALL_DATA, message))

    def answer(self) -> Any:
        """The next answer: its number and value, or its failure's code."""

        def found() -> Any:
            if len(self.answered) < LENGTHS.size:
                return None
            head, body = LENGTHS.unpack_from(self.answered)
            end = LENGTHS.size + head + body
            if len(self.answered) < end:
                return None
            header, value = json.loads(self.answered[8 : 8 + head]), json.loads(self.answered[8 + head : end])
            del self.answered[:end]
            return header["seq"], value if header["ok"] else value["code"]

        return eventually(found, "an answer arrives")


@pytest.fixture
def desk(store: Store, settings: Settings) -> Iterator[ToolDesk]:
    settings.secret_path.write_text(secrets.token_hex(32))
    made = ToolDesk(store, settings)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def broker(store: Store) -> SimpleNamespace:
    """A broker that takes calls when the test wants it to."""
    serving(store)
    store.tools.catalogues.put("t", catalogue("read", idempotent=True))

    def take(count: int = 1) -> list[Any]:
        found: list[Any] = []

        def enough() -> bool:
            taken = store.tools.calls.take("b", {SERVER: 100})
            assert taken is not None
            found.extend(one.call for one in taken.calls)
            return len(found) >= count

        eventually(enough, f"{count} calls wait")
        return found

    def settle(call: Any, result: Any) -> None:
        assert store.tools.calls.settle("b", [(call.id, ToolOutcome(result=json.dumps(result)))]) == [True]

    return SimpleNamespace(take=take, settle=settle)


def test_each_line_gets_the_outcomes_of_its_own_calls(store: Store, desk: ToolDesk, broker: SimpleNamespace) -> None:
    lines = [Line(store, desk) for _ in range(3)]
    for line in lines:
        line.call(1, "read", of=line.id)
    calls = broker.take(3)
    assert {call.execution for call in calls} == {line.id for line in lines}
    for call in reversed(calls):
        broker.settle(call, {"of": call.execution, "got": json.loads(call.arguments)})
    for line in lines:
        assert line.answer() == (1, {"of": line.id, "got": {"of": line.id}})
        line.calling.close()


@pytest.mark.parametrize(("tool", "may_repeat"), [("read", True), ("write", False)])
def test_attempt_with_a_call_that_must_not_be_repeated_is_the_last(
    store: Store, desk: ToolDesk, broker: SimpleNamespace, tool: str, may_repeat: bool
) -> None:
    line = Line(store, desk)
    line.call(1, tool)
    broker.settle(broker.take()[0], None)
    assert line.answer() == (1, None)
    assert line.attempt.may_repeat is may_repeat
    assert store.records.has_called(line.id) is not may_repeat
    decision = retry.decide(
        retry.Cause.FAULT, Reason.RUNTIME_UNAVAILABLE, attempt=1, spoilt=1, started=True, cancelled=False, most=3,
        may_repeat=line.attempt.may_repeat,
    )  # fmt: skip
    assert isinstance(decision, retry.Requeue) is may_repeat
    line.calling.close()


def test_the_end_of_an_attempt_cancels_its_calls_and_no_others(
    store: Store, desk: ToolDesk, broker: SimpleNamespace
) -> None:
    ended, other = Line(store, desk), Line(store, desk)
    ended.call(1, "read")
    ended.call(2, "read")
    other.call(1, "read")
    calls = broker.take(3)
    ended.calling.close()
    cancelled: list[str] = []

    def both() -> bool:
        taken = store.tools.calls.take("b", {SERVER: 100})
        assert taken is not None
        cancelled.extend(taken.cancelled)
        return len(set(cancelled)) == 2

    eventually(both, "the broker learns of both calls")
    assert set(cancelled) == {call.id for call in calls if call.execution == ended.id}
    [left] = [call for call in calls if call.execution == other.id]
    broker.settle(left, "fine")
    assert other.answer() == (1, "fine")
    assert {record.outcome for record in ended.calling.records()} == {"tool_cancelled"}
    other.calling.close()


def test_refused_cancellation_ends_no_line(store: Store, desk: ToolDesk, broker: SimpleNamespace) -> None:
    """The control: Redis does refuse it, here because a key has another type."""
    line = Line(store, desk)
    line.call(1, "read")
    [call] = broker.take()
    store.redis.set(keys.tool_taken("b"), "no set")
    with pytest.raises(ResponseError):
        store.tools.calls.drop(call.id)
    line.calling._door.forget(call)
    line.calling._door.cancel()
    line.calling.close()


def test_ended_attempt_makes_no_call(store: Store, desk: ToolDesk, broker: SimpleNamespace) -> None:
    line = Line(store, desk)
    assert store.records.requeue(line.id, 1)
    line.call(1, "read")
    assert line.answer() == (1, "tool_cancelled")
    assert store.records.get(line.id, None).state == State.QUEUED
    assert not store.records.has_called(line.id)
    line.calling.close()


def test_search_is_answered_from_the_catalogues_without_a_broker(
    store: Store, settings: Settings, desk: ToolDesk
) -> None:
    store.tools.catalogues.put("t", catalogue("read", "write"))
    line = Line(store, desk, "files.read")
    line.call(1, "search_tools", "mayfly", query="", detail="names")
    assert line.answer() == (1, []), "no declaration lets programs call destructive tools"
    granted = specification().model_copy(update={"tenant": "t", "tools": ("files.read",)})
    assert "files/read.py" not in desk.files(granted)
    bold = ToolServer(name="files", url="http://127.0.0.1:1/mcp", destructive=True)
    store.tools.servers.put("t", bold, settings.secret())
    line.call(2, "search_tools", "mayfly", query="", detail="names")
    assert line.answer() == (2, ["files.read"])
    assert "files/read.py" in desk.files(granted)
    line.call(3, "other", "mayfly")
    assert line.answer() == (3, "tool_unknown")
    assert line.attempt.may_repeat
    line.calling.close()


def test_searches_of_an_attempt_take_a_bounded_cpu_time(
    store: Store, desk: ToolDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authors of tool servers and the program choose the cost of a search, which no cgroup counts."""
    store.tools.catalogues.put("t", catalogue("read"))
    monkeypatch.setattr(cost, "MOST_SECONDS", 1e-9)
    line = Line(store, desk, "files.read")
    for number, expected in ((1, []), (2, "tool_denied"), (3, "tool_denied")):
        line.call(number, "search_tools", "mayfly", query="", detail="names")
        assert line.answer() == (number, expected)
    line.calling.close()


def test_an_execution_without_tools_has_neither_line_nor_files(store: Store, desk: ToolDesk) -> None:
    claim = claimed(store, submit(store))
    assert desk.line(claim, specification(), Attempt(), lambda data, seconds: None, Incidents()) is None
    assert desk.files(specification()) == {}
    assert desk.wait_seconds(specification()) is None
