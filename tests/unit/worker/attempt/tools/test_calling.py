"""The worker's end of a program's line: what an agent may send, and what becomes of calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import FrameError, RuntimeUnavailable, StaleAttempt, StoreFull, StoreUnavailable
from orchestrator.models.tools import ToolCall, ToolFailure, ToolOutcome
from orchestrator.settings import Settings
from tests.builders.tools.tool_line import BOUNDS, CLAIM
from tests.harness import eventually
from worker.agent.call_stream import LENGTHS
from worker.agent.frames import HEADER, Frame, FromAgent, ToAgent
from worker.agent.requests import CALL_WINDOW_BYTES
from worker.attempt.feeding import WINDOW_BYTES
from worker.attempt.incidents import Incidents
from worker.attempt.tools.calling import Calling
from worker.attempt.tools.ledger import Bounds


def test_bounds_are_the_settings() -> None:
    settings = Settings(
        tool_calls=1, tool_calls_at_once=2, tool_request_bytes=2048, tool_response_bytes=4096, tool_bytes=8192,
        tool_seconds=6.5,
    )  # fmt: skip
    assert Bounds.of(settings) == (1, 2, 2048, 4096, 8192, 6.5)


class Door:
    """Keeps calls until the test answers them; ``error`` is raised instead."""

    reply_to = "test"

    def __init__(self) -> None:
        self.calls: list[tuple[ToolCall, Callable[[ToolOutcome], None]]] = []
        self.error: Exception | None = None
        self.forgotten: list[ToolCall] = []
        self.cancelled = 0

    def submit(self, call: ToolCall, on_outcome: Callable[[ToolOutcome], None]) -> None:
        if self.error:
            raise self.error
        self.calls.append((call, on_outcome))

    def built_in(self, tool: str, arguments: str) -> ToolOutcome:
        return ToolOutcome(result=arguments)

    def forget(self, call: ToolCall) -> None:
        self.forgotten.append(call)

    def cancel(self) -> None:
        self.cancelled += 1


def call_of(seq: int, tool: str = "t", body: bytes = b"{}", server: str = "s") -> bytes:
    """A call as a program writes it."""
    header = json.dumps({"seq": seq, "server": server, "tool": tool}).encode()
    return LENGTHS.pack(len(header), len(body)) + header + body


class Line:
    """A line whose agent is the test; ``takes``: the program takes every answer at once."""

    def __init__(self, bounds: Bounds = BOUNDS, takes: bool = True, keeps_arguments: bool = False) -> None:
        self.door, self.incidents = Door(), Incidents()
        self.room, self.answered, self.broken = CALL_WINDOW_BYTES, bytearray(), False
        self.takes = takes
        self.calling = Calling(CLAIM, "tenant", bounds, self.door, self._send, self.incidents, keeps_arguments)

    def _send(self, data: bytes, timeout_seconds: float) -> None:
        if self.broken:
            raise RuntimeUnavailable("The sandbox has ended.")
        code, length = HEADER.unpack_from(data)
        payload = data[HEADER.size :]
        assert len(payload) == length
        if code == ToAgent.CALL_ROOM.value:
            self.room = json.loads(payload)["bytes"]
            return
        assert code == ToAgent.ANSWER_DATA.value
        self.answered += payload
        if self.takes:
            self.take(len(self.answered))

    def take(self, total: Any) -> None:
        self.calling.receive(Frame(FromAgent.ANSWER_TAKEN, json.dumps({"bytes": total}).encode()))

    def write(self, data: bytes) -> None:
        self.calling.receive(Frame(FromAgent.CALL_DATA, data))

    def call(self, seq: int, tool: str = "t", body: bytes = b"{}", server: str = "s") -> None:
        self.write(call_of(seq, tool, body, server))

    def submitted(self, count: int) -> list[tuple[ToolCall, Callable[[ToolOutcome], None]]]:
        return eventually(lambda: len(self.door.calls) >= count and self.door.calls, f"{count} calls are submitted")

    def answers(self, count: int) -> list[tuple[int, Any]]:
        """The first answers: the number of each call, and its result or the code of its failure."""

        def found() -> list[tuple[int, Any]] | None:
            rest, all_answers = bytes(self.answered), []
            while len(rest) >= LENGTHS.size:
                head, body = LENGTHS.unpack_from(rest)
                if len(rest) < 8 + head + body:
                    break
                header, value = json.loads(rest[8 : 8 + head]), json.loads(rest[8 + head : 8 + head + body])
                all_answers.append((header["seq"], value if header["ok"] else value["code"]))
                rest = rest[8 + head + body :]
            return all_answers if len(all_answers) >= count else None

        return eventually(found, f"{count} answers")


RESULT = ToolOutcome(result='"done"')


def test_calls_are_submitted_as_the_attempts_own() -> None:
    line = Line()
    line.call(1, body=b'{"x": "\xc3\xa9"}')
    [(call, on_outcome)] = line.submitted(1)
    assert (call.tenant, call.execution, call.attempt) == ("tenant", CLAIM.id, CLAIM.attempt)
    assert (call.server, call.tool, call.arguments, call.reply_to) == ("s", "t", '{"x": "é"}', "test")
    assert len(bytes.fromhex(call.id)) == 16
    on_outcome(RESULT)
    assert line.answers(1) == [(1, "done")]
    line.calling.close()


@pytest.mark.parametrize("keeps", [True, False])
def test_arguments_are_on_the_record_only_where_the_tenant_wants_them(keeps: bool) -> None:
    line = Line(keeps_arguments=keeps)
    for seq, body in enumerate((b'{"x": 1}', b'"%s"' % (b"x" * 4096), b"\xff", b"x" * (BOUNDS.request_bytes + 1))):
        header = json.dumps({"seq": seq, "server": "s", "tool": "t"}).encode()
        message = LENGTHS.pack(len(header), len(body)) + header + body
        while message:
            room = eventually(lambda: line.room - line.calling._received_bytes, "there is room")
            line.write(message[:room])
            message = message[room:]
    for _, on_outcome in line.submitted(2):
        on_outcome(RESULT)
    answers = dict(line.answers(4))
    assert (answers[2], answers[3]) == ("tool_arguments_invalid", "tool_bytes_exceeded")
    kept = [record.arguments for record in line.calling.records()]
    assert kept == (['{"x": 1}', None, "\ufffd", None] if keeps else [None] * 4)
    line.calling.close()


def test_a_second_outcome_changes_nothing() -> None:
    line = Line()
    line.call(1)
    line.call(2)
    calls = line.submitted(2)
    for outcome in (RESULT, ToolOutcome(result='"again"'), ToolOutcome(failure=ToolFailure(code="x", message=""))):
        calls[0][1](outcome)
    calls[1][1](RESULT)
    assert line.answers(2) == [(1, "done"), (2, "done")]
    line.calling.close()


def test_outcomes_of_unknown_calls_are_ignored() -> None:
    line = Line()
    line.call(1)
    [(_, on_outcome)] = line.submitted(1)
    line.calling._events.put(("another execution's call", RESULT))
    on_outcome(RESULT)
    assert line.answers(1) == [(1, "done")]
    line.calling.close()


def test_a_number_may_be_used_again_once_its_call_is_answered() -> None:
    line = Line()
    for place in range(3):
        line.call(1)
        line.submitted(place + 1)[place][1](RESULT)
        line.answers(place + 1)
    line.calling.close()
    assert [record.outcome for record in line.calling.records()] == ["ok"] * 3


def test_no_more_calls_are_open_at_once_than_allowed() -> None:
    line = Line(BOUNDS._replace(at_once=2))
    for seq in range(5):
        line.call(seq)
    calls = line.submitted(2)
    line.calling._events.put(("tick", None))
    time.sleep(0.05)  # a third would be submitted meanwhile
    assert len(line.door.calls) == 2
    calls[0][1](RESULT)
    line.submitted(3)[1][1](RESULT)
    line.submitted(4)
    assert line.answers(2) == [(0, "done"), (1, "done")]
    line.calling.close()


def test_bytes_beyond_the_granted_window_break_the_rules() -> None:
    line = Line(BOUNDS._replace(at_once=1))
    line.call(1)
    line.submitted(1)
    sent = line.calling._received_bytes
    line.write(b"x" * (line.room - sent))
    with pytest.raises(FrameError, match="beyond"):
        line.write(b"x")
    line.calling.close()


@pytest.mark.parametrize("taken", [0, -1, None, True, 1.5, 10**9, "1"])
def test_acknowledgement_of_unsent_bytes_breaks_the_rules(taken: object) -> None:
    line = Line(takes=False)
    line.call(1)
    line.submitted(1)[0][1](RESULT)
    line.answers(1)
    with pytest.raises(FrameError):
        line.take(taken)
    line.take(len(line.answered))
    with pytest.raises(FrameError):  # the same again
        line.take(len(line.answered))
    line.calling.close()


def test_answers_wait_until_the_program_takes_them() -> None:
    line = Line(takes=False)
    line.call(1)
    line.submitted(1)[0][1](ToolOutcome(result=json.dumps("x" * 10 * WINDOW_BYTES)))
    eventually(lambda: len(line.answered) == WINDOW_BYTES, "the window is full")
    line.take(1000)
    eventually(lambda: len(line.answered) == WINDOW_BYTES + 1000, "taken bytes are replaced")
    line.calling.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StaleAttempt(), "tool_cancelled"),
        (StoreFull("full"), "tool_unavailable"),
        (StoreUnavailable("away"), "tool_outcome_unknown"),
        (ValueError("no JSON"), "tool_arguments_invalid"),
    ],
)
def test_a_call_that_cannot_be_submitted_fails_and_the_next_is_made(error: Exception, code: str) -> None:
    line = Line()
    line.door.error = error
    line.call(1)
    assert line.answers(1) == [(1, code)]
    line.door.error = None
    line.call(2)
    line.submitted(1)[0][1](RESULT)
    assert line.answers(2)[1] == (2, "done")
    line.calling.close()
    assert [record.outcome for record in line.calling.records()] == [code, "ok"]


def test_arguments_that_are_no_text_fail_alone() -> None:
    line = Line()
    line.call(1, body=b"\xff")
    line.call(2)
    line.submitted(1)[0][1](RESULT)
    assert line.answers(2) == [(1, "tool_arguments_invalid"), (2, "done")]
    line.calling.close()


@pytest.mark.parametrize(("code", "reported"), [("tool_unknown", 1), ("tool_denied", 1), ("tool_failed", 0)])
def test_forbidden_calls_are_security_events(code: str, reported: int) -> None:
    line = Line()
    for seq in range(3):
        line.call(seq)
        line.submitted(seq + 1)[seq][1](ToolOutcome(failure=ToolFailure(code=code, message="no")))
    line.answers(3)
    events = line.incidents.take()
    assert [(event.kind, event.attribution) for event in events] == [("tool_denied", "host")] * reported
    line.calling.close()


def test_arguments_of_all_calls_have_a_bound() -> None:
    """Also where results are small."""
    line = Line(BOUNDS._replace(all_bytes=1000))
    large = b'"%s"' % (b"x" * 600)
    for seq, body in enumerate((large, b"{}", large, b"{}")):
        line.call(seq, body=body)
    for _, on_outcome in line.submitted(2):
        on_outcome(ToolOutcome(result="0"))
    answers = dict(line.answers(4))
    assert (answers[2], answers[3]) == ("tool_bytes_exceeded", "tool_bytes_exceeded")
    assert len(line.door.calls) == 2
    line.calling.close()


def test_the_time_of_waiting_is_that_of_open_calls() -> None:
    line = Line()
    assert line.calling.waited_seconds(time.monotonic()) == (0.0, False)
    line.call(1)
    line.call(2)
    calls = line.submitted(2)
    now = time.monotonic()
    assert line.calling.waited_seconds(now)[1]
    assert line.calling.waited_seconds(now + 5)[0] >= 5
    for _, on_outcome in calls:
        on_outcome(RESULT)
    line.answers(2)
    seconds, waits = line.calling.waited_seconds(now + 100)
    assert not waits
    assert 0 < seconds < 100
    line.calling.close()


@pytest.mark.parametrize("ends", ["closed", "broken"])
def test_the_end_cancels_open_calls_once(ends: str) -> None:
    line = Line()
    line.call(1)
    line.call(2)
    calls = line.submitted(2)
    calls[0][1](RESULT)
    line.answers(1)
    if ends == "broken":
        line.broken = True
        line.call(3)
        line.submitted(3)[2][1](RESULT)
        eventually(lambda: line.door.cancelled, "the line has ended")
    line.calling.close()
    eventually(lambda: line.door.cancelled, "the calls are cancelled")
    assert line.door.forgotten == [calls[1][0]]
    assert [record.outcome for record in line.calling.records()][:2] == ["ok", "tool_cancelled"]
    assert not line.calling.waited_seconds(time.monotonic())[1]
    line.calling.close()


def test_a_program_without_calls_costs_no_thread_and_no_cancellation() -> None:
    line = Line()
    line.calling.close()
    assert line.calling._thread is None
    assert line.door.cancelled == 0


@pytest.mark.parametrize("together", [1, 600])
def test_a_flood_of_calls_is_answered_up_to_a_number_and_then_not_read(together: int) -> None:
    """Also when many calls arrive in one frame."""
    line = Line(BOUNDS._replace(calls=2, at_once=8))
    sent = 0

    def flood() -> bool:
        nonlocal sent
        while line.room - line.calling._received_bytes > 100 * together:
            line.write(b"".join(call_of(sent + n, server="mayfly", tool="t") for n in range(together)))
            sent += together
        return not line.calling._readable

    eventually(flood, "the line is no longer read")
    assert line.calling._ledger.count == 2 + 1000 + 1
    answers = line.answers(1003)
    assert [code for _, code in answers[:3]] == [{}, {}, "tool_calls_exceeded"]
    assert len(line.calling.records()) == 2
    line.calling.close()
